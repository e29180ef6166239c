// persistent_batch_int8.cu - the persistent step of few rows with int8 weights: see persistent/batch_packed.cuh.
#include "persistent/batch_packed.cuh"

namespace dsopt_cuda {

cudaError_t BatchInt8(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  return batch::RunPackedBatch<Int8, 0>(launch, shape, step);
}

}  // namespace dsopt_cuda
