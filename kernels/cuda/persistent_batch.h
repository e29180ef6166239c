// persistent_batch.h - the layers of a decode step of a dense GQA model for a few rows, one of each sequence,
// as one persistent kernel (sm_90a), for any sizes and weights of all kinds. Embedding before it and head behind
// it are kernels of their own. persistent_batch_<format>.cu instantiate persistent/batch_step.cuh, where the
// step is described.
#ifndef DSOPT_CUDA_PERSISTENT_BATCH_H_
#define DSOPT_CUDA_PERSISTENT_BATCH_H_

#include "linear_stream.h"
#include "persistent_dense.h"

namespace dsopt_cuda {

inline constexpr int kBatchRows = 32;  // of any step, at most
inline constexpr int kBatchMatrices =
    4;  // of a layer, in the order in which they are used: qkv, out, gate_up, down
// bf16: what one copy brings of a matrix, up to 16 rows and above; a tensor map for each.
inline constexpr struct { int rows, columns; } kBatchBoxes[] = {{64, 256}, {128, 128}};
inline constexpr int kBatchMaps = sizeof kBatchBoxes / sizeof *kBatchBoxes, kTensorMapBytes = 128;

// Device pointers of one layer. A matrix's data: packed weights, or for bf16 its tensor maps on the device.
struct BatchLayer {
  DenseMatrix matrices[kBatchMatrices];
  const float *attention_norm, *mlp_norm;
  uint64_t cache_offset;
};

struct BatchShape {
  DenseShape model;  // experts 0, cache kPlain
  int window;        // of all layers; 0: none
};

// Buffers are those of the single kernels: x [rows, hidden] f32, and for row images as launch.h says.
struct BatchStep {
  const BatchLayer* layers;  // device, [layers]
  int layer_count, rows, hidden, q_heads, kv_heads, head_dim, window;
  int parts;        // works of a KV head: up to kBatchHeads query heads each
  int item_tokens;  // of the cache in a slot: 64 or 32. This and what follows: set by BatchDecode
  float eps, score_scale, rope_scale;
  const float* inv_freq;     // [head_dim / 2]; pairs (i, i + head_dim / 2)
  CacheArgs cache;           // base: of the whole cache
  float* x;                  // [rows, hidden]: the embedded rows, then the result of the last layer
  void *h, *attended, *mid;  // row images
  float* qkv;                // [rows, (q_heads + 2 kv_heads) head_dim]
  float* squares;            // BatchSquares
  float2* rotations;         // [rows, head_dim / 2]: cosine and sine
  uint32_t* counters;        // BatchCounterWords, zero before the first launch
  float* partial;            // PackedPartialFloats
  uint32_t* arrived;         // PackedCounters, zero between launches
  uint32_t step;             // launches so far on these counters
  StreamLinear linear[kBatchMatrices];
  int slots, slot_bytes, near_copies, deep_copies;
  uint32_t turn[5], turns;  // by which ranges of a layer's operations rotate over the CTAs; of a whole layer
};

inline constexpr int kBatchHeads = 4;
bool BatchSupported(const Limits& limits, const BatchShape& shape);
// Of a step, at most; above, single kernels are faster, for small models at any number: 0. always: wherever it
// works.
int BatchMostRows(const BatchShape& shape, bool always);
uint64_t BatchCounterWords(const DenseShape& shape);
uint64_t BatchSquares(const DenseShape& shape);  // floats
// step: everything but what BatchDecode sets; of `linear` nothing.
cudaError_t BatchDecode(const Launch& launch, const BatchShape& shape, const BatchStep& step);
cudaError_t BatchPlain(const Launch& launch, const BatchShape& shape, const BatchStep& step);
cudaError_t BatchLossless12(const Launch& launch, const BatchShape& shape, const BatchStep& step);
cudaError_t BatchInt8(const Launch& launch, const BatchShape& shape, const BatchStep& step);
cudaError_t BatchFp8(const Launch& launch, const BatchShape& shape, const BatchStep& step);
cudaError_t BatchInt4(const Launch& launch, const BatchShape& shape, const BatchStep& step);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_PERSISTENT_BATCH_H_
