// mixture.cuh - the router of a mixture inside the persistent decode step. Every CTA computes it for itself, in
// the same order and so with the same result: that costs L2 reads of the router's weights, and saves a
// hand-over.
#ifndef DSOPT_CUDA_PERSISTENT_MIXTURE_CUH_
#define DSOPT_CUDA_PERSISTENT_MIXTURE_CUH_

#include "persistent/attention.cuh"

namespace dsopt_cuda::persistent {

template <typename S, typename Inputs>
struct Mixture : AttentionPhase<S, Inputs> {
  using Base = AttentionPhase<S, Inputs>;
  using Base::Barrier, Base::NextSlot;
  using Base::my, Base::tid, Base::slot, Base::parity;

  // Softmax over the experts, the kTopK largest (ties: the lower id), told to the producer and kept for the
  // down projections. a: this thread's columns of the input, gain multiplied in; squares: of the warps, before
  // the gain.
  template <int kN>
  __device__ void ChooseExperts(const float (&a)[kN], const float* squares) {
    static_assert(S::kExperts == 8 && S::kSlotBytes / (S::kHidden * 4) >= 1);
    constexpr int kPerSlot = S::kSlotBytes / (S::kHidden * 4), kSlotsWanted = S::kExperts / kPerSlot;
    const int lane = tid % 32, warp = tid / 32;
    float sum[S::kExperts];
#pragma unroll
    for (int i = 0; i < kSlotsWanted; ++i) {
      BarrierWait(my.full(slot), parity);
      const float* weights = reinterpret_cast<const float*>(my.shared + slot * S::kSlotBytes) + tid * kVec;
#pragma unroll
      for (int e = 0; e < kPerSlot; ++e) {
        float s = 0;
#pragma unroll
        for (int j = 0; j < kN; j += 4) {
          const float4 w =
              *reinterpret_cast<const float4*>(weights + e * S::kHidden + j / kVec * kChunk + j % kVec);
          s = fmaf(a[j], w.x, fmaf(a[j + 1], w.y, fmaf(a[j + 2], w.z, fmaf(a[j + 3], w.w, s))));
        }
        sum[i * kPerSlot + e] = s;
      }
      NextSlot();
    }
    float* part = my.floats(S::kRouterAt);
    const float total = ReduceRows<S::kExperts>(sum, lane);
    if (lane % (32 / S::kExperts) == 0) part[lane / (32 / S::kExperts) * kConsumerWarps + warp] = total;
    Barrier();
    if (warp != 0) return;
    float square = 0, logit = -INFINITY;
#pragma unroll
    for (int i = 0; i < kConsumerWarps; ++i) square += squares[i];
    if (lane < S::kExperts) {
      logit = 0;
#pragma unroll
      for (int i = 0; i < kConsumerWarps; ++i) logit += part[lane * kConsumerWarps + i];
      logit *= rsqrtf(square / S::kHidden + my.step.norm_eps);
    }
    // In the order of unsigned numbers; 0 stands for what may not be chosen.
    uint32_t key = __float_as_uint(logit);
    key = lane < S::kExperts ? key ^ (static_cast<int32_t>(key) < 0 ? ~0u : 0x80000000u) : 0;
    Route<S::kTopK>* route = my.route();
    int chosen = -1;  // which of them this lane's expert is
#pragma unroll
    for (int k = 0; k < S::kTopK; ++k) {
      const int expert = __ffs(__ballot_sync(~0u, key == __reduce_max_sync(~0u, key))) - 1;
      if (lane == expert) {
        route->expert[k] = expert;
        chosen = k;
        key = 0;
      }
    }
    __syncwarp();
    if (lane == 0) BarrierArrive(my.routed());
    // The producer fetches the experts' weights meanwhile.
    const float top = WarpMax(logit), e = lane < S::kExperts ? __expf(logit - top) : 0.0f;
    const float weight = e / WarpSum(e), all = WarpSum(chosen >= 0 ? weight : 0.0f);
    if (chosen >= 0)
      route->weight[chosen] =
          my.step.renormalise != 0 ? weight * (my.step.route_scale / all) : weight * my.step.route_scale;
  }

  // The down projections' input: expert k's values times its weight.
  template <int kN>
  __device__ void WeighExperts(float (&a)[kN]) const {
#pragma unroll
    for (int i = 0; i < kN; ++i) a[i] *= my.route()->weight[i / (kN / S::kTopK)];
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_MIXTURE_CUH_
