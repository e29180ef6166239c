// latent_step.cuh - the kernel of one decode step with latent attention, and its launch. Products: LatentRows
// or LatentPacked.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_STEP_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_STEP_CUH_

#include "common/launch.cuh"
#include "persistent/latent_attention.cuh"
#include "persistent/latent_producer.cuh"
#include "persistent/latent_side.cuh"

namespace dsopt_cuda::persistent {

// A consumer thread's step, half a layer at a time. Six hand-overs a layer: see persistent_latent.cu.
template <typename S, typename Products>
struct LatentConsume {
  static constexpr int kHidden = S::kHidden, kHiddenValues = kThreadVectors<kHidden> * kVec;
  Products& at;
  int position;
  int mixtures = 0;

  __device__ int all() const { return at.my.ctas; }
  __device__ static constexpr int phase_of(int layer, int step) { return layer * kLatentPhases + step; }

  // What follows from a thread's and a CTA's number is cheap to compute, registers to keep it all are not.
  __device__ __forceinline__ void Forget() {
    int tid, cta, ctas;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(tid));
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(cta));
    asm volatile("mov.u32 %0, %%nctaid.x;" : "=r"(ctas));
    asm volatile("" : "+r"(position));
    __builtin_assume(tid >= 0 && tid < kConsumers);
    __builtin_assume(cta >= 0 && cta < ctas);
    __builtin_assume(position >= 0);
    at.tid = tid, at.my.cta = cta, at.my.ctas = ctas;
  }

  // x, with the gain multiplied in, as the input of what follows; returns 1 / rms.
  __device__ __forceinline__ float NormedInput(int layer, bool middle, const float* gains, float eps,
                                               float (&a)[kHiddenValues]) {
    float gain[kHiddenValues];
    at.template LoadGains<kHidden>(gains, gain);
    if (!middle && layer == 0) {
      at.Embedding(a);
    } else {
      at.WaitHint(middle ? phase_of(layer, 3) : phase_of(layer - 1, 5), all());
      at.template PollSum<kHidden, S::kParts>(Residual(layer, middle), a);
    }
    const float* squares = at.Normalise(gain, a);
    at.template PutInput<kHidden>(a);
    return at.template Scale<kHidden>(squares, eps);
  }
  // The residual stream before a layer's attention or, in its middle, before its feed-forward; null: the
  // embedding.
  __device__ const float* Residual(int layer, bool middle) const {
    if (middle) return at.my.layer_activations(layer) + S::kMiddle;
    return layer > 0 ? at.my.layer_activations(layer - 1) + S::kOut : nullptr;
  }

  // What begins a half of a layer, and the head: products of the normalised residual stream. Before attention q
  // (low rank, or all of it), latent and rope part of every head's input; before the feed-forward the router,
  // gate and up.
  __device__ __forceinline__ void Begin(int layer, bool middle, const LatentLayer& weights, float* acts) {
    const bool head = layer == at.my.layers, mixture = middle && weights.router != nullptr;
    const LatentStep& step = at.my.step;
    float a[kHiddenValues];
    const float* gains = head ? step.final_norm : middle ? weights.mlp_norm : weights.attention_norm;
    const float eps = head ? step.head_eps : middle ? step.mlp_eps : step.attention_eps;
    const float scale = NormedInput(layer, middle, gains, eps, a);
    if (mixture) at.RouterLogits(acts + S::kRouting, a, scale);
    LatentPart part = head ? LatentPart::kHead : middle ? LatentPart::kUp : LatentPart::kDown;
#pragma unroll 1
    for (;; part = LatentPart::kExpertsUp) {
      at.Multiply(part, RowsOf<S>(part, mixture, at.my.vocab), layer, a, [&](int row, float y, bool valid) {
        y *= scale;
        if (part == LatentPart::kHead) {
          if (valid) step.logits[row] = y;
        } else if (part == LatentPart::kDown) {
          if (valid) StoreRelaxed(acts + S::kDown + row, y);
        } else {
          at.StoreGated(acts + S::kGated + (part == LatentPart::kUp ? 0 : S::kSharedInner / 2), row, y, valid);
        }
      });
      if (!mixture || part == LatentPart::kExpertsUp) break;
    }
    if (!head) at.Hint(phase_of(layer, middle ? 4 : 0));
  }
  // This CTA's head: its query, absorbed into the space of the latents.
  __device__ void Query(int layer, const LatentLayer& weights, float* acts) {
    if (!at.my.has_head()) return;
    float* query = at.my.floats(S::kHeadQueryAt);
    if constexpr (S::kQRank > 0) {
      constexpr int kQ = S::kQRank;
      float a[kThreadVectors<kQ> * kVec], gain[kThreadVectors<kQ> * kVec];
      at.template LoadGains<kQ>(weights.q_norm, gain);
      at.WaitHint(phase_of(layer, 0), all());
      at.template PollSum<kQ, 1>(acts + S::kDown, a);
      const float* squares = at.Normalise(gain, a);
      at.template PutInput<kQ>(a);
      const float scale = at.template Scale<kQ>(squares, at.my.step.latent_eps);
      at.HeadQuery(a, [&](int row, float y, bool valid) {
        if (valid) query[row] = y * scale;
      });
    } else {
      at.WaitHint(phase_of(layer, 0), all());
      if (at.tid < kHeadQuery / 4) {
        const float* from = acts + S::kDown + at.my.cta * kHeadQuery + 4 * at.tid;
        float4 v;
        do v = LoadRelaxed4(from);
        while (Unwritten(v));
        reinterpret_cast<float4*>(query)[at.tid] = v;
      }
    }
    at.Barrier();
    at.AbsorbQuery();
    const float* key = at.my.floats(S::kHeadKeyAt);
    constexpr int kVectors = kLatentWidth / 8;
    if (at.tid < kVectors) {
      const uint4 v = Pack8(key + 8 * at.tid);
      float* to = acts + S::kQuery + static_cast<size_t>(at.my.cta) * (kLatentWidth / 2) + 4 * at.tid;
      StoreRelaxedWord(to, v.x), StoreRelaxedWord(to + 1, v.y), StoreRelaxedWord(to + 2, v.z),
          StoreRelaxedWord(to + 3, v.w);
    }
    at.Hint(phase_of(layer, 1));
    if (at.tid / 32 == kConsumerWarps - 1) at.ScoreToken(layer);
  }
  __device__ void Values(int layer, float* acts) {
    if (!at.my.has_head()) return;
    at.Barrier();  // the token's score
    const float* context = at.MergeHead(layer, position);
    at.HeadValues(context, acts + S::kAttended + at.my.cta * (kHeadValues / 2));
    at.Hint(phase_of(layer, 2));
  }
  // What ends a half: out, or the down projections, added to the residual stream.
  __device__ __forceinline__ void End(int layer, bool middle, const LatentLayer& weights, float* acts) {
    at.WaitHint(phase_of(layer, middle ? 4 : 2), middle ? all() : S::kHeads);
    LatentPart part = LatentPart::kOut;
    if (middle && weights.router != nullptr) {
      part = LatentPart::kMixtureDown;
      BarrierWait(at.my.routed(), static_cast<uint32_t>(mixtures++ & 1));
    } else if (middle) {
      part = LatentPart::kDenseDown;
    }
    const float* residual = Residual(layer, middle);
    float* to = acts + (middle ? S::kOut : S::kMiddle);
    at.MultiplyPairs(
        part, layer, acts + (middle ? S::kGated : S::kAttended), [&](int row, float y, int half, bool valid) {
          if (valid)
            StoreRelaxed(to + half * kHidden + row, y + (half == 0 ? at.ResidualRow(residual, row) : 0.0f));
        });
    at.Hint(phase_of(layer, middle ? 5 : 3));
  }
  __device__ void Run() {
    at.PrepareRope(position);
    at.Barrier();
    // Halves of layers: attention, then, from the middle on, the feed-forward. What both have is the same code:
    // a layer's code should fit into the instruction cache.
#pragma unroll 1
    for (int half = 0;; ++half) {
      Forget();
      const int l = half / 2;
      const bool middle = half % 2 != 0;
      const LatentLayer& weights = at.my.step.layers[l];
      float* acts = at.my.layer_activations(l);
      Begin(l, middle, weights, acts);
      if (l == at.my.layers) break;
      if (!middle) {
        Forget();
        Query(l, weights, acts);
        Forget();
        at.Attend(l, position, acts + S::kQuery, phase_of(l, 1));
        Forget();
        Values(l, acts);
      }
      Forget();
      End(l, middle, weights, acts);
    }
  }
};

// Registers of a thread of two warpgroups of consumers, of scores, and of the warps beside: together 4 * 128.
inline constexpr int kConsumerRegisters = 192, kScoreRegisters = 64, kBesideRegisters = 64;

template <typename S, typename Products>
__global__ __launch_bounds__(S::kThreads, 1) void LatentPersistent(const __grid_constant__ LatentStep step,
                                                                   int vocab, int layers) {
#ifdef DSOPT_CUDA_WGMMA
  extern __shared__ __align__(1024) char shared[];  // atoms of TileMemory
  const int tid = threadIdx.x;
  const LatentCta<S> my{shared, step, vocab, layers, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x)};
  const int position = *step.position;
  if (tid == 0) {
    for (int i = 0; i < S::kSlots; ++i) {
      BarrierInit(my.full(i), 1);
      BarrierInit(my.empty(i), kConsumerWarps);
    }
    BarrierInit(my.routed(), 1);
    BarrierInit(my.token_ready(), 1);
    BarrierInit(my.chosen(), 1);
    if constexpr (S::kTiled) {
      for (int i = 0; i < TileMemory::kStages * LatentTile::kParts; ++i) {
        BarrierInit(my.keys_full(0, i), 1);
        BarrierInit(my.keys_empty(0, i), kWarpgroup / 32);  // the values of a half
      }
      BarrierInit(my.rope_full(), 1);
      BarrierInit(my.rope_empty(), kWarpgroup / 32);
      BarrierInit(my.queries_ready(), kConsumerWarps);
      BarrierInit(my.sent(), kWarpgroup / 32);
      BarrierInit(my.taken(), kConsumerWarps);
      my.pages() = PageRange::Of<S>(position, my.cta, my.ctas);
    }
    BarrierInitFence();
  }
  __syncthreads();
  const auto produce = [&] { ProduceLatent<S, Products>(LatentProducer<S>{my, EvictFirst()}, position); };
  const auto consume = [&] {
    Products products{my, tid};
    LatentConsume<S, Products>{products, position}.Run();
  };
  const int warp = __shfl_sync(~0u, tid / 32, 0);
  if constexpr (S::kTiled) {
    constexpr int kProducer = kConsumerWarps + 4;
    if (warp < kConsumerWarps) {
      TakeRegisters<kConsumerRegisters>();
      consume();
    } else if (warp < kProducer) {
      GiveRegisters<kScoreRegisters>();
      ScoreTiles<S>(my, position);
    } else {
      GiveRegisters<kBesideRegisters>();
      if (warp == kProducer)
        produce();
      else if (warp == kProducer + 1)
        BesideConsumers(my, position);
    }
  } else {
    if (warp < kConsumerWarps)
      consume();
    else if (warp == kConsumerWarps)
      produce();
    else
      BesideConsumers(my, position);
  }
#endif
}

template <typename S>
bool LatentMatches(const LatentShape& s) {
  return s.hidden == S::kHidden && s.heads == S::kHeads && s.q_rank == S::kQRank && s.latent == kLatent &&
         s.nope == kNope && s.rope == kLatentRope && s.v_dim == kHeadValues && s.inner == S::kInner &&
         s.shared_inner == S::kSharedInner && s.dense_inner == S::kDenseInner && s.experts == S::kExperts &&
         s.top_k == S::kTopK && (s.groups > 1 ? s.groups : 1) == S::kGroups &&
         (S::kGroups == 1 || s.top_groups == S::kTopGroups);
}

template <typename S, typename Products>
cudaError_t RunLatentStep(const Launch& launch, const LatentShape& shape, const LatentStep& step) {
  return StartCooperative(launch, LatentPersistent<S, Products>, dim3(S::kThreads), S::kShared, step,
                          shape.vocab, shape.layers);
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_STEP_CUH_
