// persistent_batch_lossless12.cu - the persistent step of few rows with lossless12 weights.
#include "persistent/batch_encoded.cuh"

namespace dsopt_cuda {

cudaError_t BatchLossless12(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  return batch::RunEncoded<Lossless12, 64, 128>(launch, shape, step);
}

}  // namespace dsopt_cuda
