// persistent_dense.h - one decode step of a dense GQA model as one persistent kernel (sm_90 and newer): the fastest
// way at batch 1. Everything it cannot do (other shapes, f32, biases, several rows) runs through the single kernels.
#ifndef DSOPT_CUDA_PERSISTENT_DENSE_H_
#define DSOPT_CUDA_PERSISTENT_DENSE_H_

#include <cstdint>

#include "launch.h"

namespace dsopt_cuda {

// Device pointers of one layer; weights bf16 in the layouts of weight.h.
struct DenseLayer {
  const void *qkv, *out, *gate_up, *down;
  const float *attention_norm, *mlp_norm;
  uint64_t cache_offset;
  int window;  // 0: none
  int reserved;
};

struct DenseShape {
  int hidden, inner, q_heads, kv_heads, head_dim, vocab, layers;
};

struct DenseStep {
  const DenseLayer* layers;  // device, [layers]
  const void* embed;         // bf16 [vocab, hidden]
  const void* head;          // bf16 [vocab, hidden]
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
  uint32_t step;             // launches so far on these buffers
};

bool DenseSupported(const Limits& limits, const DenseShape& shape);
uint64_t DenseActivationFloats(const DenseShape& shape);  // of one step
uint64_t DensePartialFloats(const Limits& limits, const DenseShape& shape);
uint64_t DenseCounterWords(const DenseShape& shape);
cudaError_t DenseDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_PERSISTENT_DENSE_H_
