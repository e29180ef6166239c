/* dsopt/dsopt.h - the stable C interface of libdsopt.so. This header is the manual.
 *
 * Anything not declared in dsopt/dsopt.h, dsopt/ops.h or dsopt/backend.h is not part of the ABI.
 *
 * Objects       runtime > model > session > stream. A child holds a reference to its parent, so handles
 *               may be released in any order (garbage-collected hosts rely on this).
 * Errors        Every fallible call returns dsopt_status: 0 is success, DSOPT_PENDING means "not yet", < 0
 *               is failure and sets the calling thread's dsopt_last_error(). A failed call leaves its
 *               objects as they were. A failure *between* calls (a stream that ran out of cache) is kept on
 *               the stream: dsopt_stream_error(). No call ends the process, prints, or installs handlers.
 * Threads       Each function carries one of three tags:
 *                 [any]      from any thread, concurrently with everything.
 *                 [shared]   concurrently on the same object.
 *                 [serial]   one call at a time per session (its streams included), or per model while it
 *                            loads; any thread. A second concurrent call returns DSOPT_E_BUSY.
 * Callbacks     Run only on the thread that is inside dsopt_session_poll/_wait or dsopt_model_open/_poll,
 *               never on a library thread, and may call [any] and [shared] functions only. The log and
 *               allocator callbacks are the exception: they run on any thread.
 * Structs       The first member is struct_size = sizeof(the struct). All-zero means "default". A struct
 *               smaller than the library's gets defaults for the rest; a larger one is accepted while
 *               its unknown tail is zero, else DSOPT_E_UNSUPPORTED. Output structs are filled up to
 *               struct_size.
 * Strings       UTF-8. (ptr, len) in; len may be DSOPT_NTS. Out strings use (buf, cap, out_len): out_len
 *               receives the full length without the NUL; DSOPT_E_BUFFER_TOO_SMALL if cap <= out_len;
 *               buf may be NULL when cap is 0, to ask for the length.
 * Exceptions    None cross this interface, in either direction.
 */
#ifndef DSOPT_DSOPT_H_
#define DSOPT_DSOPT_H_

#include <stddef.h>
#include <stdint.h>

#define DSOPT_VERSION_MAJOR 1
#define DSOPT_VERSION_MINOR 0
#define DSOPT_VERSION_PATCH 0
#define DSOPT_VERSION_NUMBER \
  (DSOPT_VERSION_MAJOR * 1000000 + DSOPT_VERSION_MINOR * 1000 + DSOPT_VERSION_PATCH)

/* Grows by one whenever a function, struct field or enumerator is appended. Never shrinks. */
#define DSOPT_ABI_LEVEL 1

#if defined(SWIG) /* SWIG parses neither attributes nor calling conventions */
#define DSOPT_API
#define DSOPT_CALL
#elif defined(_WIN32)
#if defined(DSOPT_BUILDING_LIBRARY)
#define DSOPT_API __declspec(dllexport)
#else
#define DSOPT_API __declspec(dllimport)
#endif
#define DSOPT_CALL __cdecl
#else
#define DSOPT_API __attribute__((visibility("default")))
#define DSOPT_CALL
#endif

#define DSOPT_NTS SIZE_MAX /* "this string is NUL terminated" */

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ----------------------------------------------------------------------------------- */

typedef enum dsopt_code {
  DSOPT_OK = 0,
  DSOPT_PENDING = 1,            /* not finished: call again (poll, read) */
  DSOPT_E_INVALID_ARGUMENT = -1,
  DSOPT_E_INVALID_STATE = -2,   /* right call, wrong moment */
  DSOPT_E_OUT_OF_MEMORY = -3,   /* host memory */
  DSOPT_E_DEVICE_MEMORY = -4,   /* device memory, KV pages, or a cap in bytes */
  DSOPT_E_IO = -5,
  DSOPT_E_CORRUPT = -6,         /* the file or buffer is malformed or its checksum fails */
  DSOPT_E_UNSUPPORTED = -7,     /* valid, but not by this build, device or struct_size */
  DSOPT_E_VERSION = -8,         /* file, plugin or header newer than this library */
  DSOPT_E_NOT_FOUND = -9,
  DSOPT_E_BUFFER_TOO_SMALL = -10,
  DSOPT_E_CANCELLED = -11,
  DSOPT_E_TIMEOUT = -12,
  DSOPT_E_DEVICE_LOST = -13,    /* sticky: release every object of that device */
  DSOPT_E_BUSY = -14,           /* a [serial] call is already running on this object */
  DSOPT_E_CALLBACK = -15,       /* a host callback returned failure */
  DSOPT_E_INTERNAL = -99,
  DSOPT_CODE_FORCE32 = 0x7fffffff
} dsopt_code;

/* A dsopt_code. Used only as a return type, so that bindings can turn it into an exception by type. */
typedef int32_t dsopt_status;

/* ---- opaque handles --------------------------------------------------------------------------- */

typedef struct dsopt_runtime dsopt_runtime;
typedef struct dsopt_model dsopt_model;
typedef struct dsopt_session dsopt_session;
typedef struct dsopt_stream dsopt_stream;

typedef int32_t dsopt_token;

typedef enum dsopt_dtype {
  DSOPT_DTYPE_DEFAULT = 0, DSOPT_F32 = 1, DSOPT_F16 = 2, DSOPT_BF16 = 3, DSOPT_F8_E4M3 = 4, DSOPT_I8 = 5,
  DSOPT_I32 = 6, DSOPT_U8 = 7, DSOPT_I4 = 8, DSOPT_DTYPE_FORCE32 = 0x7fffffff
} dsopt_dtype;

/* FAST uses the device's best arithmetic (bf16 products, f32 sums). REFERENCE keeps activations, products
 * and the cache in f32. */
typedef enum dsopt_precision {
  DSOPT_PRECISION_FAST = 0, DSOPT_PRECISION_REFERENCE = 1, DSOPT_PRECISION_FORCE32 = 0x7fffffff
} dsopt_precision;

/* ---- host callbacks --------------------------------------------------------------------------- */

typedef enum dsopt_log_level {
  DSOPT_LOG_DEFAULT = 0, DSOPT_LOG_ERROR = 1, DSOPT_LOG_WARN = 2, DSOPT_LOG_INFO = 3,
  DSOPT_LOG_DEBUG = 4, DSOPT_LOG_OFF = 5, DSOPT_LOG_FORCE32 = 0x7fffffff
} dsopt_log_level;

/* Runs on any thread, possibly several at once. message is one line, without its newline. */
typedef void(DSOPT_CALL* dsopt_log_fn)(void* user, dsopt_log_level level, const char* component,
                                       const char* message);

/* Host memory only. Must be thread-safe. align is a power of two. alloc returns NULL on failure; free
 * receives the size and alignment it was asked with. */
typedef struct dsopt_allocator {
  uint32_t struct_size;
  uint32_t reserved;
  void* user;
  void*(DSOPT_CALL* alloc)(void* user, size_t size, size_t align);
  void(DSOPT_CALL* free)(void* user, void* ptr, size_t size, size_t align);
} dsopt_allocator;

/* Random-access byte source for models inside game archives. read_at must fill all len bytes or fail, and
 * is called from one thread at a time. close (may be NULL) is called once, also when the open fails. */
typedef struct dsopt_io {
  uint32_t struct_size;
  uint32_t reserved;
  void* user;
  uint64_t size;
  dsopt_status(DSOPT_CALL* read_at)(void* user, uint64_t offset, void* dst, size_t len);
  void(DSOPT_CALL* close)(void* user);
} dsopt_io;

/* ---- 1. version, errors, runtime -------------------------------------------------------------- */

DSOPT_API uint32_t DSOPT_CALL dsopt_version_number(void);             /* [any] */
DSOPT_API uint32_t DSOPT_CALL dsopt_abi_level(void);                  /* [any] */
DSOPT_API const char* DSOPT_CALL dsopt_build_info(void);              /* [any] static text */
DSOPT_API const char* DSOPT_CALL dsopt_status_name(int32_t status);   /* [any] "DSOPT_E_IO"; never NULL */
/* Message of the last failed call on this thread; valid until its next dsopt call. Never NULL. */
DSOPT_API const char* DSOPT_CALL dsopt_last_error(void);              /* [any] */

typedef struct dsopt_runtime_options {
  uint32_t struct_size;
  uint32_t abi_level;             /* DSOPT_ABI_LEVEL of the caller's header; 0 means 1 */
  const dsopt_allocator* allocator; /* NULL: malloc/free. Copied */
  dsopt_log_fn log;               /* NULL: silent */
  void* log_user;
  dsopt_log_level log_level;      /* DEFAULT: WARN */
  uint32_t cpu_threads;           /* compute threads including the caller; 0: all cores; 1: no workers */
  const char* backend_path;       /* plugin directory; NULL: the directory of libdsopt.so */
  uint32_t disable_backend_scan;  /* 1: only dsopt_runtime_load_backend() loads plugins */
  uint32_t reserved;
  const char* cpu_variant;        /* NULL: best. "scalar" "avx2" "avx2_vnni" "avx512" "avx512_vnni"
                                     "avx512_bf16": at most this one */
} dsopt_runtime_options;

DSOPT_API dsopt_status DSOPT_CALL dsopt_runtime_create(const dsopt_runtime_options* options,
                                                       dsopt_runtime** out);            /* [any] */
DSOPT_API void DSOPT_CALL dsopt_runtime_release(dsopt_runtime* runtime);                /* [any] */
/* Loads a plugin from an explicit file; its devices are appended to the list. path contains a '/': the system's
 * search for libraries has no part in it. DSOPT_E_NOT_FOUND: there is no such file, or no driver for its devices;
 * _IO: it cannot be read; _UNSUPPORTED: it cannot be loaded or is no plugin; _VERSION: it speaks another interface. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_runtime_load_backend(dsopt_runtime* runtime,
                                                             const char* path);         /* [any] */

typedef enum dsopt_device_kind {
  DSOPT_DEVICE_CPU = 1, DSOPT_DEVICE_CUDA = 2, DSOPT_DEVICE_KIND_FORCE32 = 0x7fffffff
} dsopt_device_kind;

typedef struct dsopt_device_info {
  uint32_t struct_size;
  dsopt_device_kind kind;
  uint32_t arch;                  /* CUDA: 90 = sm_90. CPU: 0 scalar, 1 avx2, 2 avx512, 3 avx512_bf16,
                                     4 avx2_vnni, 5 avx512_vnni */
  uint32_t multiprocessors;       /* CUDA: SMs. CPU: cores */
  uint64_t memory_total;
  uint64_t memory_free;
  char id[32];                    /* "cpu", "cuda:0": the name options take */
  char name[96];
  uint32_t preferred_rows;        /* batch rows from which prefill gains little */
  uint32_t reserved;
} dsopt_device_info;

DSOPT_API uint32_t DSOPT_CALL dsopt_device_count(const dsopt_runtime* runtime);         /* [shared] */
DSOPT_API dsopt_status DSOPT_CALL dsopt_device_get_info(const dsopt_runtime* runtime, uint32_t index,
                                                        dsopt_device_info* info);       /* [shared] */
/* Several lines: what was found, which kernels were chosen and why, why a plugin was not used. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_runtime_report(const dsopt_runtime* runtime, char* buf, size_t cap,
                                                       size_t* out_len);                /* [shared] */
/* Best streaming read the device can do, over `bytes` of memory that it allocates and frees again: what a
 * decode step is measured against. device: "cpu", "cuda:0"; NULL: "cpu". bytes 0: 1 GiB. Blocks, about a
 * second; DSOPT_E_NOT_FOUND if there is no such device. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_device_measure_read(dsopt_runtime* runtime, const char* device,
                                                            uint64_t bytes,
                                                            double* bytes_per_second);  /* [any] */

/* ---- 2. model --------------------------------------------------------------------------------- */

/* progress in [0, 1]. Return non-zero to cancel: the open or poll returns DSOPT_E_CANCELLED. */
typedef int(DSOPT_CALL* dsopt_progress_fn)(void* user, float progress);

typedef struct dsopt_model_options {
  uint32_t struct_size;
  uint32_t flags;                 /* DSOPT_MODEL_* */
  const char* device;             /* "cpu", "cuda:0": this one or an error. NULL: best device with room */
  uint64_t max_device_bytes;      /* 0: no limit. Weights that exceed it: DSOPT_E_DEVICE_MEMORY */
  dsopt_progress_fn progress;     /* NULL: none */
  void* progress_user;
} dsopt_model_options;

#define DSOPT_MODEL_VERIFY 1u        /* also check the checksum of the decoded bytes of each chunk */
#define DSOPT_MODEL_METADATA_ONLY 2u /* info, metadata and text functions only; no weights are read */
#define DSOPT_MODEL_LAZY 4u          /* return after the header; finish with dsopt_model_poll() */
#define DSOPT_MODEL_MMAP 8u          /* map the file instead of reading it: faster for stored chunks, but a
                                        file truncated by others while it loads raises SIGBUS */

typedef struct dsopt_model_info {
  uint32_t struct_size;
  uint32_t vocab_size;
  uint32_t context_length;
  uint32_t layer_count;
  uint64_t parameter_count;
  uint64_t weight_bytes;          /* on the device after packing */
  uint64_t kv_bytes_per_token;    /* at the default cache type */
  dsopt_token bos, eos, pad;      /* -1: the model has none; eos: the first of its end tokens */
  uint32_t loaded;                /* 1: weights are complete */
  char architecture[32];          /* "llama", "mistral", "mixtral", "deepseek_v2" */
  char device[32];                /* where every layer runs: "cpu", "cuda:0" */
} dsopt_model_info;

DSOPT_API dsopt_status DSOPT_CALL dsopt_model_open(dsopt_runtime* runtime, const char* path,
                                                   const dsopt_model_options* options,
                                                   dsopt_model** out);                  /* [any] */
/* bytes must stay valid and unchanged until the model has loaded or was destroyed. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_model_open_memory(dsopt_runtime* runtime, const void* bytes,
                                                          size_t size,
                                                          const dsopt_model_options* options,
                                                          dsopt_model** out);           /* [any] */
/* io is copied; io->user must stay valid until io->close. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_model_open_io(dsopt_runtime* runtime, const dsopt_io* io,
                                                      const dsopt_model_options* options,
                                                      dsopt_model** out);               /* [any] */
/* Loads for about budget_us, then DSOPT_PENDING, or DSOPT_OK when complete. A failure is final. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_model_poll(dsopt_model* model, uint64_t budget_us,
                                                   float* progress);                    /* [serial] */
/* Makes a load in progress end with DSOPT_E_CANCELLED within 2 ms; without effect once loaded. */
DSOPT_API void DSOPT_CALL dsopt_model_cancel(dsopt_model* model);                       /* [any] */
DSOPT_API void DSOPT_CALL dsopt_model_release(dsopt_model* model);                      /* [any] */
DSOPT_API dsopt_status DSOPT_CALL dsopt_model_get_info(const dsopt_model* model,
                                                       dsopt_model_info* info);         /* [shared] */
/* Free-form metadata of the file: "license", "source", ...; DSOPT_E_NOT_FOUND if the key is absent. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_model_get_metadata(const dsopt_model* model, const char* key,
                                                           char* buf, size_t cap,
                                                           size_t* out_len);            /* [shared] */

/* ---- 3. text ---------------------------------------------------------------------------------- */

#define DSOPT_TOKENIZE_ADD_BOS 1u       /* as the model's tokenizer does: nothing if it adds none */
#define DSOPT_TOKENIZE_PARSE_SPECIAL 2u /* let "<|eot|>" in the text become a control token */
#define DSOPT_DETOKENIZE_SKIP_SPECIAL 4u /* leave control tokens out of the text */

/* tokens may be NULL when cap is 0. *out_count receives the full count. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_tokenize(const dsopt_model* model, const char* text, size_t len,
                                                 uint32_t flags, dsopt_token* tokens, size_t cap,
                                                 size_t* out_count);                    /* [shared] */
/* The exact bytes of the tokens: may be invalid UTF-8 when the tokens are. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_detokenize(const dsopt_model* model, const dsopt_token* tokens,
                                                   size_t count, uint32_t flags, char* buf, size_t cap,
                                                   size_t* out_len);                    /* [shared] */

typedef struct dsopt_message {
  const char* role;               /* "system", "user", "assistant", "tool"; NUL terminated */
  const char* content;
  size_t content_len;             /* DSOPT_NTS allowed */
} dsopt_message;

#define DSOPT_CHAT_ADD_PROMPT 1u  /* end with the header of an assistant turn */

/* Applies the model's chat template (a sandboxed subset of Jinja with a step limit). The result is to be
 * tokenized with DSOPT_TOKENIZE_PARSE_SPECIAL. DSOPT_E_NOT_FOUND if the model has no template. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_chat_format(const dsopt_model* model, const dsopt_message* messages,
                                                    size_t count, uint32_t flags, char* buf, size_t cap,
                                                    size_t* out_len);                   /* [shared] */

/* ---- 4. session: KV memory + scheduler -------------------------------------------------------- */

typedef struct dsopt_session_options {
  uint32_t struct_size;
  uint32_t flags;                 /* 0 */
  uint32_t max_streams;           /* in one batch, at most 1024; 0: 1. More may generate: by priority, then in
                                     order of dsopt_stream_generate, the others wait */
  uint32_t max_tokens;            /* KV capacity of all streams together, in pages of 64; 0: context_length */
  uint32_t prefill_chunk;         /* most prompt tokens in one batch; 0: the device's preference */
  uint32_t device_slice_us;       /* longest device work submitted at once; 0: unlimited */
  dsopt_dtype kv_dtype;           /* of keys and values: F32, BF16; F8_E4M3 and I8: about a half of BF16, I4: a
                                     third; 0: BF16, or F32 with PRECISION_REFERENCE. DSOPT_E_UNSUPPORTED: not on
                                     this device */
  dsopt_precision precision;
  void* native_stream;            /* CUstream to run on; NULL: the library makes one */
  uint64_t max_cache_bytes;       /* most device memory of the cache; 0: no cap. With max_tokens 0 the session gets as
                                     many tokens as fit; max_tokens that do not fit are DSOPT_E_DEVICE_MEMORY, and
                                     so is a cap below one page */
  uint64_t max_device_bytes;      /* most device memory of the model's weights and this session together; 0: no cap.
                                     What it leaves for the cache counts as max_cache_bytes does */
  uint64_t max_host_cache_bytes;  /* what of the cache has no room on the device, by these caps or by the memory that
                                     is free there, may lie in so much pinned host memory. Decoding reads it in place,
                                     at the speed of the bus; for prompts a layer's pages are copied to the
                                     workspace, which is larger by those of one sequence. Creating the session
                                     clears and pins the memory: seconds for tens of gigabytes. 0: none may.
                                     Without effect on the CPU */
} dsopt_session_options;

/* What a session takes, before it takes anything. */
typedef struct dsopt_session_memory {
  uint32_t struct_size;
  uint32_t page_tokens;           /* tokens come in whole pages of so many */
  uint32_t wanted_tokens;         /* max_tokens or, when that is 0, the context */
  uint32_t tokens;                /* of those, what the caps have room for, on the device and on the host */
  uint64_t wanted_cache_bytes;    /* of wanted_tokens */
  uint64_t cache_bytes;           /* of tokens - host_tokens; on the device, as the next one */
  uint64_t workspace_bytes;       /* of the batches of a session with room for tokens */
  uint64_t host_bytes;            /* of its tables */
  uint64_t device_free_bytes;     /* at the time of the call, for comparison */
  uint64_t host_cache_bytes;      /* of host_tokens; pinned host memory */
  uint32_t host_tokens;           /* of tokens, those that max_host_cache_bytes gives room to */
  uint32_t reserved;
} dsopt_session_memory;

typedef struct dsopt_poll_result {
  uint32_t struct_size;
  uint32_t active_streams;        /* still generating */
  uint32_t ready_events;          /* undelivered, for dsopt_stream_read */
  uint32_t tokens_sampled;        /* in this call */
  uint64_t spent_us;
  uint64_t suggested_wait_us;     /* device time until something can be harvested; 0: call again */
} dsopt_poll_result;

typedef struct dsopt_session_stats {
  uint32_t struct_size;
  uint32_t kv_tokens_used;        /* in whole pages; shared pages count once */
  uint32_t kv_tokens_total;       /* kv_tokens_used may be more, when the limit was lowered below it */
  uint32_t batches;
  uint64_t prefill_tokens, prefill_us;
  uint64_t decode_tokens, decode_us;
  uint64_t host_bytes, device_bytes; /* of this session: cache, workspace, tables */
  uint32_t kv_host_tokens_used;   /* of kv_tokens_used, those in pinned host memory: the device's pages come first */
  uint32_t kv_host_tokens_total;  /* of kv_tokens_total */
  uint32_t replayed_batches;      /* of batches, those that took the device one launch, as a graph of an earlier one */
  uint32_t reserved;
} dsopt_session_stats;

/* What dsopt_session_create would take with the same options; allocates nothing that stays. DSOPT_OK also where create
 * would say DSOPT_E_DEVICE_MEMORY: then tokens < wanted_tokens with max_tokens given, tokens is 0, or the bytes exceed
 * the device. With max_host_cache_bytes the split follows what is free on the device at the time of the call.
 * DSOPT_E_INVALID_STATE before the model's weights are loaded; other failures as of create. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_session_plan(const dsopt_model* model, const dsopt_session_options* options,
                                                     dsopt_session_memory* memory);     /* [shared] */
DSOPT_API dsopt_status DSOPT_CALL dsopt_session_create(dsopt_model* model,
                                                       const dsopt_session_options* options,
                                                       dsopt_session** out);            /* [any] */
DSOPT_API void DSOPT_CALL dsopt_session_release(dsopt_session* session);                /* [any] */
/* Does at most about budget_us of host work and never blocks on a device: harvests finished work, delivers
 * events, submits or computes the next slice. budget_us == 0: harvest and deliver only. On the CPU the work
 * itself happens here, cut so that the budget is exceeded by at most about 0.3 ms, with progress kept.
 * Returns DSOPT_PENDING while any stream is generating, else DSOPT_OK. result may be NULL. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_session_poll(dsopt_session* session, uint64_t budget_us,
                                                     dsopt_poll_result* result);        /* [serial] */
/* Polls until an event is ready or was delivered, or nothing is active (DSOPT_OK), until timeout_us passed
 * (DSOPT_E_TIMEOUT) or dsopt_session_interrupt (DSOPT_E_CANCELLED). */
DSOPT_API dsopt_status DSOPT_CALL dsopt_session_wait(dsopt_session* session,
                                                     uint64_t timeout_us);              /* [serial] */
/* Makes a poll or wait in progress return within 2 ms. Streams keep their progress. If none is in progress
 * the next one returns at once. */
DSOPT_API void DSOPT_CALL dsopt_session_interrupt(dsopt_session* session);              /* [any] */
/* Gives back what is not needed now (event buffers, spare capacity); the cache stays. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_session_trim(dsopt_session* session);           /* [serial] */
/* From now on the streams hold at most so many bytes of cache, in whole pages; 0: all that the session was created
 * with, which no limit exceeds. Possible at any time. Pages already held stay, and so does the session's memory. A
 * stream that needs one more page while the limit is reached ends with DSOPT_E_DEVICE_MEMORY (see dsopt_stream_error)
 * and may go on when pages were given back; the others are not touched. kv_tokens_total says what the limit allows. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_session_set_cache_limit(dsopt_session* session,
                                                                uint64_t bytes);        /* [serial] */
DSOPT_API dsopt_status DSOPT_CALL dsopt_session_get_stats(const dsopt_session* session,
                                                          dsopt_session_stats* stats);  /* [shared] */

/* ---- 5. stream: one sequence ------------------------------------------------------------------ */

typedef enum dsopt_event_kind {
  DSOPT_EVENT_TEXT = 1,           /* new tokens; text holds whole UTF-8 characters only, may be empty */
  DSOPT_EVENT_DONE = 2,           /* the generation ended: see finish */
  DSOPT_EVENT_ERROR = 3,          /* it failed: see status and dsopt_stream_error() */
  DSOPT_EVENT_KIND_FORCE32 = 0x7fffffff
} dsopt_event_kind;

typedef enum dsopt_finish {
  DSOPT_FINISH_NONE = 0,
  DSOPT_FINISH_EOS = 1,           /* the model's end token or one of stop_tokens */
  DSOPT_FINISH_STOP = 2,          /* a stop string */
  DSOPT_FINISH_LENGTH = 3,        /* max_tokens, the context length, or PREFILL_ONLY done */
  DSOPT_FINISH_CANCELLED = 4, DSOPT_FINISH_ERROR = 5, DSOPT_FINISH_FORCE32 = 0x7fffffff
} dsopt_finish;

/* Pointers are valid during the callback, or until the next read, generate or trim. An invalid byte sequence
 * that the model produced appears in text as U+FFFD. */
typedef struct dsopt_event {
  uint32_t struct_size;
  dsopt_event_kind kind;
  const char* text;
  size_t text_len;
  const dsopt_token* tokens;      /* sampled since the last event */
  size_t token_count;
  dsopt_finish finish;
  int32_t status;                 /* dsopt_code, for DSOPT_EVENT_ERROR */
  const float* logprobs;          /* [token_count]; NULL unless options.logprobs or .top_logprobs */
  const dsopt_token* top_tokens;  /* [token_count * top_count], most probable first; NULL if top_count 0 */
  const float* top_logprobs;
  uint32_t top_count;
  uint32_t reserved;
} dsopt_event;

/* Return non-zero to cancel the stream. */
typedef int(DSOPT_CALL* dsopt_event_fn)(void* user, dsopt_stream* stream, const dsopt_event* event);

/* Order of application: bans and biases, penalties, temperature, top_k, top_n_sigma, typical_p, top_p,
 * min_p, draw. One uniform number per position, from Philox4x32-10(seed, position): the same seed gives
 * the same tokens whatever else the session does, after fork and after save and load. */
typedef struct dsopt_sampling {
  uint32_t struct_size;
  uint32_t top_k;                 /* 0: off */
  float temperature;              /* 0: greedy, the lowest id wins a tie */
  float top_p, min_p, typical_p;  /* 0: off */
  float top_n_sigma;              /* 0: off (arXiv 2411.07641) */
  float repeat_penalty;           /* 0 or 1: off. Logits of seen tokens are divided (negative: multiplied) */
  float presence_penalty, frequency_penalty;
  uint32_t penalty_window;        /* last tokens that the penalties look at, at most 1024; 0: 64 */
  uint32_t reserved;
  uint64_t seed;                  /* 0: from the OS */
} dsopt_sampling;

typedef struct dsopt_logit_bias {
  dsopt_token token;
  float bias;                     /* -INFINITY bans the token */
} dsopt_logit_bias;

/* All pointers are copied by dsopt_stream_generate. */
typedef struct dsopt_generate_options {
  uint32_t struct_size;
  uint32_t flags;                 /* DSOPT_GENERATE_* */
  uint32_t max_tokens;            /* 0: until an end token, the context length or the KV capacity */
  int32_t priority;               /* larger first; equal ones share the batch */
  const dsopt_sampling* sampling; /* NULL: the model file's defaults */
  const char* const* stop;        /* stop strings, NUL terminated; not part of the output. Text that may be the
                                     beginning of one comes out when that is decided */
  size_t stop_count;              /* at most 64 of at most 4096 bytes */
  const dsopt_token* stop_tokens; /* besides the model's own end tokens; like those they add no text */
  size_t stop_token_count;        /* at most 1024 */
  const dsopt_logit_bias* bias;
  size_t bias_count;              /* at most 1024 */
  dsopt_event_fn on_event;        /* NULL: collect with dsopt_stream_read() */
  void* user;
  uint32_t logprobs;              /* 1: report the log probability of each token */
  uint32_t top_logprobs;          /* 0 .. 20: and of the n most probable */
} dsopt_generate_options;

#define DSOPT_GENERATE_PREFILL_ONLY 1u /* bring all appended tokens into the cache, sample nothing */
#define DSOPT_GENERATE_SCORE 2u        /* also compute the logprob of each appended token that is not yet in
                                          the cache: see dsopt_stream_get_logprobs */
#define DSOPT_GENERATE_IGNORE_EOS 4u   /* the model's end tokens do not end the generation */

DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_create(dsopt_session* session,
                                                      dsopt_stream** out);              /* [serial] */
/* A generation in progress is cancelled without an event. */
DSOPT_API void DSOPT_CALL dsopt_stream_release(dsopt_stream* stream);                   /* [any] */
/* flags: DSOPT_TOKENIZE_*. DSOPT_E_INVALID_STATE while generating (all three appends, rewind, load). */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_append_text(dsopt_stream* stream, const char* text,
                                                           size_t len, uint32_t flags); /* [serial] */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_append_tokens(dsopt_stream* stream,
                                                             const dsopt_token* tokens,
                                                             size_t count);             /* [serial] */
/* Only queues the work; dsopt_session_poll/_wait does it. options may be NULL. Events of an earlier generation
 * that were not read are dropped. DSOPT_E_INVALID_STATE without tokens or while generating;
 * DSOPT_E_DEVICE_MEMORY if the tokens exceed the session's cache. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_generate(dsopt_stream* stream,
                                                        const dsopt_generate_options* options); /* [serial] */
/* Ends the generation with DSOPT_FINISH_CANCELLED within 2 ms of the poll in progress, else at the next
 * poll. Tokens already delivered stay. */
DSOPT_API void DSOPT_CALL dsopt_stream_cancel(dsopt_stream* stream);                    /* [any] */
/* Next undelivered event (DSOPT_OK), or DSOPT_PENDING if there is none. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_read(dsopt_stream* stream, dsopt_event* event); /* [serial] */
/* Status of the last generation: DSOPT_OK, or why it failed, with the message in buf, cut to cap. buf and
 * out_len may be NULL. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_error(const dsopt_stream* stream, char* buf, size_t cap,
                                                     size_t* out_len);                  /* [shared] */
/* Tokens appended and sampled so far. */
DSOPT_API size_t DSOPT_CALL dsopt_stream_token_count(const dsopt_stream* stream);       /* [shared] */
/* Copies up to cap tokens from index first; *out_count receives how many. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_get_tokens(const dsopt_stream* stream, size_t first,
                                                          dsopt_token* tokens, size_t cap,
                                                          size_t* out_count);           /* [shared] */
/* log p(token i | tokens before i) for i = first, ...; NaN where it was not computed. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_get_logprobs(const dsopt_stream* stream, size_t first,
                                                            float* logprobs, size_t cap,
                                                            size_t* out_count);         /* [shared] */
/* Drops everything after the first `count` tokens; KV pages go back to the session. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_rewind(dsopt_stream* stream, size_t count); /* [serial] */
/* New stream of the same session with the same tokens, sharing this one's KV pages copy-on-write (one NPC
 * system prompt, many NPCs). Costs no copy of whole pages. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_fork(dsopt_stream* stream, dsopt_stream** out); /* [serial] */
/* Tokens and cache as one buffer with a checksum and the model's fingerprint; DSOPT_E_BUFFER_TOO_SMALL if
 * cap < *out_len. The buffer loads into any session of the same model file with the same kv_dtype, in any
 * process; else DSOPT_E_UNSUPPORTED. A failed load leaves the stream as it was. Both start the batch in flight
 * again. */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_save(dsopt_stream* stream, void* buf, size_t cap,
                                                    size_t* out_len);                   /* [serial] */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_load(dsopt_stream* stream, const void* buf,
                                                    size_t len);                        /* [serial] */
/* Logits that follow the last token in the cache, f32, vocab_size values. DSOPT_E_INVALID_STATE unless the
 * stream took part in the session's last batch as its last position (poll to the end of a generation first). */
DSOPT_API dsopt_status DSOPT_CALL dsopt_stream_get_logits(dsopt_stream* stream, float* logits, size_t cap,
                                                          size_t* out_count);           /* [serial] */

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* DSOPT_DSOPT_H_ */
