// persistent_batch_int4.cu - the persistent step of few rows with int4 weights.
#include "persistent/batch_encoded.cuh"

namespace dsopt_cuda {

cudaError_t BatchInt4(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  switch (shape.model.group) {
    case 32:
      return batch::RunEncoded<Int4, 32, 32>(launch, shape, step);
    case 64:
      return batch::RunEncoded<Int4, 64, 64>(launch, shape, step);
    default:
      return batch::RunEncoded<Int4, 64, 128>(launch, shape, step);
  }
}

}  // namespace dsopt_cuda
