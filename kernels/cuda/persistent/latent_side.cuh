// latent_side.cuh - the warp beside producer and consumers of the latent step: it marks the next step's
// activations unwritten, makes and stores the current token's key, and chooses the experts, all while the
// consumers multiply.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_SIDE_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_SIDE_CUH_

#include "persistent/latent_consumer.cuh"

namespace dsopt_cuda::persistent {

template <typename S>
__device__ void AwaitPhase(const LatentCta<S>& my, int phase, int writers) {
  const uint32_t target = (my.step.step + 1) * static_cast<uint32_t>(writers);
  while (static_cast<int32_t>(LoadRelaxed(my.step.counters + phase * 32) - target) < 0) __nanosleep(100);
}

// Every CTA chooses for itself, all from the same logits and so with the same result; the producer learns the
// experts before their weights are known. Lane i has experts i n .. i n + n - 1, n = experts / 32, so that
// groups are whole lanes.
template <typename S>
__device__ void ChooseExperts(const LatentCta<S>& my, const float* logits) {
  constexpr int kPerLane = S::kExperts / 32, kGroupLanes = 32 / S::kGroups;
  static_assert(S::kExperts % 32 == 0 && 32 % S::kGroups == 0);
  const int lane = threadIdx.x % 32;
  // Logits in the order of unsigned numbers; 0 stands for what may not be chosen.
  uint32_t key[kPerLane];
  float logit[kPerLane];
  bool again;
  do {
    again = false;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      key[i] = LoadRelaxed(reinterpret_cast<const uint32_t*>(logits) + lane * kPerLane + i);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) again |= key[i] == kUnwritten;
  } while (__any_sync(~0u, again));
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    logit[i] = __uint_as_float(key[i]);
    key[i] ^= static_cast<int32_t>(key[i]) < 0 ? ~0u : 0x80000000u;
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
  float mine = 0;
#pragma unroll 1
  for (int k = 0; k < S::kTopK; ++k) {
    uint32_t best = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) best = max(best, key[i]);
    const uint32_t most = __reduce_max_sync(~0u, best);
    const int owner = __ffs(__ballot_sync(~0u, best == most)) - 1;
    if (lane == owner) {
      int id = 0;
#pragma unroll
      for (int i = kPerLane - 1; i >= 0; --i) id = key[i] == most ? i : id;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) key[i] = i == id ? 0 : key[i];
      route->expert[k] = owner * kPerLane + id;
    }
    const float chosen = __uint_as_float(most ^ (static_cast<int32_t>(most) < 0 ? 0x80000000u : ~0u));
    mine = lane == k ? chosen : mine;
  }
  __syncwarp();
  if (lane == 0) BarrierArrive(my.chosen());
  // Softmax over all experts, those of closed groups too.
  float all = -INFINITY, sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) all = fmaxf(all, logit[i]);
  all = WarpMax(all);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) sum += __expf(logit[i] - all);
  sum = WarpSum(sum);
  const float weight = lane < S::kTopK ? __expf(mine - all) / sum : 0.0f;
  const float factor = my.step.renormalise != 0 ? my.step.route_scale / WarpSum(weight) : my.step.route_scale;
  if (lane < S::kTopK) route->weight[lane] = weight * factor;
  __syncwarp();
  if (lane == 0) BarrierArrive(my.routed());
}

// The current token's key: normalised latent | rotated rope part, rounded as in the cache, for the head of this
// CTA or for the cache. turn: of rotary pair `lane`.
template <typename S>
__device__ void MakeTokenKey(const LatentCta<S>& my, int layer, int position, float2 turn) {
  constexpr int kQuads = kLatent / 4 / 32;
  const int lane = threadIdx.x % 32;
  const LatentLayer& weights = my.step.layers[layer];
  const float* from = my.layer_activations(layer) + S::kDown + S::kQPart;
  float4 gain[kQuads], v[kQuads], rope;
#pragma unroll
  for (int i = 0; i < kQuads; ++i)
    gain[i] = __ldg(reinterpret_cast<const float4*>(weights.latent_norm) + lane + 32 * i);
  AwaitPhase(my, layer * kLatentPhases, my.ctas);
  bool again;
  do {
    again = false;
#pragma unroll
    for (int i = 0; i < kQuads; ++i) v[i] = LoadRelaxed4(from + 4 * (lane + 32 * i));
    rope = LoadRelaxed4(from + kLatent + 4 * (lane % 16));
#pragma unroll
    for (int i = 0; i < kQuads; ++i) again |= Unwritten(v[i]);
    again |= Unwritten(rope);
  } while (again);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kQuads; ++i)
    sum += v[i].x * v[i].x + v[i].y * v[i].y + (v[i].z * v[i].z + v[i].w * v[i].w);
  const float scale = rsqrtf(WarpSum(sum) / kLatent + my.step.latent_eps);
  float* token = my.floats(S::kTokenAt);
#pragma unroll
  for (int i = 0; i < kQuads; ++i)
    reinterpret_cast<float4*>(token)[lane + 32 * i] = {
        Rounded(v[i].x * scale * gain[i].x), Rounded(v[i].y * scale * gain[i].y),
        Rounded(v[i].z * scale * gain[i].z), Rounded(v[i].w * scale * gain[i].w)};
  if (lane < 16) reinterpret_cast<float4*>(token + kLatent)[lane] = rope;
  __syncwarp();
  const bool interleaved = my.step.interleaved != 0;
  const int first = interleaved ? 2 * lane : lane, second = interleaved ? first + 1 : lane + kLatentRope / 2;
  RotatePair(turn, interleaved, token + kLatent, token + kLatent, lane);
  token[kLatent + first] = Rounded(token[kLatent + first]);
  token[kLatent + second] = Rounded(token[kLatent + second]);
  __syncwarp();
  if (my.has_head() && lane == 0) BarrierArrive(my.token_ready());
  if (!my.appends()) return;
  char* page = my.step.cache + weights.cache_offset +
               static_cast<uint64_t>(__ldg(my.step.pages + position / kPageTokens)) * my.step.page_bytes;
  uint32_t* row = reinterpret_cast<uint32_t*>(page + position % kPageTokens * kKeyBytes);
#pragma unroll 1
  for (int i = lane; i < kLatentWidth / 2; i += 32) row[i] = PackBf16(token[2 * i], token[2 * i + 1]);
}

template <typename S>
__device__ void BesideConsumers(const LatentCta<S>& my, int position) {
  const int lane = threadIdx.x % 32;
  constexpr size_t kLayerQuads = S::kLayer / 4;
  static_assert(kLayerQuads * 4 == S::kLayer);
  uint4* p = reinterpret_cast<uint4*>(my.step.activations +
                                      (~my.step.step & 1) * LatentCta<S>::step_floats(my.layers));
  const float2 turn = RopeTurn(my.step, position, lane);
  const auto mark = [&](size_t from, size_t to) {
#pragma unroll 1
    for (size_t i = from + static_cast<size_t>(my.cta) * 32 + lane; i < to;
         i += static_cast<size_t>(my.ctas) * 32)
      p[i] = make_uint4(kUnwritten, kUnwritten, kUnwritten, kUnwritten);
  };
  for (int l = 0; l < my.layers; ++l) {
    if (my.has_head() || my.appends()) MakeTokenKey(my, l, position, turn);
    mark(kLayerQuads * l, kLayerQuads * (l + 1));
    if (my.step.layers[l].router == nullptr) continue;
    AwaitPhase(my, l * kLatentPhases + 2, S::kHeads);  // nothing to look for before
    ChooseExperts<S>(my, my.layer_activations(l) + S::kRouting);
  }
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_SIDE_CUH_
