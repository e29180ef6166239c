// op.h - what the operators of dsopt/ops.h share on the GPU: the caller's workspace and stream, staged
// operands, and the small kernels that only operators need. Arguments come checked. No allocation, no wait, no
// other stream: every operator may be captured into a graph.
//
// An operator runs twice: once with a counting arena, which ends where the launches would begin, and once for
// good.
#ifndef DSOPT_CUDA_OPS_OP_H_
#define DSOPT_CUDA_OPS_OP_H_

#include "launch.h"

namespace dsopt_cuda {

inline constexpr int kMaxGridRows = 65535;  // of a grid's second and third dimension

class Arena {
 public:
  explicit Arena(void* base) : base_(reinterpret_cast<uintptr_t>(base)) {}
  bool counting() const { return base_ == 0; }
  uint64_t bytes() const { return bytes_; }
  // Room for `count` values, 256-byte aligned. While counting the pointer means nothing.
  template <typename T>
  T* Take(uint64_t count) {
    T* memory = reinterpret_cast<T*>(base_ + bytes_);
    bytes_ += (count * sizeof(T) + 255) / 256 * 256;
    return memory;
  }

 private:
  uintptr_t base_;
  uint64_t bytes_ = 0;
};

struct OpContext {
  dsopt_be_device* device;
  Launch launch;
  Arena arena;
  const char* kernel;  // name of the variant that runs, or of the heaviest of several
};

inline Elem ElemOf(dsopt_dtype dtype) {
  return dtype == DSOPT_F32 ? Elem::kF32 : dtype == DSOPT_F16 ? Elem::kF16 : Elem::kBf16;
}
inline int Extent(const dsopt_tensor* t, uint32_t dim) { return static_cast<int>(t->shape[dim]); }

// ---- element-wise kernels (rows.cu) -----------------------------------------------------------------

// dst[r, i] = act(src[r, i]) in dst's type; rows at any distance.
struct ConvertArgs {
  const void* src;
  Elem src_elem;
  int64_t src_stride;
  void* dst;
  Elem dst_elem;
  int64_t dst_stride;
  int64_t rows;
  int cols;
  dsopt_activation activation;
};
cudaError_t ConvertRows(const Launch& launch, const ConvertArgs& args);

// out[r, i] = act(wide[r, i]) * wide[r, inner + i], wide dense f32, out dense bf16 or f32.
cudaError_t GateRows(const Launch& launch, const float* wide, int64_t rows, int inner, bool gelu, bool out_bf16,
                     void* out);

// dsopt_rmsnorm_args, strides in elements.
struct NormRowsArgs {
  const void* x;
  void* residual;  // null: none
  const void* weight;
  void* out;
  Elem x_elem, residual_elem, weight_elem, out_elem;
  int64_t x_stride, residual_stride, out_stride;
  int64_t rows;
  int cols;
  float eps;
};
cudaError_t NormRows(const Launch& launch, const NormRowsArgs& args);

// Head norms, rotation, and k and v to their places.
struct QkvRowsArgs {
  const float* qkv;  // [rows, (q_heads + 2 kv_heads) head_dim]
  int rows, q_heads, kv_heads, head_dim;
  const void *q_norm, *k_norm;  // [head_dim]; null: none
  Elem q_norm_elem, k_norm_elem;
  float eps;
  const float* rope;  // null: none
  int64_t rope_stride;
  int rope_dim, rope_rows;
  bool interleaved;
  const int* positions;
  const int* slots;  // null: row r goes to row r
  void *q, *k, *v;
  bool q_bf16, kv_bf16;
  int64_t q_row, q_head;
  int64_t k_outer, k_head, k_token, v_outer, v_head, v_token;  // outer: page, or row without slots
  int pages, page_tokens;
};
cudaError_t QkvRows(const Launch& launch, const QkvRowsArgs& args);

// Ids outside [0, experts) become expert 0 with weight 0.
cudaError_t KeepChoice(const Launch& launch, const int* ids, const float* weights, int slots, int experts,
                       int* kept_ids, float* kept_weights);

// ---- attention (attention_rows.cu, attention_tiles.cu) ------------------------------------------------

// Strides in elements. Values of index arrays are not trusted: see PrepareAttention.
struct OpAttentionArgs {
  const void *q, *k, *v;
  void* out;
  int64_t q_row, q_head, out_row, out_head;
  int64_t k_outer, k_head, k_token, v_outer, v_head, v_token;  // outer: sequence or page
  bool q_bf16, kv_bf16, out_bf16, causal;
  int tokens, q_heads, kv_heads, head_dim, batch, window;
  float scale;
  const int *q_offsets, *kv_lengths, *page_table;  // as given; null where the interface allows it
  int room;                                        // most keys of a sequence
  int pages, page_tokens, max_pages;               // page_tokens 0: contiguous
  // Made by PrepareAttention.
  int* row_seq;       // [tokens]; 0 for rows of no sequence
  int* row_end;       // [tokens] keys seen end here; 0: the row sees none
  int* row_last;      // [tokens] max(row_end - 1, 0)
  int* row_index;     // [tokens] 0, 1, 2, ...
  int* safe_pages;    // [batch, max_pages] inside [0, pages)
  int4* tiles;        // [max_tiles] first row, rows, row_end of the first row, sequence; rows 0: nothing
  int max_tiles;      // 0: none wanted
  uint32_t* arrived;  // [counters] zeros
  int64_t counters;
};
inline constexpr int kTileQueries = 128;
cudaError_t PrepareAttention(const Launch& launch, const OpAttentionArgs& args);
// Any layout and type, f32 on CUDA cores. Rows that see nothing become zero.
cudaError_t AttentionRows(const Launch& launch, const OpAttentionArgs& args);
// bf16 on tensor cores: head_dim 64 or 128, strides of q, k and v multiples of 8, of out of 2.
cudaError_t AttentionTiles(const Launch& launch, const OpAttentionArgs& args);
// Zeros for the rows that see nothing, which the kernels for tiles and for single rows leave alone or spoil.
cudaError_t BlankRows(const Launch& launch, const OpAttentionArgs& args);

// ---- sampling (sample_rows.cu) ----------------------------------------------------------------------

// The rows of launch.h's Sample, from the caller's history and counters. Up to kRowsPerLaunch of them come by
// value, so that a captured graph keeps them.
inline constexpr int kRowsPerLaunch = 24;
struct SampleRowsArgs {
  dsopt_sample_row rows[kRowsPerLaunch];  // all but counter and history
  int first, count;
  const uint64_t* counters;  // null: the row's number
  const int *history, *history_counts;
  int history_length, vocab;
  dsopt_sample_row* out;
  int* kept_tokens;  // [rows, history_length]
  uint32_t* kept_counts;
};
cudaError_t PrepareSampleRows(const Launch& launch, const SampleRowsArgs& args);

// ---- operators --------------------------------------------------------------------------------------

dsopt_status OpRmsNorm(OpContext* c, const dsopt_rmsnorm_args& a);
dsopt_status OpLinear(OpContext* c, const dsopt_linear_args& a);
dsopt_status OpQkv(OpContext* c, const dsopt_qkv_args& a);
dsopt_status OpAttention(OpContext* c, const dsopt_attention_args& a);
dsopt_status OpGatedMlp(OpContext* c, const dsopt_gated_mlp_args& a);
dsopt_status OpMoe(OpContext* c, const dsopt_moe_args& a);
dsopt_status OpSample(OpContext* c, const dsopt_sample_args& a);

// Entries of the table.
dsopt_status OpPointer(dsopt_be_device* device, const void* memory);
dsopt_status OpWorkspace(dsopt_be_device* device, dsopt_op op, const void* args, uint64_t* bytes,
                         const char** kernel);
dsopt_status OpRun(dsopt_be_device* device, dsopt_op op, const void* args, const dsopt_launch* launch);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_OPS_OP_H_
