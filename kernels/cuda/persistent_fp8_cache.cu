// persistent_fp8_cache.cu - the persistent decode step over an fp8 (e4m3) cache. What the step is:
// persistent_dense.cu.
#include "persistent/shapes.cuh"

namespace dsopt_cuda {

cudaError_t DenseFp8CacheDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  return shape.packing != Packing::kNone ? persistent::RunPacked<CacheCode::kFp8>(launch, shape, step)
                                         : persistent::RunRows<CacheCode::kFp8>(launch, shape, step);
}

}  // namespace dsopt_cuda
