// operations.cuh - the persistent decode step as a loop over its products: qkv | attention, out | gate and up |
// down of each layer, then the head. Products: RowProducts.
#ifndef DSOPT_CUDA_PERSISTENT_OPERATIONS_CUH_
#define DSOPT_CUDA_PERSISTENT_OPERATIONS_CUH_

#include "persistent/epilogue.cuh"
#include "persistent/operation.cuh"
#include "persistent/producer.cuh"

namespace dsopt_cuda::persistent {

// A consumer thread's step.
template <typename S, typename Products>
__device__ void ConsumeOperations(Products& products, int position) {
  const Cta<S>& my = products.my;
  DenseLayer weights;
#pragma unroll 1
  for (int n = 0; n <= my.layers * kProducts; ++n) {
    const Operation<S> op(my, n);
    if (op.phase == Phase::kQkv) weights = my.step.layers[op.layer];
    if (op.phase == Phase::kOut) products.Attention(weights, op.layer, position, n - 1);
    products.Multiply(op, weights);
  }
}

template <typename S, typename Products>
__device__ void ProduceOperations(Producer<S> producer, int position) {
  const Cta<S>& my = producer.my;
  DenseLayer layer;
#pragma unroll 1
  for (int n = 0; n <= my.layers * kProducts; ++n) {
    const Operation<S> op(my, n);
    if (op.phase == Phase::kQkv) layer = my.step.layers[op.layer];
    if (op.phase == Phase::kOut) producer.Cache(layer, op.layer, position);
    if constexpr (S::kExperts > 0)
      if (op.phase == Phase::kGateUp) StreamRouter(producer, layer.router, op.layer);
    Products::Stream(producer, op, static_cast<const char*>(op.matrix(my, layer).data));
  }
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_OPERATIONS_CUH_
