// persistent_dense.h - one decode step of a GQA model, dense or a mixture, as one persistent kernel (sm_90 and newer): the fastest
// way at batch 1. Everything it cannot do (other shapes, f32, biases, several rows) runs through the single kernels.
// persistent_dense.cu: bf16 weights and what the step is; persistent_packed.cu: encoded weights; persistent_fp8_cache.cu,
// persistent_int8_cache.cu, persistent_int4_cache.cu: both over a cache of codes; persistent/: its parts.
#ifndef DSOPT_CUDA_PERSISTENT_DENSE_H_
#define DSOPT_CUDA_PERSISTENT_DENSE_H_

#include <cstdint>

#include "launch.h"

namespace dsopt_cuda {

// A matrix on the device: bf16 rows as in weight.h, or packed as in packed.h.
struct DenseMatrix {
  const void* data;
  const float* row_scales;    // packed with one scale per row
  const int* overflow_first;  // lossless12, or null
  const Overflow* overflow;
};

// Device pointers of one layer.
struct DenseLayer {
  DenseMatrix qkv, out, gate_up, down;
  const float *attention_norm, *mlp_norm;
  const float* router;  // f32 [experts, hidden] of a mixture: gate_up and down then hold all experts
  uint64_t cache_offset;
  int window;  // 0: none
  int reserved;
};

struct DenseShape {
  int hidden, inner, q_heads, kv_heads, head_dim, vocab, layers;
  int experts, top_k;  // of a mixture; 0 and 1: dense
  Packing packing, head_packing;  // of all matrices of the layers, of the head; kNone: bf16 rows
  int group;                      // int4: columns per scale of the layers' matrices, 64 or 128
  CacheCode cache;                // kPlain: bf16
};

struct DenseStep {
  const DenseLayer* layers;  // device, [layers]
  const void* embed;         // bf16 [vocab, hidden]; not read when `embedded` is there
  const float* embedded;     // [hidden]: the token's row, scaled; or null
  DenseMatrix head;          // [vocab, hidden]
  const float* final_norm;
  const float* inv_freq;     // [head_dim / 2]; pairs (i, i + head_dim / 2)
  const int* token;
  const int* position;       // the row's position: that many are in the cache
  const int* pages;          // page table of the row's sequence
  char* cache;
  uint64_t page_bytes;
  float* activations;        // DenseActivationFloats * 2, all bits set before the first launch
  float* partial;            // DensePartialFloats, all bits set before the first launch
  uint32_t* counters;        // DenseCounterWords, zero before the first launch
  float* logits;             // [vocab]
  float embed_scale, rope_scale, score_scale, norm_eps;
  float route_scale;
  uint32_t renormalise;
  uint32_t step;             // launches so far on these buffers
};

bool DenseSupported(const Limits& limits, const DenseShape& shape);
uint64_t DenseActivationFloats(const DenseShape& shape);  // of one step
uint64_t DensePartialFloats(const Limits& limits, const DenseShape& shape);
uint64_t DenseCounterWords(const DenseShape& shape);
// Packed weights: int8 and fp8 with scales by row, int4 with f16 scales by 64 or 128 columns and an int8 head, lossless12.
bool DensePackedSupported(const DenseShape& shape);
cudaError_t DensePackedDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step);
cudaError_t DenseFp8CacheDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step);
cudaError_t DenseInt8CacheDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step);
cudaError_t DenseInt4CacheDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step);
cudaError_t DenseDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_PERSISTENT_DENSE_H_
