// persistent_batch_int4.cu - the persistent step of few rows with int4 weights: see persistent/batch_packed.cuh.
#include "persistent/batch_packed.cuh"

namespace dsopt_cuda {

cudaError_t BatchInt4(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  return batch::RunPackedBatch<Int4, 64>(launch, shape, step);
}

}  // namespace dsopt_cuda
