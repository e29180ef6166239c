// persistent_batch_lossless12.cu - the persistent step of few rows with lossless12 weights: see persistent/batch_packed.cuh.
#include "persistent/batch_packed.cuh"

namespace dsopt_cuda {

cudaError_t BatchLossless12(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  return batch::RunPackedBatch<Lossless12, 64>(launch, shape, step);
}

}  // namespace dsopt_cuda
