// linear_packed.cc - which kernel an encoded weight gets.
#include "linear_stream.h"

namespace dsopt_cuda {
namespace {

constexpr int kMostRows = 64, kPanelRows = 64;  // of the launch with most shared memory: see Stream
constexpr int kTiledPanelRows = 128;            // see TiledStream

}  // namespace

// Two slots of a panel beside 64 input rows must fit into shared memory (linear_packed.cuh; the larger panels for 32
// rows are used where they fit); fp8 and bf16 arithmetic exist everywhere from sm_80 on.
bool PackedSupported(const Limits& limits, const PackedLayout& layout) {
  const int slot = 4 * layout.chunk_bytes(kChunkTiles) + kMostRows * (kChunkColumns * 2 + 64);
  const int sums = 512 + 2 * kMostRows * (kPanelRows + 4) * 4;
  return layout.packing != Packing::kNone && layout.k % 8 == 0 && sums + 2 * slot <= limits.shared_bytes;
}

uint64_t PackedPartialFloats(const Limits& limits) {
  const int panel = limits.has_sm90a ? kTiledPanelRows : kPanelRows;  // no CTAs of an SM together have more: see Stream
  return static_cast<uint64_t>(limits.sms) * kMostRows * panel;
}

// Two CTAs per SM, and one number more.
uint64_t PackedCounters(const Limits& limits) {
  return (2 * static_cast<uint64_t>(limits.sms) + 1) * kFlagStride;
}

// Offsets want sums of the inputs, groups of 16 want two passes: linear_packed.cuh does both.
bool PackedTiledSupported(const Limits& limits, const LinearArgs& args) {
  if (!limits.has_sm90a || args.packed == nullptr || !args.bf16 || args.batch != 1 || args.slot_expert != nullptr)
    return false;
  const PackedLayout& l = args.packed->layout;
  const int slot = kTiledPanelRows / kBlockRows * l.chunk_bytes(kChunkTiles) + kMostRows * kChunkColumns * 2 + 1024;
  const int sums = 2048 + kMostRows * (kTiledPanelRows + 4) * 4;
  return args.rows > 16 && args.rows <= kMostRows && !l.offsets && args.packed->row_offsets == nullptr &&
         l.group != 16 && sums + 2 * slot <= limits.shared_bytes;
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
