/* dsopt/backend.h - what a backend (the CPU inside libdsopt.so, the plugin libdsopt_cuda.so) gives the core.
 *
 * Stable within one DSOPT_BACKEND_ABI number. Plain C data only: no C++ type, exception, allocator or RTTI
 * crosses this boundary. Tables and structs only grow at the end; struct_size says how far to read.
 *
 * The unit of exchange is the *block*: one residual branch of a transformer (x += attention(norm(x))).
 * A model is a short list of blocks, recorded once per session into a program; a batch is a set of rows
 * pushed through it. Everything between two residual additions (layout and type of intermediates, fusion,
 * tiling, launch order, graph capture, one persistent kernel for the whole list) belongs to the backend.
 *
 * Errors: every dsopt_status < 0 is preceded by host->set_error(context, "one line").
 * Threads: [serial per object] unless tagged [any]. Nothing here may block on a device except the calls
 * tagged [blocks].
 */
#ifndef DSOPT_BACKEND_H_
#define DSOPT_BACKEND_H_

#include "dsopt/dsopt.h"
#include "dsopt/ops.h"

#define DSOPT_BACKEND_ABI 1

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dsopt_be_device dsopt_be_device;   /* an opened device; backend-owned */
typedef struct dsopt_be_weight dsopt_be_weight;   /* one packed tensor, immutable once written */
typedef struct dsopt_be_program dsopt_be_program; /* blocks + KV cache + workspace of one session */

/* What the core offers a backend. Every runtime of the process has its own: it arrives with each device_open
 * (options->host) and is valid until that device is closed. A backend keeps it in the device, never in a global:
 * the runtime that called the entry first may be gone. */
typedef struct dsopt_host_api {
  uint32_t struct_size;
  uint32_t core_abi;
  void* context;
  const dsopt_allocator* allocator; /* never NULL; all host memory comes from here */
  void (*log)(void* context, dsopt_log_level level, const char* component, const char* message);
  void (*set_error)(void* context, const char* message); /* thread-local text for dsopt_last_error() */
} dsopt_host_api;

typedef struct dsopt_device_options {
  uint32_t struct_size;
  uint32_t threads;        /* CPU: compute threads including the caller; 0: physical cores */
  const char* variant;     /* NULL: best. CPU: those of dsopt_runtime_options.cpu_variant */
  uint64_t max_bytes;      /* cap on device memory of weights + programs; 0: none */
  const dsopt_host_api* host; /* of the runtime that opens; never NULL; outlives the device */
} dsopt_device_options;

/* ---- weights ---------------------------------------------------------------------------------- */

/* How a tensor is used, which decides how it is packed. Logical layout is always row-major
 * [batch, rows, cols], as in the checkpoint; y = x W^T maps cols inputs to rows outputs. */
typedef enum dsopt_weight_kind {
  DSOPT_WEIGHT_MATRIX = 1,     /* batch 1, or one matrix per head (MLA value up-projection) */
  DSOPT_WEIGHT_GATE_UP = 2,    /* rows [0, inner) gate, [inner, 2 inner) up; batch = experts or 1 */
  DSOPT_WEIGHT_EMBEDDING = 3,  /* rows gathered by token id; when tied it also serves as the head matrix */
  DSOPT_WEIGHT_VECTOR = 4,     /* rows 1: norm gain or bias */
  DSOPT_WEIGHT_TRANSPOSED = 5, /* [heads, nope, latent], applied as y[latent] = x[nope] W (MLA keys) */
  DSOPT_WEIGHT_EXPERTS = 6,    /* [experts, rows, cols]: down projections of a mixture */
  DSOPT_WEIGHT_ROUTER = 7,     /* [experts, hidden]; products are accumulated in f32 in every precision */
  DSOPT_WEIGHT_KIND_FORCE32 = 0x7fffffff
} dsopt_weight_kind;

/* How the values of a weight are written as fewer bits. Encoded kinds: MATRIX of batch 1, GATE_UP, EXPERTS and
 * EMBEDDING; all others are PLAIN. weight_bytes and weight_create say DSOPT_E_UNSUPPORTED, naming encoding and kind,
 * for what a backend cannot take. */
typedef enum dsopt_encoding {
  DSOPT_ENCODING_PLAIN = 0,      /* elements are desc.dtype */
  DSOPT_ENCODING_LOSSLESS12 = 1, /* dtype BF16, written as BF16. The backend keeps about 12 bits of a weight where
                                    that is smaller, and multiplies with the identical bf16 values */
  DSOPT_ENCODING_INT8 = 2,       /* dtype I8, codes -127 .. 127; value = code * scale + offset */
  DSOPT_ENCODING_FP8 = 3,        /* dtype F8_E4M3 (finite: 448 is the largest, no infinity); value = code * scale */
  DSOPT_ENCODING_INT4 = 4,       /* dtype U8, codes 0 .. 15, two in a byte, the even column in the low half;
                                    cols even; value = (code - 8) * scale + offset */
  DSOPT_ENCODING_FORCE32 = 0x7fffffff
} dsopt_encoding;

typedef struct dsopt_weight_desc {
  uint32_t struct_size;
  dsopt_weight_kind kind;
  dsopt_dtype dtype;       /* PLAIN: F32, F16 or BF16, of the written data; VECTOR and ROUTER may be kept as f32 */
  uint32_t tied;           /* EMBEDDING only: 1 when a HEAD block uses it too */
  uint64_t batch, rows, cols;
  const char* name;        /* for messages; copied */
  dsopt_encoding encoding;
  /* INT8, FP8, INT4: one scale per group_rows x group_cols elements; 0: 1 row, all columns. The last group of a
   * side may be smaller. INT8: 1 row, any multiple of 16 columns; FP8: 1 row and all columns, or 128 x 128;
   * INT4: 1 row, 32, 64 or 128 columns. */
  uint32_t group_rows, group_cols;
  uint32_t has_offset;     /* INT8, INT4: 1 when offsets are written, too */
  dsopt_dtype scale_dtype; /* F16: every scale and offset is exact in it, so a backend may keep them so; else F32 */
  uint32_t reserved;       /* 0 */
} dsopt_weight_desc;

/* ---- blocks ----------------------------------------------------------------------------------- */

typedef enum dsopt_block_kind {
  DSOPT_BLOCK_EMBED = 1, DSOPT_BLOCK_ATTENTION = 2, DSOPT_BLOCK_MLA = 3, DSOPT_BLOCK_MLP = 4,
  DSOPT_BLOCK_MOE = 5, DSOPT_BLOCK_HEAD = 6, DSOPT_BLOCK_FORCE32 = 0x7fffffff
} dsopt_block_kind;

/* x = table[token] * scale */
typedef struct dsopt_embed_block {
  const dsopt_be_weight* table; /* EMBEDDING [vocab, hidden] */
  float scale;                  /* 0: 1 */
  uint32_t reserved;
} dsopt_embed_block;

/* x += o(attention(rope(qkv(rmsnorm(x))))) ; appends k and v to the cache first.
 * Causal: a row at position p sees keys max(0, p - window + 1) .. p (window 0: all). */
typedef struct dsopt_attention_block {
  const dsopt_be_weight* norm;     /* VECTOR [hidden] */
  const dsopt_be_weight* qkv;      /* MATRIX [(q_heads + 2 kv_heads) head_dim, hidden]; q rows, k rows, v rows */
  const dsopt_be_weight* qkv_bias; /* VECTOR or NULL */
  const dsopt_be_weight* out;      /* MATRIX [hidden, q_heads head_dim] */
  const dsopt_be_weight* out_bias; /* VECTOR or NULL */
  uint32_t q_heads, kv_heads, head_dim, window;
  uint32_t rope;                   /* index into program_desc.ropes */
  float scale;                     /* of the scores; 0: 1/sqrt(head_dim) */
  float norm_eps;
  uint32_t reserved;
  uint64_t cache_offset;           /* of this layer inside a page, in bytes: see program_desc */
} dsopt_attention_block;

/* Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
 *   h = rmsnorm(x);  a = h down^T
 *   q = q_rank ? rmsnorm(a[0:q_rank]) q_up^T : a[0:heads (nope+rope)]        per head: nope | rope parts
 *   c = rmsnorm(a[q_part : +latent]);  k_pe = rope(last rope columns of a)
 *   cache[pos] = c | k_pe                    (latent + rope values: nothing per head is stored)
 *   score = (q_nope k_up) . c + rope(q_pe) . k_pe;   out_h = v_up (sum_p softmax_p c_p)
 *   x += out(concat_h out_h) */
typedef struct dsopt_mla_block {
  const dsopt_be_weight* norm;      /* VECTOR [hidden] */
  const dsopt_be_weight* down;      /* MATRIX [(q_rank ? q_rank : heads (nope+rope)) + latent + rope, hidden] */
  const dsopt_be_weight* down_bias; /* VECTOR or NULL */
  const dsopt_be_weight* q_norm;    /* VECTOR [q_rank]; NULL when q_rank == 0 */
  const dsopt_be_weight* q_up;      /* MATRIX [heads (nope+rope), q_rank]; NULL when q_rank == 0 */
  const dsopt_be_weight* latent_norm; /* VECTOR [latent] */
  const dsopt_be_weight* k_up;      /* TRANSPOSED [heads, nope, latent] */
  const dsopt_be_weight* v_up;      /* MATRIX batch heads [heads, v, latent] */
  const dsopt_be_weight* out;       /* MATRIX [hidden, heads v] */
  const dsopt_be_weight* out_bias;  /* VECTOR or NULL */
  uint32_t heads, q_rank, latent, nope, rope_dim, v_dim;
  uint32_t rope;                    /* index into program_desc.ropes */
  float scale;                      /* of the scores; never 0 */
  float norm_eps;                   /* of norm */
  float latent_eps;                 /* of q_norm and latent_norm */
  uint64_t cache_offset;
} dsopt_mla_block;

/* x += down(act(gate(h)) * up(h)), h = rmsnorm(x) */
typedef struct dsopt_mlp_block {
  const dsopt_be_weight* norm;         /* VECTOR [hidden] */
  const dsopt_be_weight* gate_up;      /* GATE_UP [2 inner, hidden] */
  const dsopt_be_weight* gate_up_bias; /* VECTOR [2 inner] or NULL */
  const dsopt_be_weight* down;         /* MATRIX [hidden, inner] */
  const dsopt_be_weight* down_bias;    /* VECTOR [hidden] or NULL */
  uint32_t inner;
  dsopt_activation activation;
  float norm_eps;
  uint32_t reserved;
} dsopt_mlp_block;

/* x += sum_k weight_k expert_{id_k}(h) + shared(h), h = rmsnorm(x).
 *   p = softmax(h router^T) over all experts, f32
 *   groups > 1: only experts of the top_groups groups with the largest maximum of p may be chosen
 *   the top_k largest p win (ties: the lower id); renormalise: divide by their sum; then multiply by scale */
typedef struct dsopt_moe_block {
  const dsopt_be_weight* norm;           /* VECTOR [hidden] */
  const dsopt_be_weight* router;         /* ROUTER [experts, hidden] */
  const dsopt_be_weight* gate_up;        /* GATE_UP [experts, 2 inner, hidden] */
  const dsopt_be_weight* down;           /* EXPERTS [experts, hidden, inner] */
  const dsopt_be_weight* shared_gate_up; /* GATE_UP [2 shared_inner, hidden] or NULL */
  const dsopt_be_weight* shared_down;    /* MATRIX [hidden, shared_inner] or NULL */
  uint32_t experts, top_k, inner, shared_inner, groups, top_groups, renormalise;
  dsopt_activation activation;
  float route_scale;
  float norm_eps;
} dsopt_moe_block;

/* logits = rmsnorm(x[logit rows]) weight^T; then sampling or scoring, see dsopt_sample_row */
typedef struct dsopt_head_block {
  const dsopt_be_weight* norm;   /* VECTOR [hidden] */
  const dsopt_be_weight* weight; /* MATRIX [vocab, hidden], or the tied EMBEDDING */
  float norm_eps;
  uint32_t reserved;
} dsopt_head_block;

typedef struct dsopt_block {
  dsopt_block_kind kind;
  uint32_t layer; /* for messages and traces */
  union {
    dsopt_embed_block embed;
    dsopt_attention_block attention;
    dsopt_mla_block mla;
    dsopt_mlp_block mlp;
    dsopt_moe_block moe;
    dsopt_head_block head;
  } u;
} dsopt_block;

/* Rotary embedding: angle = (float)position * inv_freq[i]; cos and sin are multiplied by `scale`.
 * interleaved 0: pairs (i, i + dim/2); 1: pairs (2i, 2i + 1). Rotates the first dim values of a head. */
typedef struct dsopt_rope {
  uint32_t dim;
  uint32_t interleaved;
  float scale;
  uint32_t reserved;
  const float* inv_freq; /* [dim / 2], host */
} dsopt_rope;

/* ---- program ---------------------------------------------------------------------------------- */

/* KV cache: pages of page_tokens positions; page p starts at cache_base + p * page_bytes. Inside a page an
 * ATTENTION layer holds, from its cache_offset, K [kv_heads, page_tokens, head_dim] then V of the same shape;
 * an MLA layer holds [page_tokens, latent + rope_dim]. All in kv_dtype, keys after rope. One page therefore
 * carries all layers of its positions: copying, saving or moving a span of context is one copy per page.
 * Pages in host memory (host_pages) have the same numbers and contents; where they lie is the backend's to know.
 *
 * kv_dtype F8_E4M3, I8 and I4 keep vectors as codes. A vector is what one position has of one head: of K, of V; an
 * MLA position has two, the latent part and the rope part. It is cut into groups (F8_E4M3, I8: one group; I4: 32
 * values, the last may have fewer), and a group has one word of 32 bits. A layer holds the codes of everything above
 * in the same order, then the words of everything in the same order: K [kv_heads, page_tokens, groups], V alike; MLA
 * [page_tokens, groups of the latent + groups of the rope part].
 *   F8_E4M3  a byte each, 448 the largest; word: f32 scale, largest magnitude / 448; value = code * scale
 *   I8       a byte each, -127 .. 127;     word: f32 scale, largest magnitude / 127; value = code * scale
 *   I4       codes 0 .. 15, two in a byte, the even one in the low half; word: f16 scale in the low half, f16 lowest
 *            value in the high half; value = lowest + code * scale. head_dim, latent and rope_dim are even.
 * Codes are those nearest to the value. A group without a value of at least 1e-30 is all zeros; one with a value that
 * is not finite has a scale that is NaN. */
typedef struct dsopt_program_desc {
  uint32_t struct_size;
  uint32_t precision;          /* dsopt_precision */
  const dsopt_block* blocks;   /* EMBED first, HEAD last; copied */
  uint32_t block_count;
  uint32_t rope_count;
  const dsopt_rope* ropes;     /* copied */
  uint32_t hidden, vocab;
  uint32_t max_rows;           /* of one batch */
  uint32_t max_seqs;           /* of one batch */
  uint32_t max_logit_rows;     /* of one batch */
  uint32_t max_pages_per_seq;
  uint32_t page_tokens;        /* 64 */
  uint32_t page_count;
  uint64_t page_bytes;         /* sum over layers, a multiple of 256 */
  dsopt_dtype kv_dtype;        /* F32 or BF16, and F8_E4M3, I8, I4 where a backend can; else DSOPT_E_UNSUPPORTED */
  uint32_t max_adjust;         /* entries of batch.adjust_* */
  uint32_t max_history;        /* entries of batch.history_* */
  uint32_t slice_us;           /* longest device work submitted at once; 0: no limit. CPU ignores it */
  void* native_stream;         /* CUstream to run on; NULL: the backend makes one */
  uint32_t host_pages;         /* the last so many pages lie in pinned host memory, where the device reads and writes
                                  them in place; 0: none. DSOPT_E_UNSUPPORTED of a backend that has only one memory */
  uint32_t flags;              /* DSOPT_PROGRAM_... */
} dsopt_program_desc;

/* Every batch is launched piece by piece, none as one graph that was made of an earlier one: for comparison. */
#define DSOPT_PROGRAM_NO_REPLAY 1u
/* One kernel for all layers wherever it works, even where kernels one by one are faster: for tests. */
#define DSOPT_PROGRAM_FUSE_LAYERS 2u

/* What a driver keeps for itself (streams, events, graphs of batches that come again) is in none of these. */
typedef struct dsopt_program_memory {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t cache_bytes;        /* (page_count - host_pages) * page_bytes, on the device */
  uint64_t workspace_bytes;    /* on the device */
  uint64_t host_bytes;         /* of tables and staging */
  uint64_t host_cache_bytes;   /* host_pages * page_bytes; 0 from a backend that does not know host_pages, which then
                                  keeps none */
} dsopt_program_memory;

#define DSOPT_MAX_TOP_LOGPROBS 20

/* What to do with one row of logits.
 *   SCORE   : no sampling; logprob of `target`.
 *   SAMPLE  : in this order, on a copy of the logits l:
 *     1 bans and biases: l[t] += bias (bias -inf bans)
 *     2 history (each distinct token of the penalty window with its count c):
 *         l[t] = l[t] > 0 ? l[t] / repeat : l[t] * repeat;  l[t] -= c * frequency + presence
 *     3 temperature 0: argmax (lowest id wins a tie). Otherwise l /= temperature, then keep only
 *     4 top_k: the k largest   5 top_n_sigma: l >= max - n * stddev(l over all finite)
 *     6 typical_p: smallest set by |-log p - entropy| with mass >= typical_p
 *     7 top_p: smallest set of the most probable with mass >= top_p   8 min_p: p >= min_p * max p
 *     9 draw with u = Philox4x32-10(key = seed, counter = counter)[0] / 2^32, walking ids in descending
 *       probability (ties: ascending id); at least one token always survives.
 *   Off values: top_k 0, top_p 0 or >= 1, min_p 0, typical_p 0 or >= 1, top_n_sigma 0, repeat 0 or 1.
 * logprob and top_logprobs always refer to log softmax of the unmodified logits. */
typedef enum dsopt_sample_mode {
  DSOPT_SAMPLE = 0, DSOPT_SCORE = 1, DSOPT_SAMPLE_MODE_FORCE32 = 0x7fffffff
} dsopt_sample_mode;

typedef struct dsopt_sample_row {
  int32_t row;                 /* of the batch; its logits are wanted */
  dsopt_sample_mode mode;
  int32_t target;              /* SCORE */
  uint32_t top_logprobs;       /* 0 .. DSOPT_MAX_TOP_LOGPROBS */
  float temperature, top_p, min_p, typical_p, top_n_sigma;
  uint32_t top_k;
  float repeat_penalty, presence_penalty, frequency_penalty;
  uint32_t adjust_first, adjust_count;   /* range of batch.adjust_* */
  uint32_t history_first, history_count; /* range of batch.history_* */
  uint32_t reserved;
  uint64_t seed, counter;
} dsopt_sample_row;

/* One step. Rows of one sequence are contiguous with ascending consecutive positions, and seqs appear in
 * ascending order of row. All arrays are host memory and are copied by program_begin. */
typedef struct dsopt_batch {
  uint32_t struct_size;
  uint32_t rows, seqs, logit_rows;
  const int32_t* tokens;         /* [rows] */
  const int32_t* positions;      /* [rows] */
  const int32_t* row_seq;        /* [rows] 0 .. seqs-1 */
  const int32_t* page_table;     /* [seqs, page_table_stride]; -1 past the end */
  uint32_t page_table_stride;
  uint32_t adjust_count, history_count;
  uint32_t reserved;
  const dsopt_sample_row* sample; /* [logit_rows], ascending row */
  const int32_t* adjust_tokens;   /* [adjust_count] */
  const float* adjust_bias;       /* [adjust_count] */
  const int32_t* history_tokens;  /* [history_count] */
  const uint32_t* history_counts; /* [history_count] */
} dsopt_batch;

/* Valid until the next program_begin. Index: position in batch.sample. */
typedef struct dsopt_batch_result {
  uint32_t struct_size;
  uint32_t logit_rows;
  const int32_t* tokens;         /* [logit_rows]; SCORE: the target */
  const float* logprobs;         /* [logit_rows] */
  const int32_t* top_tokens;     /* [logit_rows, DSOPT_MAX_TOP_LOGPROBS], descending */
  const float* top_logprobs;     /* [logit_rows, DSOPT_MAX_TOP_LOGPROBS] */
  uint64_t device_ns;            /* time the batch occupied the device, as far as it is known */
  uint32_t replayed;             /* 1: it was launched as one graph, made of an earlier batch like it */
  uint32_t reserved;
} dsopt_batch_result;

/* ---- the table -------------------------------------------------------------------------------- */

typedef struct dsopt_backend_api {
  uint32_t struct_size;
  uint32_t abi;                  /* negotiated DSOPT_BACKEND_ABI */
  const char* name;              /* "cpu", "cuda" */
  const char* build_id;          /* shown in errors and logs */

  uint32_t (*device_count)(void);                                              /* [any] */
  dsopt_status (*device_info)(uint32_t index, dsopt_device_info* info);        /* [any] */
  dsopt_status (*device_open)(uint32_t index, const dsopt_device_options* options, dsopt_be_device** out);
  void (*device_close)(dsopt_be_device* device); /* after all its weights and programs; NULL is ignored */
  /* One line of text per kernel family: which variant was chosen and why. Lives as long as the device. */
  const char* (*device_report)(dsopt_be_device* device);

  /* Weights. write may come in any order and size, from several threads for different weights; every
   * element is written exactly once. Returns when src may be reused. */
  dsopt_status (*weight_bytes)(dsopt_be_device* device, const dsopt_weight_desc* desc, uint64_t* bytes);
  dsopt_status (*weight_create)(dsopt_be_device* device, const dsopt_weight_desc* desc,
                                dsopt_be_weight** out);
  /* src: desc.dtype, logical row-major order. INT4: first_element and count are even, src holds count / 2 bytes. */
  dsopt_status (*weight_write)(dsopt_be_weight* weight, uint64_t first_element, uint64_t count,
                               const void* src);
  /* Element i becomes mean + stddev * n(seed, i), n a fixed pseudo-normal: for benchmarks. Encoded: about that,
   * with a deviation of stddev; scales and offsets are filled, too. */
  dsopt_status (*weight_fill)(dsopt_be_weight* weight, uint64_t seed, float mean, float stddev);
  dsopt_status (*weight_finish)(dsopt_be_device* device); /* [blocks] until all writes have landed */
  void (*weight_destroy)(dsopt_be_weight* weight);        /* NULL is ignored */

  /* Programs. plan allocates nothing. create allocates everything the program will ever need. */
  dsopt_status (*program_plan)(dsopt_be_device* device, const dsopt_program_desc* desc,
                               dsopt_program_memory* memory);
  dsopt_status (*program_create)(dsopt_be_device* device, const dsopt_program_desc* desc,
                                 dsopt_be_program** out);
  void (*program_destroy)(dsopt_be_program* program);     /* [blocks]; NULL is ignored */
  /* Starts a batch; the previous one must be finished or cancelled. */
  dsopt_status (*program_begin)(dsopt_be_program* program, const dsopt_batch* batch);
  /* Works until the batch is done (DSOPT_OK) or until about deadline_ns of CLOCK_MONOTONIC
   * (DSOPT_PENDING). A CPU backend computes here, keeps its progress and overruns by at most one unit of
   * work (100 us); a device backend submits and queries and never blocks; *wait_us is then the time after
   * which a call is worth making. < 0: the batch is dead, the program usable unless DSOPT_E_DEVICE_LOST. */
  dsopt_status (*program_advance)(dsopt_be_program* program, uint64_t deadline_ns, uint64_t* wait_us);
  dsopt_status (*program_result)(dsopt_be_program* program, dsopt_batch_result* result);
  /* Abandons the batch; cache contents of its positions are undefined. [blocks] for at most one slice. */
  dsopt_status (*program_cancel)(dsopt_be_program* program);
  /* Logits of sample entry `index` of the last finished batch, f32 [vocab]. [blocks] */
  dsopt_status (*program_read_logits)(dsopt_be_program* program, uint32_t index, float* dst);
  /* Page contents, page_bytes each; not while a batch is in flight. [blocks] */
  dsopt_status (*program_copy_page)(dsopt_be_program* program, uint32_t dst_page, uint32_t src_page);
  dsopt_status (*program_read_page)(dsopt_be_program* program, uint32_t page, void* dst);
  dsopt_status (*program_write_page)(dsopt_be_program* program, uint32_t page, const void* src);
  /* Best streaming read this device can do, bytes per second, over `bytes` of memory. [blocks] */
  dsopt_status (*measure_read)(dsopt_be_device* device, uint64_t bytes, double* bytes_per_second);

  /* From here on a slot may be NULL or lie behind struct_size: then the backend cannot do it. */

  /* Scales, and offsets where desc.has_offset (else NULL), of groups [first, first + count) of the row-major grid
   * [batch, ceil(rows / group_rows), ceil(cols / group_cols)]. Otherwise as weight_write; in any order with it. */
  dsopt_status (*weight_write_scales)(dsopt_be_weight* weight, uint64_t first_group, uint64_t count,
                                      const float* scales, const float* offsets);

  /* Operators of ops.h; all three or none (NULL, or a table that ends before): the backend then has no operators.
   * The core has checked args: every tensor struct is complete, has the core's struct_size and explicit strides.
   * op_pointer: may kernels of this device use this memory? If not, the message says what it is. */
  dsopt_status (*op_pointer)(dsopt_be_device* device, const void* memory);       /* [any] */
  dsopt_status (*op_workspace)(dsopt_be_device* device, dsopt_op op, const void* args, uint64_t* bytes,
                               const char** kernel);                             /* [any] */
  /* launch.workspace has the bytes that op_workspace asks for. */
  dsopt_status (*op_run)(dsopt_be_device* device, dsopt_op op, const void* args,
                         const dsopt_launch* launch);                            /* [any] */
} dsopt_backend_api;

/* The plugin's only export; called once per runtime. host is for the time of this call only (set_error, log):
 * devices get theirs from device_open. *abi: in, the newest the core speaks; out, what both will speak.
 * DSOPT_E_VERSION if there is none; DSOPT_E_NOT_FOUND if the machine lacks the driver. */
typedef dsopt_status (*dsopt_backend_entry_fn)(const dsopt_host_api* host, uint32_t* abi,
                                               const dsopt_backend_api** out);
#define DSOPT_BACKEND_ENTRY "dsopt_backend_entry"

#ifdef __cplusplus
}
#endif
#endif /* DSOPT_BACKEND_H_ */
