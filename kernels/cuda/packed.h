// packed.h - encoded weights (lossless12, int8, fp8, int4) as they lie on the device, in the order in which one
// warp's mma.m16n8k16 wants them. Plain layout arithmetic, shared by host and device; codes are described in
// common/packed.cuh.
//
//   matrix     [n, k] -> row blocks of 16 rows (the last one padded), one after the other
//   row block  chunks of 256 columns, the last one may hold fewer tiles
//   chunk      up to 4 tiles of 64 columns, then the chunk's side information
//   tile       kVectors x 32 lanes x 16 bytes
//   side       int8, int4 with groups: [groups][16 rows] f16 scales, then as many f16 offsets where there are
//   any
//              fp8 with groups: [groups][16 rows] f32 scales
//              lossless12: per 128 columns 16 base bytes (one per row) and 4 escape slots of 4 bytes
// One scale per row: f32 [n], and f32 offsets [n], in arrays of their own.
#ifndef DSOPT_CUDA_PACKED_H_
#define DSOPT_CUDA_PACKED_H_

#include <cstdint>

#if defined(__CUDACC__)
#define DSOPT_HOST_DEVICE __host__ __device__
#else
#define DSOPT_HOST_DEVICE
#endif

namespace dsopt_cuda {

enum class Packing : uint8_t { kNone = 0, kLossless12 = 1, kInt8 = 2, kFp8 = 3, kInt4 = 4 };

inline constexpr int kBlockRows = 16, kTileColumns = 64, kChunkTiles = 4, kChunkColumns = 256;
inline constexpr int kUnitColumns = 128, kEscapeSlots = 4;

// An escape of lossless12 that found no slot in its unit of 16 x 128 weights.
struct Overflow {
  uint32_t row, column;
  uint16_t bits, base;  // the exact bf16, and the base byte its stand-in was decoded with
};

struct PackedLayout {
  Packing packing = Packing::kNone;
  bool offsets = false;
  int16_t group = 0;  // columns per scale: 16, 32, 64, 128; 0: one scale per row
  int n = 0, k = 0;

  DSOPT_HOST_DEVICE int tile_bytes() const {
    return packing == Packing::kInt4 ? 512 : packing == Packing::kLossless12 ? 1536 : 1024;
  }
  DSOPT_HOST_DEVICE int tiles() const { return (k + kTileColumns - 1) / kTileColumns; }
  DSOPT_HOST_DEVICE int chunks() const { return (tiles() + kChunkTiles - 1) / kChunkTiles; }
  DSOPT_HOST_DEVICE int tiles_of(int chunk) const {
    const int left = tiles() - chunk * kChunkTiles;
    return left < kChunkTiles ? left : kChunkTiles;
  }
  DSOPT_HOST_DEVICE int groups_of(int tiles) const { return (tiles * kTileColumns + group - 1) / group; }
  DSOPT_HOST_DEVICE int side_bytes(int tiles) const {
    if (packing == Packing::kLossless12) return (tiles + 1) / 2 * (kBlockRows + 4 * kEscapeSlots);
    if (group == 0) return 0;
    return groups_of(tiles) * kBlockRows * (packing == Packing::kFp8 ? 4 : offsets ? 4 : 2);
  }
  DSOPT_HOST_DEVICE int chunk_bytes(int tiles) const { return tiles * tile_bytes() + side_bytes(tiles); }
  DSOPT_HOST_DEVICE int64_t block_bytes() const {
    const int whole = tiles() / kChunkTiles, rest = tiles() % kChunkTiles;
    return static_cast<int64_t>(whole) * chunk_bytes(kChunkTiles) + (rest > 0 ? chunk_bytes(rest) : 0);
  }
  DSOPT_HOST_DEVICE int blocks() const { return (n + kBlockRows - 1) / kBlockRows; }
  DSOPT_HOST_DEVICE int64_t matrix_bytes() const { return blocks() * block_bytes(); }
};

// Where one weight lies: lane's vector words, see common/packed.cuh.
struct PackedPlace {
  int64_t chunk;                    // byte offset of its chunk in the matrix
  int tiles;                        // of that chunk
  int tile, lane, step, reg, half;  // reg: which A register; half: low or high 16 bits
};

DSOPT_HOST_DEVICE inline PackedPlace PlaceOf(const PackedLayout& l, int row, int column) {
  PackedPlace p;
  const int chunk = column / kChunkColumns, in_chunk = column % kChunkColumns,
            in_tile = in_chunk % kTileColumns;
  p.chunk = row / kBlockRows * l.block_bytes() + static_cast<int64_t>(chunk) * l.chunk_bytes(kChunkTiles);
  p.tiles = l.tiles_of(chunk);
  p.tile = in_chunk / kTileColumns;
  p.lane = row % 8 * 4 + in_tile % 32 / 8;
  p.step = in_tile / 32 * 2 + in_tile % 8 / 4;
  p.reg = row % kBlockRows / 8 + in_tile % 4 / 2 * 2;
  p.half = in_tile % 2;
  return p;
}

// A weight's device memory. matrices > 1: experts, each with its own blocks and rows of scales.
struct PackedWeight {
  PackedLayout layout;
  int matrices = 1;
  const uint8_t* data = nullptr;
  const float* row_scales = nullptr;   // [matrices, n], or null
  const float* row_offsets = nullptr;  // [matrices, n], or null
  const int* overflow_first =
      nullptr;  // lossless12: [matrices * blocks + 1], index into overflow by row block; or null
  const Overflow* overflow = nullptr;  // rows count from the start of the matrix
};

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_PACKED_H_
