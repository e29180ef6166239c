// persistent_batch_plain.cu - the persistent step of few rows with bf16 weights, and what all formats share of it: which
// shapes it takes, sizes, the choice of the format.
#include <cuda.h>

#include "linear_plain.cuh"
#include "persistent/batch_step.cuh"

namespace dsopt_cuda {
namespace batch {
namespace {

// bf16 weights as boxes of tensor maps: linear_plain.cuh. Units are small enough for at least four slots.
template <int kM>
struct PlainFormat {
  using S = BatchStream<Stream<kM>>;
  static constexpr int kChunk = kM == 32 ? 128 : kImageColumns, kUnitChunks = 1;
  using Unit = PlainUnit<S, kChunk>;
  static constexpr int kPitch = Unit::kPitch, kMap = S::kRows == kBatchBoxes[0].rows ? 0 : 1;
  static_assert(S::kRows == kBatchBoxes[kMap].rows && Unit::kBoxes == kBatchBoxes[kMap].columns / kBoxColumns);

  static void SetGeometry(StreamLinear& p) { Unit::SetGeometry(p); }
#ifdef DSOPT_CUDA_WGMMA
  using Consumer = PlainConsumer<S, kChunk, 1, S::kPerWarp>;
  __device__ static Consumer Make(const StreamLinear& p, int lane, int warp) {
    return {p, lane, 0, warp / kTeamWarps, warp % kTeamWarps * S::kPerWarp};
  }
  __device__ static void Copy(const StreamGeometry& g, const void* matrix, int panel, int unit, uint32_t slot,
                              uint32_t barrier, uint64_t policy) {
    // What a box has beyond the matrix reads as zero and counts as copied.
    BarrierExpect(barrier, S::kRows * kChunk * 2);
    TensorLoad(slot, static_cast<const char*>(matrix) + kMap * kTensorMapBytes, 0, panel * S::kRows, unit * Unit::kBoxes,
               barrier, policy);
  }
#endif
};

}  // namespace
}  // namespace batch

cudaError_t BatchPlain(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  if (step.rows <= 8) return batch::RunBatch<batch::PlainFormat<8>>(launch, shape, step);
  if (step.rows <= 16) return batch::RunBatch<batch::PlainFormat<16>>(launch, shape, step);
  return batch::RunBatch<batch::PlainFormat<32>>(launch, shape, step);
}

bool BatchSupported(const Limits& limits, const BatchShape& shape) {
  const DenseShape& m = shape.model;
  const bool format = m.packing == Packing::kNone ? limits.tensor_map_encoder != nullptr
                      : m.packing == Packing::kInt4 ? m.group == 64 || m.group == 128
                                                    : m.group == 0;
  return limits.has_sm90a && limits.shared_bytes >= 227 * 1024 && format && m.experts == 0 &&
         m.cache == CacheCode::kPlain && (m.head_dim == 64 || m.head_dim == 128) && m.q_heads % m.kv_heads == 0 &&
         m.hidden % 64 == 0 && m.inner % 64 == 0 && m.layers > 0;
}

uint64_t BatchCounterWords(const DenseShape& shape) {
  return (1 + static_cast<uint64_t>(shape.layers) * batch::kOps) * kFlagStride;
}

uint64_t BatchSquares(const DenseShape& shape) { return uint64_t{kBatchRows} * ((static_cast<uint64_t>(shape.hidden) + 63) / 64); }

int BatchMostRows(const BatchShape& shape) { return shape.model.packing == Packing::kNone ? kBatchRows : 16; }

cudaError_t BatchDecode(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  if (step.rows < 1 || step.rows > BatchMostRows(shape)) return cudaErrorInvalidValue;
  switch (shape.model.packing) {
    case Packing::kNone:
      return BatchPlain(launch, shape, step);
    case Packing::kLossless12:
      return BatchLossless12(launch, shape, step);
    case Packing::kInt8:
      return BatchInt8(launch, shape, step);
    case Packing::kFp8:
      return BatchFp8(launch, shape, step);
    case Packing::kInt4:
      return BatchInt4(launch, shape, step);
  }
  return cudaErrorInvalidValue;
}

}  // namespace dsopt_cuda
