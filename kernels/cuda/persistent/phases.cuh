// phases.cuh - the persistent decode step with encoded weights, phase by phase: each product is code of its
// own, and its epilogue the first consumer warp's. Epilogues by another warp and one code for several products,
// as with bf16 (operation.cuh), cost int4 2 to 3 % and gain the other encodings 1 %. What hands sums to another
// warp is an mbarrier: with bar.arrive, results of Llama-3-70B as int4 were wrong.
#ifndef DSOPT_CUDA_PERSISTENT_PHASES_CUH_
#define DSOPT_CUDA_PERSISTENT_PHASES_CUH_

#include "persistent/inputs.cuh"
#include "persistent/producer.cuh"

namespace dsopt_cuda::persistent {

template <typename S, Phase kP>
struct PhaseOf {
  // The chosen experts' down projections are one product: their inputs, times their weights, follow each other.
  static constexpr int kSources = kP == Phase::kDown ? S::kTopK : 1;
  static constexpr int kK = kP == Phase::kDown  ? S::kInner * S::kTopK
                            : kP == Phase::kOut ? S::kQDim
                                                : S::kHidden;
  static constexpr int kUnitRows = kP == Phase::kGateUp ? 2 : 1;
  static constexpr bool kNorm = kP == Phase::kQkv || kP == Phase::kGateUp || kP == Phase::kHead;
  static constexpr bool kResidual = kP == Phase::kOut || kP == Phase::kDown;
};
template <Phase kP, typename S>
__device__ __forceinline__ int UnitsOf(const Cta<S>& my) {
  return kP == Phase::kQkv      ? S::kQkvRows
         : kP == Phase::kGateUp ? S::kInner * S::kTopK
         : kP == Phase::kHead   ? my.vocab
                                : S::kHidden;
}

// Inputs and epilogues of products.
template <typename S>
struct PhaseInputs : Columns<S> {
  using Base = Columns<S>;
  using Base::my, Base::tid, Base::Normalise, Base::LoadColumns, Base::EmbeddingColumns;
  int part_buffer = 0;

  template <int kN>
  __device__ void PollColumns(const float* src, float (&a)[kN]) const {
    const float* p = src + tid * kVec;
#pragma unroll
    for (int i = 0; i < kN; i += 4) {
      const float4 v = LoadRelaxed4(p + i / kVec * kChunk + i % kVec);
      a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
    }
    bool again;
    do {
      again = false;
#pragma unroll
      for (int i = 0; i < kN; i += 4) {
        if (Unwritten(float4{a[i], a[i + 1], a[i + 2], a[i + 3]})) {
          const float4 v = LoadRelaxed4(p + i / kVec * kChunk + i % kVec);
          a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
          again = true;
        }
      }
    } while (again);
  }
  // This thread's columns of a product's input, gain multiplied in; squares: of the warps, before the gain.
  template <Phase kP, int kN, typename Wait>
  __device__ __forceinline__ const float* LoadInput(int layer, const float* gains, const float* input,
                                                    float (&a)[kN], Wait wait) {
    using P = PhaseOf<S, kP>;
    float gain[P::kNorm ? kN : 4];
    if (P::kNorm) LoadColumns(gains, gain);  // immutable: before the wait
    wait();
    if (kP == Phase::kQkv && layer == 0) {
      EmbeddingColumns(a);
    } else {
      PollColumns(input, a);
    }
    if constexpr (P::kNorm)
      return Normalise(gain, a);
    else
      return nullptr;
  }

  template <Phase kP>
  __device__ float Residual(int layer, int index, bool wanted) const {
    if (!PhaseOf<S, kP>::kResidual || !wanted) return 0.0f;
    if (kP == Phase::kDown) return __ldcg(my.layer_activations(layer) + S::kMiddle + index);
    if (layer > 0) return __ldcg(my.layer_activations(layer - 1) + S::kOut + index);
    if (my.step.embedded != nullptr) return my.step.embedded[index];
    return __bfloat162float(my.token_row()[index]) * my.step.embed_scale;
  }

  // Finishes `units` outputs (at most one per lane of warp 0) from the rows' partial sums. extra(r, y): what
  // else happens to the sum of the unit's row r.
  template <Phase kP, typename Extra>
  __device__ void Epilogue(const float* part, const float* squares, float* out, int units, float residual,
                           Extra extra) {
    using G = PhaseOf<S, kP>;
    if (tid >= units) return;
    float y[G::kUnitRows];
#pragma unroll
    for (int r = 0; r < G::kUnitRows; ++r) {
      const float4* p = reinterpret_cast<const float4*>(part + (tid * G::kUnitRows + r) * kConsumerWarps);
      const float4 a = p[0], b = p[1];
      y[r] = extra(r, ((a.x + b.x) + (a.y + b.y)) + ((a.z + b.z) + (a.w + b.w)));
    }
    if (G::kNorm) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kConsumerWarps; ++i) sum += squares[i];
      const float scale = rsqrtf(sum / G::kK + my.step.norm_eps);
#pragma unroll
      for (int r = 0; r < G::kUnitRows; ++r) y[r] *= scale;
    }
    float v = y[0] + residual;
    if (kP == Phase::kGateUp) v = GatedActivation(y[0], y[G::kUnitRows - 1], false);
    StoreRelaxed(out + tid, v);
  }
};

// A consumer thread's step.
template <typename S, typename Products>
__device__ void ConsumePhases(Products& products, int position) {
  const Cta<S>& my = products.my;
  int phase = 0;
  for (int l = 0; l < my.layers; ++l) {
    const DenseLayer weights = my.step.layers[l];
    float* acts = my.layer_activations(l);
    const float* before = l > 0 ? my.layer_activations(l - 1) + S::kOut : nullptr;
    products.template Product<Phase::kQkv>(l, weights.qkv, weights.attention_norm, before, acts + S::kQkv, [&] {
      if (l > 0) products.WaitHint(phase - 1, my.ctas);
    });
    products.Attention(DenseLayer(my.step.layers[l]), l, position, phase);  // anew: fewer registers
    products.template Product<Phase::kOut>(l, weights.out, nullptr, acts + S::kAttention, acts + S::kMiddle,
                                           [&] { products.WaitHint(phase, S::kKvHeads); });
    products.Hint(++phase);
    products.template Product<Phase::kGateUp>(l, weights.gate_up, weights.mlp_norm, acts + S::kMiddle,
                                              acts + S::kGated, [&] { products.WaitHint(phase, my.ctas); });
    products.Hint(++phase);
    products.template Product<Phase::kDown>(l, weights.down, nullptr, acts + S::kGated, acts + S::kOut,
                                            [&] { products.WaitHint(phase, my.ctas); });
    products.Hint(++phase);
    ++phase;
  }
  products.template Product<Phase::kHead>(my.layers, my.step.head, my.step.final_norm,
                                          my.layer_activations(my.layers - 1) + S::kOut, my.step.logits,
                                          [&] { products.WaitHint(phase - 1, my.ctas); });
}

// Weights: PackedProducts, with Stream<kP>(producer, matrix, layer).
template <typename S, typename Weights>
__device__ void ProducePhases(Producer<S> producer, int position) {
  const Cta<S>& my = producer.my;
  for (int l = 0; l < my.layers; ++l) {
    const DenseLayer layer = my.step.layers[l];
    Weights::template Stream<Phase::kQkv>(producer, layer.qkv, l);
    producer.Cache(layer, l, position);
    Weights::template Stream<Phase::kOut>(producer, layer.out, l);
    if constexpr (S::kExperts > 0) StreamRouter(producer, layer.router, l);
    Weights::template Stream<Phase::kGateUp>(producer, layer.gate_up, l);
    Weights::template Stream<Phase::kDown>(producer, layer.down, l);
  }
  Weights::template Stream<Phase::kHead>(producer, my.step.head, my.layers);
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_PHASES_CUH_
