// step.cuh - the kernel of one decode step, and its launch. Products: RowProducts or PackedProducts.
#ifndef DSOPT_CUDA_PERSISTENT_STEP_CUH_
#define DSOPT_CUDA_PERSISTENT_STEP_CUH_

#include "common/launch.cuh"
#include "persistent/attention.cuh"
#include "persistent/operations.cuh"
#include "persistent/phases.cuh"

namespace dsopt_cuda::persistent {

// (cos, sin) of the position, by all consumers. Ends with a Barrier.
template <typename S, typename Products>
__device__ __forceinline__ void PrepareRope(Products& products, int position) {
  const Cta<S>& my = products.my;
  for (int i = products.tid; i < S::kHeadDim / 2; i += kConsumers) {
    // The angle is a float, as in the reference; the reduction to one turn is exact enough in double.
    const double angle = static_cast<double>(static_cast<float>(position) * my.step.inv_freq[i]);
    const float turn = static_cast<float>(angle - rint(angle * 0.15915494309189535) * 6.283185307179586);
    my.rope()[i] = {__cosf(turn) * my.step.rope_scale, __sinf(turn) * my.step.rope_scale};
  }
  products.Barrier();
}

// Consumers, a producer, a warp that marks; where the consumers have none a warp of epilogues.
template <typename S>
inline constexpr int kStepThreads = S::kEncoded ? kThreads : kThreads + 32;

template <typename S, typename Products>
__global__ __launch_bounds__(kStepThreads<S>, 1) void DensePersistent(const __grid_constant__ DenseStep step,
                                                                      int vocab, int layers) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) char shared[];
  const int tid = threadIdx.x;
  const Cta<S> my{shared, step, vocab, layers, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x)};
  if (tid == 0) {
    for (int i = 0; i < S::kSlots; ++i) {
      BarrierInit(my.full(i), 1);
      BarrierInit(my.empty(i), kConsumerWarps);
    }
    if (!S::kEncoded)
      for (int i = 0; i < kTables; ++i) {
        BarrierInit(my.table_full(i), kConsumerWarps);
        BarrierInit(my.table_empty(i), 1);
      }
    if (S::kExperts > 0) BarrierInit(my.routed(), 1);
    BarrierInitFence();
  }
  __syncthreads();
  const int position = *step.position;
  if (!S::kEncoded && tid >= kThreads) {
    if constexpr (!S::kEncoded) Epilogue<S, Products>{my, tid % 32}.Run();
  } else if (tid >= kConsumers + 32) {  // marks the next step's activations unwritten
    const size_t count = Cta<S>::step_floats(layers) / 4;
    uint4* p = reinterpret_cast<uint4*>(step.activations + (~step.step & 1) * Cta<S>::step_floats(layers));
    for (size_t i = my.cta * 32 + tid % 32; i < count; i += my.ctas * 32) {
      p[i] = make_uint4(kUnwritten, kUnwritten, kUnwritten, kUnwritten);
    }
  } else if (tid >= kConsumers) {
    if (tid == kConsumers) {
      const Producer<S> producer{my, EvictFirst()};
      if constexpr (S::kEncoded)
        ProducePhases<S, Products>(producer, position);
      else
        ProduceOperations<S, Products>(producer, position);
    }
  } else {
    Products products{my, tid};
    PrepareRope<S>(products, position);
    if constexpr (S::kEncoded)
      ConsumePhases<S>(products, position);
    else
      ConsumeOperations<S>(products, position);
  }
#endif
}

template <typename S, typename Products>
cudaError_t RunStep(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  return StartCooperative(launch, DensePersistent<S, Products>, dim3(kStepThreads<S>), S::kShared, step,
                          shape.vocab, shape.layers);
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_STEP_CUH_
