// packed_piece.cuh - one piece of encoded weights out of the ring: codes become the A operand of mma.m16n8k16,
// all eight columns of B are the same input, so any of D's is the sum. The eight warps share the columns of a
// piece.
#ifndef DSOPT_CUDA_PERSISTENT_PACKED_PIECE_CUH_
#define DSOPT_CUDA_PERSISTENT_PACKED_PIECE_CUH_

#include "common/packed.cuh"
#include "persistent/consumer.cuh"

namespace dsopt_cuda::persistent {

// Format F with scales by group (int4), by row (int8, fp8) or with bases (lossless12).
template <typename F>
struct PackedFormat {
  static constexpr bool kLossless = F::kPacking == Packing::kLossless12;
  static constexpr bool kByRow = F::kPacking == Packing::kInt8 || F::kPacking == Packing::kFp8;
  static constexpr int kTileBytes = F::kVectors * 512, kUnitSide = kBlockRows + 4 * kEscapeSlots;
  static constexpr int Side() {
    if constexpr (kLossless)
      return 2 * kUnitSide;
    else if constexpr (kByRow)
      return 0;
    else
      return kChunkColumns / F::kGroup * kBlockRows * 2;
  }
  static constexpr int kSide = Side();
  static constexpr int kChunkBytes = kChunkTiles * kTileBytes + kSide;
};

// How a row block goes through the ring: in pieces of the most chunks that fill a slot, divide the row evenly
// and give every warp the same number of tiles.
constexpr int PieceChunks(int row_chunks, int chunk_bytes, int slot_bytes) {
  for (int c = 16; c > 2; c -= 2)
    if (c * chunk_bytes <= slot_bytes && row_chunks % c == 0) return c;
  return 2;
}

// Base: a Consumer. Inputs are bf16 in shared memory.
template <typename Base>
struct PackedPiece : Base {
  using Base::my, Base::tid, Base::slot, Base::parity, Base::NextSlot;

  // Adds this warp's tiles of the piece in the next slot; with scales by row, acc[i] takes its i-th tile. Tiles
  // go kStep at a time, instruction by instruction, so that none waits for the other. x: shared address of the
  // piece's first input.
  template <typename G, int kTiles, int kSums>
  __device__ __forceinline__ void Piece(uint32_t x, float (&acc)[kSums][4]) {
    using Layout = PackedFormat<G>;
    constexpr int kStep = G::kVectors > 1 ? 2 : kTiles <= 5 ? kTiles : 4;
    const int lane = tid % 32, warp = tid / 32;
    BarrierWait(my.full(slot), parity);
    const uint32_t piece = my.slot(slot);
#pragma unroll
    for (int first = 0; first < kTiles; first += kStep) {
      uint4 q[kStep][G::kVectors], low[kStep], high[kStep];
      float scale[kStep][2];
#pragma unroll
      for (int j = 0; j < kStep; ++j) {
        if (first + j >= kTiles) continue;
        const int tile = warp * kTiles + first + j, in_chunk = tile % kChunkTiles;
        const uint32_t chunk = piece + tile / kChunkTiles * Layout::kChunkBytes,
                       side = chunk + kChunkTiles * Layout::kTileBytes;
        const uint32_t at = chunk + in_chunk * Layout::kTileBytes + lane * 16,
                       from = x + tile * 128 + lane % 4 * 16;
#pragma unroll
        for (int v = 0; v < G::kVectors; ++v) q[j][v] = LoadShared16(at + v * 512);
        low[j] = LoadShared16(from);
        high[j] = LoadShared16(from + 64);
        if constexpr (Layout::kLossless) {
          const uint32_t base = side + in_chunk / 2 * Layout::kUnitSide + lane / 4;
          scale[j][0] = Lossless12::Scale(LoadShared1(base));
          scale[j][1] = Lossless12::Scale(LoadShared1(base + 8));
        } else if constexpr (!Layout::kByRow) {
          const uint32_t scales = side + in_chunk * kTileColumns / G::kGroup * kBlockRows * 2 + lane / 4 * 2;
          scale[j][0] = LoadSharedHalf(scales);
          scale[j][1] = LoadSharedHalf(scales + 16);
        }
      }
      // Everything is in registers: the slot may be filled again.
      if (!Layout::kLossless && first + kStep >= kTiles) NextSlot();
      float part[kStep][4] = {};
#pragma unroll
      for (int s = 0; s < 4; ++s) {
#pragma unroll
        for (int j = 0; j < kStep; ++j) {
          if (first + j >= kTiles) continue;
          uint32_t a[4];
          G::Step(q[j], s, a);
          const uint4& v = s < 2 ? low[j] : high[j];
          float(&sum)[4] = Layout::kByRow ? acc[(first + j) % kSums] : part[j];
          Mma(sum, a[0], a[1], a[2], a[3], WordOf(v, s % 2 * 2), WordOf(v, s % 2 * 2 + 1));
        }
      }
#pragma unroll
      for (int j = 0; j < kStep; ++j) {
        if (Layout::kByRow || first + j >= kTiles) continue;
        acc[0][0] = fmaf(part[j][0], scale[j][0], acc[0][0]);
        acc[0][2] = fmaf(part[j][2], scale[j][1], acc[0][2]);
      }
    }
    if constexpr (Layout::kLossless) {
      static_assert(kTiles % 2 == 0);
#pragma unroll
      for (int i = 0; i < kTiles; i += 2) Escapes<Layout>(piece, x, warp * kTiles + i, acc[0]);
      NextSlot();
    }
  }
  // Of the unit of 128 columns that begins with tile `tile` of the piece.
  template <typename Layout>
  __device__ __forceinline__ void Escapes(uint32_t piece, uint32_t x, int tile, float (&acc)[4]) const {
    const uint32_t base = piece + tile / kChunkTiles * Layout::kChunkBytes + kChunkTiles * Layout::kTileBytes +
                          tile % kChunkTiles / 2 * Layout::kUnitSide;
    const uint4 slots = LoadShared16(base + kBlockRows);
    if ((slots.x | slots.y | slots.z | slots.w) == 0) return;
#pragma unroll
    for (int i = 0; i < kEscapeSlots; ++i) {
      const uint32_t entry = WordOf(slots, i);
      const int row = entry >> 23 & 15;
      const float exact = __uint_as_float(entry << 16);
      const float delta = exact - Lossless12::Scale(LoadShared1(base + row)) * Lossless12::kStandIn;
      const float v = LoadSharedBf16(x + tile * 128 + (entry >> 16 & 127) * 2);
      const float sum = (entry >> 31) != 0 ? delta * v : 0.0f;
      acc[0] += row == tid % 32 / 4 ? sum : 0.0f;
      acc[2] += row == tid % 32 / 4 + 8 ? sum : 0.0f;
    }
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_PACKED_PIECE_CUH_
