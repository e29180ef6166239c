// persistent_int4_cache.cu - the persistent decode step over an int4 cache. What the step is:
// persistent_dense.cu.
#include "persistent/shapes.cuh"

namespace dsopt_cuda {

cudaError_t DenseInt4CacheDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  return shape.packing != Packing::kNone ? persistent::RunPacked<CacheCode::kInt4>(launch, shape, step)
                                         : persistent::RunRows<CacheCode::kInt4>(launch, shape, step);
}

}  // namespace dsopt_cuda
