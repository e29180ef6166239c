// consumer.cuh - what the consumer warps of the persistent decode steps share, with latent attention or
// without: the ring's far end and hand-overs between phases.
#ifndef DSOPT_CUDA_PERSISTENT_CONSUMER_CUH_
#define DSOPT_CUDA_PERSISTENT_CONSUMER_CUH_

#include "persistent/shape.cuh"

namespace dsopt_cuda::persistent {

// Sums kRows values over the warp at once; lane l returns the sum of row l / (32 / kRows).
template <int kRows>
__device__ __forceinline__ float ReduceRows(float (&v)[kRows], int lane) {
  int m = 16;
#pragma unroll
  for (int n = kRows; n > 1; n /= 2, m /= 2) {
    const bool high = lane & m;
#pragma unroll
    for (int i = 0; i < n / 2; ++i) {
      const float keep = high ? v[i + n / 2] : v[i], send = high ? v[i] : v[i + n / 2];
      v[i] = keep + __shfl_xor_sync(~0u, send, m);
    }
  }
#pragma unroll
  for (; m > 0; m /= 2) v[0] += __shfl_xor_sync(~0u, v[0], m);
  return v[0];
}

// C: what a CTA knows of the step, Cta<S> or LatentCta<S>.
template <typename S, typename C>
struct Consumer {
  C my;
  int tid;
  int slot = 0;
  uint32_t parity = 0;
  int norm_buffer = 0;  // two sets of sums of squares take turns

  __device__ static void Barrier() { NamedBarrier<1>(kConsumers); }
  __device__ void NextSlot() {
    __syncwarp();
    if (tid % 32 == 0) BarrierArrive(my.empty(slot));
    if (++slot == S::kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }

  // One thread waits for the hint that `writers` CTAs have finished phase `phase`. kAcquire: what they wrote is
  // seen then, also what has no mark.
  template <bool kAcquire = false>
  __device__ void WaitHint(int phase, int writers) const {
    if (tid == 0) {
      const uint32_t target = (my.step.step + 1) * static_cast<uint32_t>(writers);
      const uint32_t* counter = my.step.counters + phase * 32;
      while (static_cast<int32_t>(LoadRelaxed(counter) - target) < 0) {
      }
      if constexpr (kAcquire) __threadfence();
    }
    Barrier();
  }
  // Multiplies the gain into a; returns the warps' sums of squares before that, complete after the next
  // Barrier.
  template <int kN>
  __device__ __forceinline__ const float* Normalise(const float (&gain)[kN], float (&a)[kN]) {
    float sum[1] = {0};
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      sum[0] = fmaf(a[i], a[i], sum[0]);
      a[i] *= gain[i];
    }
    const float total = ReduceRows<1>(sum, tid % 32);
    float* squares = my.floats(S::kSquaresAt) + norm_buffer * kConsumerWarps;
    if (tid % 32 == 0) squares[tid / 32] = total;
    norm_buffer ^= 1;
    return squares;
  }
  // Warp 0 alone wrote the phase's outputs.
  __device__ void Hint(int phase) {
    __syncwarp();
    if (tid == 0) AddRelaxed(my.step.counters + phase * 32, 1);
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_CONSUMER_CUH_
