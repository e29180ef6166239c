// persistent_packed.cu - the persistent decode step with encoded weights: shapes, formats, which of them a
// model gets. What the step is: persistent_dense.cu.
//
// bytes   codes once, the cache once      bound: DRAM; int4 near the issue rate of the eight consumer warps
#include "persistent/packed.cuh"
#include "persistent/step.cuh"

namespace dsopt_cuda {
namespace {

using persistent::PackedProducts;
using persistent::Shape;

// Slots hold a piece of codes or 64 tokens of keys and values of one head; the rest of shared memory keeps the
// inputs.
using Mistral7b = Shape<4096, 14336, 128, 32, 8, 32768, 6, 2, 4, 14336>;  // and Llama-3-8B
using Mistral7bInt4 = Shape<4096, 14336, 128, 32, 8, 33792, 5, 2, 4, 14336>;
using Llama1b = Shape<2048, 8192, 64, 32, 8, 24960, 8, 2, 4, 8192>;
using Llama1bInt4 = Shape<2048, 8192, 64, 32, 8, 16896, 12, 3, 6, 8192>;
using Llama70b = Shape<8192, 28672, 128, 64, 8, 32768, 5, 2, 4, 28672>;
using Llama70bInt4 = Shape<8192, 28672, 128, 64, 8, 33792, 5, 2, 4, 28672>;
using Mixtral = Shape<4096, 14336, 128, 32, 8, 32768, 5, 2, 4, 28672, 2, 8>;
using MixtralInt4 = Shape<4096, 14336, 128, 32, 8, 33792, 5, 2, 4, 28672, 2, 8>;

// Scales by 64 columns: pieces are 3 % larger.
using Mistral7bInt4By64 = Shape<4096, 14336, 128, 32, 8, 34816, 5, 2, 4, 14336>;
using Llama1bInt4By64 = Shape<2048, 8192, 64, 32, 8, 17408, 12, 3, 6, 8192>;
using Llama70bInt4By64 = Shape<8192, 28672, 128, 64, 8, 32768, 5, 2, 4, 28672>;
using MixtralInt4By64 = Shape<4096, 14336, 128, 32, 8, 32768, 5, 2, 4, 28672, 2, 8>;

template <typename S, typename SInt4, typename SInt4By64>
cudaError_t RunFormat(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  switch (shape.packing) {
    case Packing::kLossless12:
      return persistent::RunStep<S, PackedProducts<S, Lossless12, Lossless12>>(launch, shape, step);
    case Packing::kInt8:
      return persistent::RunStep<S, PackedProducts<S, Int8, Int8>>(launch, shape, step);
    case Packing::kFp8:
      return persistent::RunStep<S, PackedProducts<S, Fp8, Fp8>>(launch, shape, step);
    case Packing::kInt4:
      return shape.group == Int4By64::kGroup
                 ? persistent::RunStep<SInt4By64, PackedProducts<SInt4By64, Int4By64, Int8>>(launch, shape, step)
                 : persistent::RunStep<SInt4, PackedProducts<SInt4, Int4, Int8>>(launch, shape, step);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

bool DensePackedSupported(const DenseShape& shape) {
  const Packing head = shape.packing == Packing::kInt4 ? Packing::kInt8 : shape.packing;
  const bool grouped = shape.group == Int4::kGroup || shape.group == Int4By64::kGroup;
  return shape.head_packing == head && grouped == (shape.packing == Packing::kInt4) && shape.vocab % kBlockRows == 0 &&
         (persistent::Matches<Mistral7b>(shape) || persistent::Matches<Llama1b>(shape) ||
          persistent::Matches<Llama70b>(shape) || persistent::Matches<Mixtral>(shape));
}

cudaError_t DensePackedDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  if (persistent::Matches<Mistral7b>(shape)) return RunFormat<Mistral7b, Mistral7bInt4, Mistral7bInt4By64>(launch, shape, step);
  if (persistent::Matches<Llama1b>(shape)) return RunFormat<Llama1b, Llama1bInt4, Llama1bInt4By64>(launch, shape, step);
  if (persistent::Matches<Llama70b>(shape)) return RunFormat<Llama70b, Llama70bInt4, Llama70bInt4By64>(launch, shape, step);
  if (persistent::Matches<Mixtral>(shape)) return RunFormat<Mixtral, MixtralInt4, MixtralInt4By64>(launch, shape, step);
  return cudaErrorInvalidValue;
}

}  // namespace dsopt_cuda
