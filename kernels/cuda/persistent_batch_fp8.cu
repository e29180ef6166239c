// persistent_batch_fp8.cu - the persistent step of few rows with fp8 weights: see persistent/batch_packed.cuh.
#include "persistent/batch_packed.cuh"

namespace dsopt_cuda {

cudaError_t BatchFp8(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  return batch::RunPackedBatch<Fp8, 0>(launch, shape, step);
}

}  // namespace dsopt_cuda
