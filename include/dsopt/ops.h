/* dsopt/ops.h - the kernels without the engine: tensors and a CUDA stream in, results enqueued or computed.
 *
 * PREVIEW: this interface may still change between minor versions; dsopt.h and backend.h do not depend on that.
 *
 * For programs that have an engine of their own (graphs, batching, memory) and want attention, a mixture of
 * experts or a product of matrices. No model file, no session. The rules of dsopt.h hold: errors, struct_size,
 * zero means default.
 *
 * Memory        Every pointer belongs to the caller. On "cpu" it is host memory, and the call returns when the
 *               result is there: the calling thread computes, with the runtime's threads (cpu_threads) unless
 *               they are busy. On "cuda:N" it is memory of that device (or managed, or pinned host memory), the
 *               call only enqueues kernels on launch.stream, and operands must stay until they have run.
 * Cost          No operator allocates, waits, or uses another stream: all are legal inside CUDA graph capture.
 *               Scratch comes from the caller; dsopt_op_workspace() says how much.
 * Threads       Operators are [shared]: one dsopt_ops serves any number of threads, each call with a workspace
 *               of its own.
 * Checks        Types, shapes, strides, alignment, overlap and the kind of each pointer are checked before
 *               anything is written; a message names the operand, what was found and what was expected. Values
 *               inside index arrays are checked on "cpu"; on CUDA a value out of range gives wrong results in
 *               its row, never an access outside of the operands.
 * Overlap       An output shares no byte with another operand, except where an operator says so.
 * Types         Activations are F32 or BF16, weights F32, F16 or BF16, in any combination; any other type is
 *               DSOPT_E_UNSUPPORTED. Sums are f32. Products are f32 too, except where the activations and the
 *               weights (or keys) are BF16 and the device multiplies bf16 pairs.
 * Alignment     data: to its element on "cpu", to 16 bytes on CUDA. Shapes may be odd; the fast CUDA kernels
 *               need rows of a multiple of 16 bytes (dsopt_op_workspace() names the kernel that would run).
 */
#ifndef DSOPT_OPS_H_
#define DSOPT_OPS_H_

#include "dsopt/dsopt.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DSOPT_MAX_DIMS 5

/* A view, shapes written [outer, ..., inner]. Operands are pointers to views; NULL: this operand is absent. */
typedef struct dsopt_tensor {
  uint32_t struct_size;
  dsopt_dtype dtype;
  uint32_t ndim;
  uint32_t reserved;
  int64_t shape[DSOPT_MAX_DIMS];  /* the first ndim; all > 0 */
  int64_t stride[DSOPT_MAX_DIMS]; /* in elements; all zero: dense. The innermost is 1, none is negative, and no
                                     two elements of an output share a place */
  void* data;                     /* inputs are not written */
} dsopt_tensor;

/* Where and with what an operator runs. */
typedef struct dsopt_launch {
  uint32_t struct_size;
  uint32_t flags;                 /* 0 */
  void* stream;                   /* CUDA: a CUstream of the device, never NULL. CPU: ignored */
  void* workspace;                /* contents do not matter before or after; 256-byte aligned */
  size_t workspace_size;
} dsopt_launch;

typedef enum dsopt_op {
  DSOPT_OP_RMSNORM = 1, DSOPT_OP_LINEAR = 2, DSOPT_OP_QKV = 3, DSOPT_OP_ATTENTION = 4, DSOPT_OP_GATED_MLP = 5,
  DSOPT_OP_MOE = 6, DSOPT_OP_SAMPLE = 7, DSOPT_OP_FORCE32 = 0x7fffffff
} dsopt_op;

typedef enum dsopt_activation {
  DSOPT_ACT_NONE = 0, DSOPT_ACT_SILU = 1, DSOPT_ACT_GELU_TANH = 2, DSOPT_ACT_FORCE32 = 0x7fffffff
} dsopt_activation;

typedef struct dsopt_ops dsopt_ops;

/* device: "cpu", "cuda:0", ...; DSOPT_E_UNSUPPORTED if its backend has no operators. Holds the runtime. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_ops_create(dsopt_runtime* runtime, const char* device,
                                                   dsopt_ops** out);                    /* [any] */
DSOPT_API void DSOPT_CALL dsopt_ops_release(dsopt_ops* ops);                            /* [any] */
/* Scratch bytes of the operator for these args (a pointer to its args struct). Data pointers of tensors may still
 * be NULL, and nothing behind any pointer is read but the structs themselves. kernel may be NULL; else it receives
 * static text: what would run. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_op_workspace(const dsopt_ops* ops, dsopt_op op, const void* args,
                                                     size_t* bytes, const char** kernel); /* [shared] */

/* out = y / sqrt(mean(y^2) + eps) * weight, y = x + residual; residual = y.
 * out may be x, and residual may not. y is rounded for residual, not for out. */
typedef struct dsopt_rmsnorm_args {
  uint32_t struct_size;
  float eps;
  const dsopt_tensor* x;          /* [tokens, hidden] */
  const dsopt_tensor* residual;   /* [tokens, hidden], in and out; optional */
  const dsopt_tensor* weight;     /* [hidden] */
  const dsopt_tensor* out;        /* [tokens, hidden] */
} dsopt_rmsnorm_args;
DSOPT_API dsopt_status DSOPT_CALL dsopt_op_rmsnorm(const dsopt_ops* ops, const dsopt_rmsnorm_args* args,
                                                   const dsopt_launch* launch);         /* [shared] */

/* out = act(x weight^T + bias) */
typedef struct dsopt_linear_args {
  uint32_t struct_size;
  dsopt_activation activation;
  const dsopt_tensor* x;          /* [tokens, in] */
  const dsopt_tensor* weight;     /* [out, in], dense */
  const dsopt_tensor* bias;       /* [out]; optional */
  const dsopt_tensor* out;        /* [tokens, out] */
} dsopt_linear_args;
DSOPT_API dsopt_status DSOPT_CALL dsopt_op_linear(const dsopt_ops* ops, const dsopt_linear_args* args,
                                                  const dsopt_launch* launch);          /* [shared] */

/* h = norm ? rmsnorm(x, norm, eps) : x;  q | k | v = h weight^T + bias
 * q, k of each head: rmsnorm with q_norm, k_norm (eps), then the rotation of their first rope_dim values by
 * row positions[t] of rope: cos[rope_dim / 2], sin[rope_dim / 2].
 * k and v with 4 dimensions are the pages of a cache, [pages, kv_heads, page_tokens, head_dim], any outer
 * strides; token t goes to page token_slots[t] / page_tokens, place token_slots[t] % page_tokens; slot -1 is
 * left out. With 3 dimensions they are [tokens, kv_heads, head_dim] and token_slots is NULL. */
typedef struct dsopt_qkv_args {
  uint32_t struct_size;
  float eps;
  const dsopt_tensor* x;          /* [tokens, hidden] */
  const dsopt_tensor* norm;       /* [hidden]; optional */
  const dsopt_tensor* weight;     /* [(q_heads + 2 kv_heads) head_dim, hidden], dense: q rows, k rows, v rows */
  const dsopt_tensor* bias;       /* [(q_heads + 2 kv_heads) head_dim]; optional */
  const dsopt_tensor* q_norm;     /* [head_dim]; optional */
  const dsopt_tensor* k_norm;     /* [head_dim]; optional */
  const dsopt_tensor* rope;       /* [positions, rope_dim] F32, rope_dim even, <= head_dim; optional */
  const int32_t* positions;       /* [tokens]; with rope */
  const int32_t* token_slots;     /* [tokens]; distinct; with pages */
  const dsopt_tensor* q;          /* [tokens, q_heads, head_dim] out */
  const dsopt_tensor* k;          /* out, F32 or BF16, of v's type */
  const dsopt_tensor* v;          /* out, shape of k */
  uint32_t interleaved;           /* 0: pairs (i, i + rope_dim / 2); 1: pairs (2 i, 2 i + 1) */
  uint32_t reserved;
} dsopt_qkv_args;
DSOPT_API dsopt_status DSOPT_CALL dsopt_op_qkv(const dsopt_ops* ops, const dsopt_qkv_args* args,
                                               const dsopt_launch* launch);             /* [shared] */

#define DSOPT_ATTENTION_CAUSAL 1u

/* out = softmax(scale q k^T) v per head; query head h reads KV head h / (q_heads / kv_heads).
 * Rows q_offsets[b] .. q_offsets[b + 1] - 1 of q belong to sequence b and see keys 0 .. kv_lengths[b] - 1 of
 * it. CAUSAL: the last row sees all of them, each earlier row one less, and with a window only the last
 * `window` of those. Prompts and single new tokens may be mixed. A row that sees no key, or belongs to no
 * sequence, becomes zero. Self attention, cross attention, images: without CAUSAL, k and v of any length.
 * k and v: contiguous [batch, kv_len, kv_heads, head_dim], or with page_table the pages of a cache,
 * [pages, kv_heads, page_tokens, head_dim]: key j of sequence b is place j % page_tokens of page
 * page_table[b, j / page_tokens]. Any outer strides. kv_lengths count the tokens of this call. */
typedef struct dsopt_attention_args {
  uint32_t struct_size;
  uint32_t flags;                 /* DSOPT_ATTENTION_* */
  float scale;                    /* 0: 1 / sqrt(head_dim) */
  uint32_t window;                /* 0: none; with CAUSAL only */
  uint32_t batch;                 /* sequences */
  uint32_t max_pages;             /* of one sequence: columns of page_table */
  const dsopt_tensor* q;          /* [tokens, q_heads, head_dim] */
  const dsopt_tensor* k;          /* F32 or BF16 */
  const dsopt_tensor* v;          /* type and shape of k */
  const int32_t* q_offsets;       /* [batch + 1] ascending from 0; NULL: tokens / batch rows each */
  const int32_t* kv_lengths;      /* [batch]; NULL: kv_len, or every place of max_pages pages */
  const int32_t* page_table;      /* [batch, max_pages]; NULL: k and v are contiguous. Read as far as needed */
  const dsopt_tensor* out;        /* [tokens, q_heads, head_dim] */
} dsopt_attention_args;
DSOPT_API dsopt_status DSOPT_CALL dsopt_op_attention(const dsopt_ops* ops, const dsopt_attention_args* args,
                                                     const dsopt_launch* launch);       /* [shared] */

/* out = (act(x gate^T) * (x up^T)) down^T */
typedef struct dsopt_gated_mlp_args {
  uint32_t struct_size;
  dsopt_activation activation;    /* SILU or GELU_TANH */
  const dsopt_tensor* x;          /* [tokens, hidden] */
  const dsopt_tensor* gate_up;    /* [2 inner, hidden], dense: gate rows, then up rows */
  const dsopt_tensor* down;       /* [hidden, inner], dense */
  const dsopt_tensor* out;        /* [tokens, hidden] */
} dsopt_gated_mlp_args;
DSOPT_API dsopt_status DSOPT_CALL dsopt_op_gated_mlp(const dsopt_ops* ops, const dsopt_gated_mlp_args* args,
                                                     const dsopt_launch* launch);       /* [shared] */

/* out = sum_j expert_weights[j] mlp_{expert_ids[j]}(x) + shared(x), each a gated MLP.
 * With router: p = softmax(x router^T) over all experts; with groups only experts of the top_groups groups of
 * the largest maximum may be chosen; the top_k largest p win (ties: the lower id), divided by their sum if
 * renormalise, times route_scale. expert_ids and expert_weights are then optional outputs.
 * Without: both are inputs, and the numbers from groups to route_scale are 0. CUDA: at most 65535 tokens (of types
 * that the fast kernels do not take, 65535 pairs of token and expert) in one call. */
typedef struct dsopt_moe_args {
  uint32_t struct_size;
  dsopt_activation activation;    /* SILU or GELU_TANH */
  uint32_t top_k;                 /* experts of a token, 1 .. experts */
  uint32_t groups, top_groups;    /* 0: no groups; at most 256, a divisor of experts */
  uint32_t renormalise;           /* 0 or 1 */
  float route_scale;              /* 0: 1 */
  uint32_t reserved;
  const dsopt_tensor* x;          /* [tokens, hidden] */
  const dsopt_tensor* router;     /* [experts, hidden], dense; optional */
  const dsopt_tensor* expert_ids; /* [tokens, top_k] I32, dense */
  const dsopt_tensor* expert_weights; /* [tokens, top_k] F32, dense */
  const dsopt_tensor* gate_up;    /* [experts, 2 inner, hidden], dense; at most 1024 experts */
  const dsopt_tensor* down;       /* [experts, hidden, inner], dense */
  const dsopt_tensor* shared_gate_up; /* [2 shared_inner, hidden], dense; optional */
  const dsopt_tensor* shared_down; /* [hidden, shared_inner], dense; with shared_gate_up */
  const dsopt_tensor* out;        /* [tokens, hidden] */
} dsopt_moe_args;
DSOPT_API dsopt_status DSOPT_CALL dsopt_op_moe(const dsopt_ops* ops, const dsopt_moe_args* args,
                                               const dsopt_launch* launch);             /* [shared] */

/* One token per row of logits, as dsopt_sampling says, with two differences: penalties look at the history
 * given here (penalty_window is ignored), and seed is used as it is, 0 too. The uniform number of a row is
 * Philox4x32-10(seed, counters[row]). CUDA: at most 65535 rows in one call. */
typedef struct dsopt_sample_args {
  uint32_t struct_size;
  uint32_t params_count;          /* 1: one for all rows; else rows */
  const dsopt_tensor* logits;     /* [rows, vocab] F32 or BF16. CUDA: dense F32 rows with a history are changed for
                                     the time of the kernel */
  const dsopt_sampling* params;   /* host memory, copied by this call (into a captured graph, too) */
  const uint64_t* counters;       /* [rows]; NULL: 0, 1, 2, ... */
  const dsopt_tensor* history;    /* [rows, at most 1024] I32, dense: distinct tokens; -1: none; optional */
  const dsopt_tensor* history_counts; /* shape of history, I32, dense: how often; with history */
  const dsopt_tensor* tokens;     /* [rows] I32, dense out */
  const dsopt_tensor* logprobs;   /* [rows] F32, dense out: log softmax of the given logits; optional */
} dsopt_sample_args;
DSOPT_API dsopt_status DSOPT_CALL dsopt_op_sample(const dsopt_ops* ops, const dsopt_sample_args* args,
                                                  const dsopt_launch* launch);          /* [shared] */

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* DSOPT_OPS_H_ */
