// persistent_batch_fp8.cu - the persistent step of few rows with fp8 weights, one scale per row.
#include "persistent/batch_encoded.cuh"

namespace dsopt_cuda {

cudaError_t BatchFp8(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  return batch::RunEncoded<Fp8, 0, 0>(launch, shape, step);
}

}  // namespace dsopt_cuda
