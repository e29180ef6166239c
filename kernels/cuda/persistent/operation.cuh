// operation.cuh - a product of the persistent decode step as data. Code that a step runs once a layer is
// fetched anew in every layer when all of it is larger than the instruction cache (about 128 KB), and each
// hand-over waits for that: so products of as many columns share one piece of code, and what differs between
// them is here.
#ifndef DSOPT_CUDA_PERSISTENT_OPERATION_CUH_
#define DSOPT_CUDA_PERSISTENT_OPERATION_CUH_

#include "persistent/shape.cuh"

namespace dsopt_cuda::persistent {

inline constexpr int kProducts = 4;  // of a layer; the head follows those of the last one

// Columns of the products: down has those of the MLP, all others the model's width. The chosen experts' down
// projections are one product: their inputs, times their weights, follow each other.
template <typename S, bool kWide>
inline constexpr int kColumnsOf = kWide ? S::kInner* S::kTopK : S::kHidden;

template <typename S>
struct Operation {
  int number, layer;  // of all products of the step; layer: of the head, their number
  Phase phase;

  __device__ Operation(const Cta<S>& my, int n)
      : number(n),
        layer(n / kProducts),
        phase(layer == my.layers ? Phase::kHead : static_cast<Phase>(n % kProducts)) {}

  // Gate and up of a unit follow each other.
  __device__ bool paired() const { return phase == Phase::kGateUp; }
  __device__ int unit_rows() const { return paired() ? 2 : 1; }
  __device__ bool normed() const { return phase != Phase::kOut && phase != Phase::kDown; }
  __device__ int units(const Cta<S>& my) const {
    return phase == Phase::kQkv      ? S::kQkvRows
           : phase == Phase::kGateUp ? S::kInner * S::kTopK
           : phase == Phase::kHead   ? my.vocab
                                     : S::kHidden;
  }
  __device__ DenseMatrix matrix(const Cta<S>& my, const DenseLayer& weights) const {
    return phase == Phase::kHead     ? my.step.head
           : phase == Phase::kQkv    ? weights.qkv
           : phase == Phase::kOut    ? weights.out
           : phase == Phase::kGateUp ? weights.gate_up
                                     : weights.down;
  }
  // Of the norm before; null: none. weights: the layer's, in registers, so that nothing is loaded here.
  __device__ const float* gains(const Cta<S>& my, const DenseLayer& weights) const {
    return phase == Phase::kHead     ? my.step.final_norm
           : phase == Phase::kQkv    ? weights.attention_norm
           : phase == Phase::kGateUp ? weights.mlp_norm
                                     : nullptr;
  }
  // What the layer adds to; null: the token's row of the embedding.
  __device__ const float* stream(const Cta<S>& my) const {
    return layer > 0 ? my.layer_activations(layer - 1) + S::kOut : my.step.embedded;
  }
  __device__ const float* input(const Cta<S>& my) const {
    if (phase == Phase::kQkv || phase == Phase::kHead) return stream(my);
    return my.layer_activations(layer) + (phase == Phase::kOut      ? S::kAttention
                                          : phase == Phase::kGateUp ? S::kMiddle
                                                                    : S::kGated);
  }
  __device__ float* output(const Cta<S>& my) const {
    if (phase == Phase::kHead) return my.step.logits;
    return my.layer_activations(layer) + (phase == Phase::kQkv      ? S::kQkv
                                          : phase == Phase::kOut    ? S::kMiddle
                                          : phase == Phase::kGateUp ? S::kGated
                                                                    : S::kOut);
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_OPERATION_CUH_
