// persistent_latent.h - one decode step of a model with latent attention (DeepSeek-V2, arXiv 2405.04434) as one
// persistent kernel (sm_90), batch 1. Everything it cannot do runs through the single kernels.
// persistent_latent.cu: what the step is, and which shapes there are; persistent/latent_*.cuh: its parts.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_H_
#define DSOPT_CUDA_PERSISTENT_LATENT_H_

#include <cuda.h>

#include <cstdint>

#include "persistent_dense.h"

namespace dsopt_cuda {

// Device pointers of one layer. A dense layer is one whose feed-forward is all `shared`, and has no router.
struct LatentLayer {
  DenseMatrix down, q_up, out;  // down: q (low rank, or all of it) | latent | rope rows
  DenseMatrix shared_gate_up, shared_down;
  DenseMatrix expert_gate_up, expert_down;
  const void *k_up, *v_up;  // bf16 [heads, latent, nope], [heads, v, latent]
  const float *attention_norm, *q_norm, *latent_norm, *mlp_norm;
  const float* router;  // f32 [experts, hidden], or null
  uint64_t cache_offset;
};

struct LatentShape {
  int hidden, heads, q_rank, latent, nope, rope, v_dim;  // q_rank 0: q comes straight from down
  int inner, shared_inner, dense_inner;                  // of an expert, of the shared ones, of a dense layer
  int experts, top_k, groups, top_groups;
  int vocab, layers;
  Packing packing, head_packing;  // of all matrices but k_up and v_up, of the head
  int group;                      // int4: columns per scale, 64 or 128
};

struct LatentStep {
  CUtensorMap keys;           // the cache as rows of latent + rope; read only where `tiled`
  const LatentLayer* layers;  // device, [layers]
  const void* embed;          // bf16 [vocab, hidden]; not read when `embedded` is there
  const float* embedded;      // [hidden]: the token's row, scaled; or null
  DenseMatrix head;           // [vocab, hidden]
  const float* final_norm;
  const float* inv_freq;  // [rope / 2]
  const int* token;
  const int* position;  // the row's position: that many are in the cache
  const int* pages;     // page table of the row's sequence
  char* cache;
  uint64_t page_bytes;
  float* activations;  // LatentActivationFloats * 2, all bits set before the first launch
  float* partial;      // LatentPartialFloats, all bits set before the first launch
  uint32_t* counters;  // LatentCounterWords, zero before the first launch
  float* logits;       // [vocab]
  float embed_scale, rope_scale, score_scale;
  float attention_eps, latent_eps, mlp_eps, head_eps;
  float route_scale;
  uint32_t renormalise, interleaved;  // interleaved: rotary pairs are (2 i, 2 i + 1)
  uint32_t step;                      // launches so far on these buffers
  uint32_t tiled;                     // long contexts may be read through `keys`
};

bool LatentSupported(const Limits& limits, const LatentShape& shape);
uint64_t LatentActivationFloats(const LatentShape& shape);  // of one step
uint64_t LatentPartialFloats(const Limits& limits, const LatentShape& shape);
uint64_t LatentCounterWords(const LatentShape& shape);
cudaError_t LatentDecode(const Launch& launch, const LatentShape& shape, const LatentStep& step);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_H_
