// linear_packed.cc - which kernel an encoded weight gets.
#include "linear_stream.h"

namespace dsopt_cuda {
namespace {

constexpr int kMostRows = 64, kPanelRows = 64;  // of the launch with most shared memory: see Stream

}  // namespace

// Two slots of a panel beside 64 input rows must fit into shared memory (linear_packed.cuh; the larger panels for 32
// rows are used where they fit); fp8 and bf16 arithmetic exist everywhere from sm_80 on.
bool PackedSupported(const Limits& limits, const PackedLayout& layout) {
  const int slot = 4 * layout.chunk_bytes(kChunkTiles) + kMostRows * (kChunkColumns * 2 + 64);
  const int sums = 512 + 2 * kMostRows * (kPanelRows + 4) * 4;
  return layout.packing != Packing::kNone && layout.k % 8 == 0 && sums + 2 * slot <= limits.shared_bytes;
}

uint64_t PackedPartialFloats(const Limits& limits) {
  return static_cast<uint64_t>(limits.sms) * kMostRows * kPanelRows;  // no CTAs of an SM together have more: see Stream
}

cudaError_t LinearPacked(const Launch& launch, const LinearArgs& args, float* partial, uint32_t* arrived) {
  const StreamLinear p = {args, *args.packed, partial, arrived, {}, 0, 0};
  if (args.batch != 1) return cudaErrorInvalidValue;
  switch (args.packed->layout.packing) {
    case Packing::kLossless12:
      return LinearLossless12(launch, p);
    case Packing::kInt8:
      return LinearInt8(launch, p);
    case Packing::kFp8:
      return LinearFp8(launch, p);
    case Packing::kInt4:
      return LinearInt4(launch, p);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace dsopt_cuda
