// shapes.cuh - the shapes that have a persistent decode step, with bf16 and with encoded weights, and the step
// of a DenseShape among them. One .cu file per kind of cache instantiates it.
#ifndef DSOPT_CUDA_PERSISTENT_SHAPES_CUH_
#define DSOPT_CUDA_PERSISTENT_SHAPES_CUH_

#include "persistent/packed.cuh"
#include "persistent/rows.cuh"
#include "persistent/step.cuh"

namespace dsopt_cuda::persistent {

namespace row_shapes {

using Mistral7b = Shape<4096, 14336, 128, 32, 8, 32768, 6, 2, 4>;  // and Llama-3-8B
using Llama1b = Shape<2048, 8192, 64, 32, 8, 16384, 13, 2, 4>;
using Llama70b = Shape<8192, 28672, 128, 64, 8, 32768, 5, 2, 4>;

// Router weights pass through the ring, 2 experts a slot; the down projections of the 2 chosen experts are one
// product.
using Mixtral = Shape<4096, 14336, 128, 32, 8, 32768, 6, 2, 3, 0, 2, 8>;

}  // namespace row_shapes

// Slots hold a piece of codes or 64 tokens of keys and values of one head; the rest of shared memory keeps the
// inputs.
namespace packed_shapes {

using Mistral7b = Shape<4096, 14336, 128, 32, 8, 32768, 6, 2, 4, 14336>;  // and Llama-3-8B
using Mistral7bInt4 = Shape<4096, 14336, 128, 32, 8, 33792, 5, 2, 3, 14336>;
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

}  // namespace packed_shapes

template <typename S>
bool Matches(const DenseShape& shape) {
  return shape.hidden == S::kHidden && shape.inner == S::kInner && shape.head_dim == S::kHeadDim &&
         shape.q_heads == S::kQHeads && shape.kv_heads == S::kKvHeads && shape.experts == S::kExperts &&
         shape.top_k == S::kTopK;
}

// Row shapes and packed shapes are those of the same models.
inline bool MatchesAny(const DenseShape& shape) {
  using namespace row_shapes;
  return Matches<Mistral7b>(shape) || Matches<Llama1b>(shape) || Matches<Llama70b>(shape) ||
         Matches<Mixtral>(shape);
}

// S with slots of kSlotBytes, kSlots of them.
template <typename S, int kSlotBytes, int kSlots>
using Resized = Shape<S::kHidden, S::kInner, S::kHeadDim, S::kQHeads, S::kKvHeads, kSlotBytes, kSlots,
                      S::kWindow, S::kDeep, S::kInputs, S::kTopK, S::kExperts>;

// The shape over a cache: of codes, two pages shall fit into a slot where that costs no slots.
template <CacheCode kCode, typename S>
struct OverCache {
  static constexpr int kTwoPages =
      4 * kPageTokens * (CodeBytes<kCode>(S::kHeadDim) + 4 * CodeWords<kCode>(S::kHeadDim));
  static constexpr bool kGrow =
      S::kSlotBytes < kTwoPages && S::kShared + S::kSlots * (kTwoPages - S::kSlotBytes) <= 227 * 1024;
  using Type = Coded<Resized<S, kGrow ? kTwoPages : S::kSlotBytes, S::kSlots>, kCode>;
};
template <typename S>
struct OverCache<CacheCode::kPlain, S> {
  using Type = S;
};

template <CacheCode kCode, typename Plain>
cudaError_t RunRowShape(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  using S = typename OverCache<kCode, Plain>::Type;
  return RunStep<S, RowProducts<S>>(launch, shape, step);
}

template <CacheCode kCode>
cudaError_t RunRows(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  using namespace row_shapes;
  if (Matches<Mistral7b>(shape)) return RunRowShape<kCode, Mistral7b>(launch, shape, step);
  if (Matches<Llama1b>(shape)) return RunRowShape<kCode, Llama1b>(launch, shape, step);
  if (Matches<Llama70b>(shape)) return RunRowShape<kCode, Llama70b>(launch, shape, step);
  if (Matches<Mixtral>(shape)) return RunRowShape<kCode, Mixtral>(launch, shape, step);
  return cudaErrorInvalidValue;
}

template <CacheCode kCode, typename Plain, typename F, typename HeadF>
cudaError_t RunPackedShape(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  using S = typename OverCache<kCode, Plain>::Type;
  return RunStep<S, PackedProducts<S, F, HeadF>>(launch, shape, step);
}

template <CacheCode kCode, typename S, typename SInt4, typename SInt4By64>
cudaError_t RunFormat(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  switch (shape.packing) {
    case Packing::kLossless12:
      return RunPackedShape<kCode, S, Lossless12, Lossless12>(launch, shape, step);
    case Packing::kInt8:
      return RunPackedShape<kCode, S, Int8, Int8>(launch, shape, step);
    case Packing::kFp8:
      return shape.head_packing == Packing::kInt8 ? RunPackedShape<kCode, S, Fp8, Int8>(launch, shape, step)
                                                  : RunPackedShape<kCode, S, Fp8, Fp8>(launch, shape, step);
    case Packing::kInt4:
      return shape.group == Int4By64::kGroup
                 ? RunPackedShape<kCode, SInt4By64, Int4By64, Int8>(launch, shape, step)
                 : RunPackedShape<kCode, SInt4, Int4, Int8>(launch, shape, step);
    default:
      return cudaErrorInvalidValue;
  }
}

template <CacheCode kCode>
cudaError_t RunPacked(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  using namespace packed_shapes;
  if (Matches<Mistral7b>(shape))
    return RunFormat<kCode, Mistral7b, Mistral7bInt4, Mistral7bInt4By64>(launch, shape, step);
  if (Matches<Llama1b>(shape))
    return RunFormat<kCode, Llama1b, Llama1bInt4, Llama1bInt4By64>(launch, shape, step);
  if (Matches<Llama70b>(shape))
    return RunFormat<kCode, Llama70b, Llama70bInt4, Llama70bInt4By64>(launch, shape, step);
  if (Matches<Mixtral>(shape))
    return RunFormat<kCode, Mixtral, MixtralInt4, MixtralInt4By64>(launch, shape, step);
  return cudaErrorInvalidValue;
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_SHAPES_CUH_
