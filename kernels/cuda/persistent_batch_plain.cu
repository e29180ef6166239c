// persistent_batch_plain.cu - the persistent step of few rows with bf16 weights, and what all formats share of
// it: which shapes it takes, sizes, the choice of the format.
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
  static constexpr bool kOverflow = false;
  using Unit = PlainUnit<S, kChunk>;
  static constexpr int kPitch = Unit::kPitch, kMap = S::kRows == kBatchBoxes[0].rows ? 0 : 1;
  static_assert(S::kRows == kBatchBoxes[kMap].rows && Unit::kBoxes == kBatchBoxes[kMap].columns / kBoxColumns);

  static void SetGeometry(StreamLinear& p) { Unit::SetGeometry(p); }
#ifdef DSOPT_CUDA_WGMMA
  using Consumer = PlainConsumer<S, kChunk, 1, S::kPerWarp>;
  __device__ static Consumer Make(const StreamLinear& p, int lane, int warp) {
    return {p, lane, 0, warp / S::kTeamWarps, warp % S::kTeamWarps * S::kPerWarp};
  }
  __device__ static void Copy(const StreamGeometry& g, const void* matrix, int panel, int unit, uint32_t slot,
                              uint32_t barrier, uint64_t policy) {
    // What a box has beyond the matrix reads as zero and counts as copied.
    BarrierExpect(barrier, S::kRows * kChunk * 2);
    TensorLoad(slot, static_cast<const char*>(matrix) + kMap * kTensorMapBytes, 0, panel * S::kRows,
               unit * Unit::kBoxes, barrier, policy);
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
  const bool format = m.packing == Packing::kNone ? limits.tensor_map_encoder != nullptr : m.group != 16;
  return limits.has_sm90a && limits.shared_bytes >= 227 * 1024 && format && m.experts == 0 &&
         m.cache == CacheCode::kPlain && (m.head_dim == 64 || m.head_dim == 128) &&
         m.q_heads % m.kv_heads == 0 && m.hidden % 64 == 0 && m.inner % 64 == 0 && m.layers > 0;
}

uint64_t BatchCounterWords(const DenseShape& shape) {
  return (1 + static_cast<uint64_t>(shape.layers) * batch::kOps) * kFlagStride;
}

uint64_t BatchSquares(const DenseShape& shape) {
  return uint64_t{kBatchRows} * ((static_cast<uint64_t>(shape.hidden) + 63) / 64);
}

// Measured on an H200, bytes of a layer as bf16: 14 MB (110M parameters) 430 us a step of one row, kernel by
// kernel 271; 122 MB (1B) 1008 and 1060 at 8 rows, 1384 and 1329 at 32; 436 MB (7B) 3993 and 4240, 4913 and
// 4988.
int BatchMostRows(const BatchShape& shape, bool always) {
  constexpr int64_t kFewRows = 64 << 20, kManyRows = 256 << 20;
  const DenseShape& m = shape.model;
  const int64_t q = int64_t{m.q_heads} * m.head_dim, kv = int64_t{m.kv_heads} * m.head_dim;
  const int64_t bytes = 2 * m.hidden * (2 * q + 2 * kv + 3 * int64_t{m.inner});
  if (bytes < kFewRows && !always) return 0;
  return bytes < kManyRows && !always ? 16 : kBatchRows;
}

cudaError_t BatchDecode(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  if (step.rows < 1 || step.rows > BatchMostRows(shape, true)) return cudaErrorInvalidValue;
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
