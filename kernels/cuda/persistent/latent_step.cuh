// latent_step.cuh - the kernel of one decode step with latent attention, and its launch. Products: LatentRows or
// LatentPacked.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_STEP_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_STEP_CUH_

#include "persistent/latent_attention.cuh"
#include "persistent/latent_producer.cuh"

namespace dsopt_cuda::persistent {

// A consumer thread's step, phase by phase. Six hand-overs a layer: see persistent_latent.cu.
template <typename S, typename Products>
struct LatentConsume {
  using Pairs = LatentPart;
  static constexpr int kHidden = S::kHidden, kHiddenValues = kThreadVectors<kHidden> * kVec;
  Products& at;
  int position;
  int mixtures = 0;

  __device__ int all() const { return at.my.ctas; }
  __device__ static constexpr int phase_of(int layer, int step) { return layer * 6 + step; }

  // x, with the gain multiplied in, as the input of what follows; returns its squares.
  __device__ const float* NormedInput(int layer, bool middle, const float* gains, float (&a)[kHiddenValues]) {
    if (middle) {
      at.WaitHint(phase_of(layer, 3), all());
      at.template PollSum<kHidden, S::kParts>(at.my.layer_activations(layer) + S::kMiddle, a);
    } else if (layer == 0) {
      at.Embedding(a);
    } else {
      at.WaitHint(phase_of(layer - 1, 5), all());
      at.template PollSum<kHidden, S::kParts>(at.my.layer_activations(layer - 1) + S::kOut, a);
    }
    return at.template Normalise<kHidden>(gains, a);
  }

  // q (low rank, or all of it), latent and rope part of every head's input.
  __device__ void Down(int layer, const LatentLayer& weights, float* acts) {
    float a[kHiddenValues];
    const float* squares = NormedInput(layer, false, weights.attention_norm, a);
    at.template PutInput<kHidden>(a);
    at.template Multiply<LatentPart::kDown>(weights.down, S::kDownRows, layer, a, [&](int row, float y, bool valid) {
      const float scale = at.template Scale<kHidden>(squares, at.my.step.attention_eps);
      if (valid) StoreRelaxed(acts + S::kDown + row, y * scale);
    });
    at.Hint(phase_of(layer, 0));
  }
  // This CTA's head: its query, absorbed into the space of the latents.
  __device__ void Query(int layer, const LatentLayer& weights, float* acts) {
    if (!at.my.has_head() && !at.my.appends()) return;
    at.WaitHint(phase_of(layer, 0), all());
    if (at.my.appends()) {
      at.TokenKey(weights, acts + S::kDown);
      at.AppendToken(weights, position);
      return;
    }
    float* query = at.my.floats(S::kHeadQueryAt);
    if constexpr (S::kQRank > 0) {
      constexpr int kQ = S::kQRank;
      float a[kThreadVectors<kQ> * kVec];
      at.template PollSum<kQ, 1>(acts + S::kDown, a);
      const float* squares = at.template Normalise<kQ>(weights.q_norm, a);
      at.template PutInput<kQ>(a);
      at.HeadQuery(weights.q_up, a, [&](int row, float y, bool valid) {
        if (valid) query[row] = y * at.template Scale<kQ>(squares, at.my.step.latent_eps);
      });
    } else if (at.tid < kHeadQuery / 4) {
      const float* from = acts + S::kDown + at.my.cta * kHeadQuery + 4 * at.tid;
      float4 v;
      do v = LoadRelaxed4(from);
      while (Unwritten(v));
      reinterpret_cast<float4*>(query)[at.tid] = v;
    }
    at.Barrier();
    at.AbsorbQuery();
    const float* key = at.my.floats(S::kHeadKeyAt);
    constexpr int kVectors = kLatentWidth / 8;
    if (at.tid < kVectors) {
      const uint4 v = Pack8(key + 8 * at.tid);
      float* to = acts + S::kQuery + static_cast<size_t>(at.my.cta) * (kLatentWidth / 2) + 4 * at.tid;
      StoreRelaxedWord(to, v.x), StoreRelaxedWord(to + 1, v.y), StoreRelaxedWord(to + 2, v.z), StoreRelaxedWord(to + 3, v.w);
    }
    at.Hint(phase_of(layer, 1));
    at.TokenKey(weights, acts + S::kDown);
    if (at.tid / 32 == 0) at.ScoreToken();
    at.Barrier();
  }
  __device__ void Values(int layer, float* acts) {
    if (!at.my.has_head()) return;
    const float* context = at.MergeHead(layer, position);
    at.HeadValues(context, acts + S::kAttended + at.my.cta * (kHeadValues / 2));
    at.Hint(phase_of(layer, 2));
  }
  __device__ void Out(int layer, const LatentLayer& weights, float* acts) {
    at.WaitHint(phase_of(layer, 2), S::kHeads);
    at.template MultiplyPairs<LatentPart::kOut>(weights.out, layer, acts + S::kAttended, [&](int row, float y, int part, bool valid) {
      if (valid) StoreRelaxed(acts + S::kMiddle + part * kHidden + row, y + (part == 0 ? at.LayerInput(layer, row) : 0.0f));
    });
    at.Hint(phase_of(layer, 3));
  }
  __device__ void FeedForward(int layer, const LatentLayer& weights, float* acts) {
    const bool mixture = weights.router != nullptr;
    float* gated = acts + S::kGated;
    {
      float a[kHiddenValues];
      const float* squares = NormedInput(layer, true, weights.mlp_norm, a);
      at.template PutInput<kHidden>(a);
      if (mixture) at.Route(acts + S::kRouting, a, squares);
      const auto up = [&](float* to) {
        return [=, this](int row, float y, bool valid) {
          at.StoreGated(to, row, y * at.template Scale<kHidden>(squares, at.my.step.mlp_eps), valid);
        };
      };
      at.template Multiply<LatentPart::kUp>(weights.shared_gate_up, 2 * (mixture ? S::kSharedInner : S::kDenseInner), layer, a, up(gated));
      if (mixture)
        at.template Multiply<LatentPart::kExpertsUp>(weights.expert_gate_up, 2 * S::kInner * S::kTopK, layer, a, up(gated + S::kSharedInner / 2));
    }
    at.Hint(phase_of(layer, 4));
    at.WaitHint(phase_of(layer, 4), all());
    const auto store = [&](int row, float y, int part, bool valid) {
      if (valid) StoreRelaxed(acts + S::kOut + part * kHidden + row, y + (part == 0 ? at.MiddleInput(layer, row) : 0.0f));
    };
    if (mixture) {
      BarrierWait(at.my.routed(), static_cast<uint32_t>(mixtures++ & 1));
      at.MixtureDown(weights, layer, gated, store);
    } else {
      at.template MultiplyPairs<LatentPart::kDenseDown>(weights.shared_down, layer, gated, store);
    }
    at.Hint(phase_of(layer, 5));
  }
  __device__ void Head() {
    float a[kHiddenValues];
    const int layers = at.my.layers;
    const float* squares = NormedInput(layers, false, at.my.step.final_norm, a);
    at.template PutInput<kHidden>(a);
    at.template Multiply<LatentPart::kHead>(at.my.step.head, at.my.vocab, layers, a, [&](int row, float y, bool valid) {
      if (valid) at.my.step.logits[row] = y * at.template Scale<kHidden>(squares, at.my.step.head_eps);
    });
  }
  __device__ void Run() {
    at.PrepareRope(position);
    at.Barrier();
    for (int l = 0; l < at.my.layers; ++l) {
      const LatentLayer weights = at.my.step.layers[l];
      float* acts = at.my.layer_activations(l);
      Down(l, weights, acts);
      Query(l, weights, acts);
      at.Attend(l, position, acts + S::kQuery, phase_of(l, 1));
      Values(l, acts);
      Out(l, weights, acts);
      FeedForward(l, weights, acts);
    }
    Head();
  }
};

// One warp of every CTA chooses the experts for its CTA, all from the same logits and so with the same result, while the
// shared experts are multiplied. Lane i has experts i n .. i n + n - 1, n = experts / 32, so that groups are whole lanes.
template <typename S>
__device__ void ChooseExperts(const LatentCta<S>& my, const float* logits) {
  constexpr int kPerLane = S::kExperts / 32, kGroupLanes = 32 / S::kGroups;
  static_assert(S::kExperts % 32 == 0 && 32 % S::kGroups == 0);
  const int lane = threadIdx.x % 32;
  float p[kPerLane], top = -INFINITY, sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    uint32_t v;
    do v = LoadRelaxed(reinterpret_cast<const uint32_t*>(logits) + lane * kPerLane + i);
    while (v == kUnwritten);
    p[i] = __uint_as_float(v);
    top = fmaxf(top, p[i]);
  }
  top = WarpMax(top);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    p[i] = __expf(p[i] - top);
    sum += p[i];
  }
  sum = WarpSum(sum);
  // Probabilities are not negative, so their bits are in order; 0 stands for what may not be chosen.
  uint32_t key[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    p[i] /= sum;
    key[i] = __float_as_uint(p[i]) + 1;
  }
  if constexpr (S::kGroups > 1 && S::kTopGroups < S::kGroups) {
    uint32_t best = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) best = max(best, key[i]);
#pragma unroll
    for (int m = 1; m < kGroupLanes; m *= 2) best = max(best, __shfl_xor_sync(~0u, best, m));
    bool open = false;
#pragma unroll
    for (int g = 0; g < S::kTopGroups; ++g) {
      const uint32_t most = __reduce_max_sync(~0u, best);
      const int winner = (__ffs(__ballot_sync(~0u, best == most)) - 1) / kGroupLanes;
      if (lane / kGroupLanes == winner) {
        open = true;
        best = 0;
      }
    }
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) key[i] = open ? key[i] : 0;
  }
  Route<S::kTopK>* route = my.route();
  float chosen = 0, weight[S::kTopK];
  int expert[S::kTopK];
#pragma unroll
  for (int k = 0; k < S::kTopK; ++k) {
    uint32_t best = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) best = max(best, key[i]);
    const uint32_t most = __reduce_max_sync(~0u, best);
    const int owner = __ffs(__ballot_sync(~0u, best == most)) - 1;
    int id = 0;
#pragma unroll
    for (int i = kPerLane - 1; i >= 0; --i)
      if (key[i] == most) id = i;
    if (lane == owner) {
#pragma unroll
      for (int i = 0; i < kPerLane; ++i)
        if (i == id) key[i] = 0;
    }
    expert[k] = owner * kPerLane + __shfl_sync(~0u, id, owner);
    weight[k] = __uint_as_float(most - 1);
    chosen += weight[k];
  }
  if (lane != 0) return;
  const float factor = my.step.renormalise != 0 ? my.step.route_scale / chosen : my.step.route_scale;
#pragma unroll
  for (int k = 0; k < S::kTopK; ++k) {
    route->expert[k] = expert[k];
    route->weight[k] = weight[k] * factor;
  }
  BarrierArrive(my.routed());
}

// The warp beside producer and consumers: marks the next step's activations unwritten, then chooses the experts.
template <typename S>
__device__ void MarkAndRoute(const LatentCta<S>& my) {
  const int lane = threadIdx.x % 32;
  const size_t count = LatentCta<S>::step_floats(my.layers) / 4;
  uint4* p = reinterpret_cast<uint4*>(my.step.activations + (~my.step.step & 1) * LatentCta<S>::step_floats(my.layers));
  for (size_t i = static_cast<size_t>(my.cta) * 32 + lane; i < count; i += static_cast<size_t>(my.ctas) * 32)
    p[i] = make_uint4(kUnwritten, kUnwritten, kUnwritten, kUnwritten);
  for (int l = 0; l < my.layers; ++l) {
    if (my.step.layers[l].router == nullptr) continue;
    // Nothing to look for before the layer's attention is done.
    const uint32_t target = (my.step.step + 1) * static_cast<uint32_t>(my.ctas);
    while (static_cast<int32_t>(LoadRelaxed(my.step.counters + (l * 6 + 3) * 32) - target) < 0) __nanosleep(200);
    ChooseExperts<S>(my, my.layer_activations(l) + S::kRouting);
  }
}

template <typename S, typename Products>
__global__ __launch_bounds__(kThreads, 1) void LatentPersistent(const __grid_constant__ LatentStep step, int vocab, int layers) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) char shared[];
  const int tid = threadIdx.x;
  const LatentCta<S> my{shared, step, vocab, layers, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x)};
  if (tid == 0) {
    for (int i = 0; i < S::kSlots; ++i) {
      BarrierInit(my.full(i), 1);
      BarrierInit(my.empty(i), kConsumerWarps);
    }
    BarrierInit(my.routed(), 1);
    BarrierInitFence();
  }
  __syncthreads();
  const int position = *step.position;
  if (tid >= kConsumers + 32) {
    MarkAndRoute<S>(my);
  } else if (tid >= kConsumers) {
    ProduceLatent<S, Products>(LatentProducer<S>{my, EvictFirst()}, position);
  } else {
    Products products{my, tid};
    LatentConsume<S, Products>{products, position}.Run();
  }
#endif
}

template <typename S>
bool LatentMatches(const LatentShape& s) {
  return s.hidden == S::kHidden && s.heads == S::kHeads && s.q_rank == S::kQRank && s.latent == kLatent && s.nope == kNope &&
         s.rope == kLatentRope && s.v_dim == kHeadValues && s.inner == S::kInner && s.shared_inner == S::kSharedInner &&
         s.dense_inner == S::kDenseInner && s.experts == S::kExperts && s.top_k == S::kTopK &&
         (s.groups > 1 ? s.groups : 1) == S::kGroups && (S::kGroups == 1 || s.top_groups == S::kTopGroups);
}

template <typename S, typename Products>
cudaError_t RunLatentStep(const Launch& launch, const LatentShape& shape, const LatentStep& step) {
  const cudaError_t error = cudaFuncSetAttribute(LatentPersistent<S, Products>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kShared);
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(launch.limits->sms));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = S::kShared;
  config.stream = launch.stream;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeCooperative;  // all CTAs must be resident: they wait for each other
  attribute.val.cooperative = 1;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, LatentPersistent<S, Products>, step, shape.vocab, shape.layers);
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_STEP_CUH_
