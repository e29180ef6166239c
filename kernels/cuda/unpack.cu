// unpack.cu - encoded weights back to bf16 rows, for products with many input rows (prefill).
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "common/packed.cuh"
#include "pack.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 256;

struct UnpackArgs {
  PackedWeight weight;
  int first, count;
  bf16* out;
};

// Scale and offset of rows g and g + 8 of the tile's columns from 32 half on, and for groups of 16 of the
// lane's own.
template <typename F>
__device__ __forceinline__ void ScaleOf(const UnpackArgs& a, const uint8_t* side, int tiles, int tile, int half,
                                        int row, float (&scale)[2], float (&offset)[2]) {
  const PackedLayout& l = a.weight.layout;
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  offset[0] = offset[1] = 0;
  if constexpr (F::kPacking == Packing::kLossless12) {
    const uint8_t* base = side + tile / 2 * (kBlockRows + 4 * kEscapeSlots) + g;
    scale[0] = Lossless12::Scale(base[0]), scale[1] = Lossless12::Scale(base[8]);
  } else {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (l.group == 0) {
        const int at = min(row + 8 * h, l.n - 1);
        scale[h] = a.weight.row_scales[at];
        if (a.weight.row_offsets != nullptr) offset[h] = a.weight.row_offsets[at];
        continue;
      }
      const int group = (tile * kTileColumns + 32 * half + (l.group == 16 ? t / 2 * 16 : 0)) / l.group;
      const int at = group * kBlockRows + g + 8 * h;
      if (F::kPacking == Packing::kFp8) {
        scale[h] = reinterpret_cast<const float*>(side)[at];
      } else {
        const __half* scales = reinterpret_cast<const __half*>(side);
        scale[h] = __half2float(scales[at]);
        if (l.offsets) offset[h] = __half2float(scales[l.groups_of(tiles) * kBlockRows + at]);
      }
    }
  }
}

// out[r - first, :] = bf16(code * scale + offset)
// bytes  codes read, 2 * count * k written      bound: DRAM
// grid   (row blocks, k / 512) x 256 threads; a warp expands one tile of 16 x 64, 8 columns per 16-byte store
template <typename F>
__global__ __launch_bounds__(kThreads) void unpack_rows(const __grid_constant__ UnpackArgs a) {
  LetNextStart();
  WaitForPrevious();  // the rows are read by the product before
  const PackedLayout& l = a.weight.layout;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int block = a.first / kBlockRows + blockIdx.x,
            global_tile = blockIdx.y * (kThreads / 32) + threadIdx.x / 32;
  if (global_tile >= l.tiles()) return;
  const int chunk_index = global_tile / kChunkTiles, tile = global_tile % kChunkTiles,
            tiles = l.tiles_of(chunk_index);
  const uint8_t* chunk =
      a.weight.data + block * l.block_bytes() + static_cast<int64_t>(chunk_index) * l.chunk_bytes(kChunkTiles);
  const uint8_t* side = chunk + tiles * F::kVectors * 512;
  uint4 q[F::kVectors];
#pragma unroll
  for (int v = 0; v < F::kVectors; ++v) q[v] = LoadStream16(chunk + (tile * F::kVectors + v) * 512 + lane * 16);
  uint32_t codes[4][4];
#pragma unroll
  for (int s = 0; s < 4; ++s) F::Step(q, s, codes[s]);
  const int row = block * kBlockRows + g, column = global_tile * kTileColumns;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float scale[2], offset[2];
    ScaleOf<F>(a, side, tiles, tile, half, row, scale, offset);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // columns 2 i, 2 i + 1 of the lane's 8
        const uint32_t w = codes[2 * half + i / 2][h + i % 2 * 2];
        words[i] = PackBf16(fmaf(__uint_as_float(w << 16), scale[h], offset[h]),
                            fmaf(__uint_as_float(w & 0xffff0000u), scale[h], offset[h]));
      }
      const int r = row + 8 * h, c = column + 32 * half + 8 * t;
      if (r < a.first + a.count && c < l.k)
        *reinterpret_cast<uint4*>(a.out + static_cast<int64_t>(r - a.first) * l.k + c) = {words[0], words[1],
                                                                                          words[2], words[3]};
    }
  }
  if constexpr (F::kPacking == Packing::kLossless12) {
    __syncwarp();
    if (lane >= kEscapeSlots) return;
    const uint32_t slot =
        reinterpret_cast<const uint32_t*>(side + tile / 2 * (kBlockRows + 4 * kEscapeSlots) + kBlockRows)[lane];
    const int in_unit = slot >> 16 & 127, r = block * kBlockRows + (slot >> 23 & 15);
    if ((slot >> 31) != 0 && in_unit / kTileColumns == tile % 2 && r < a.first + a.count)
      a.out[static_cast<int64_t>(r - a.first) * l.k + column + in_unit % kTileColumns] =
          __ushort_as_bfloat16(static_cast<uint16_t>(slot));
  }
}

// The weights of the overflow list.
__global__ __launch_bounds__(kThreads) void unpack_overflow(const __grid_constant__ UnpackArgs a) {
  LetNextStart();
  WaitForPrevious();
  const int* first = a.weight.overflow_first + a.first / kBlockRows;
  const int end = first[(a.count + kBlockRows - 1) / kBlockRows];
  for (int i = first[0] + blockIdx.x * kThreads + threadIdx.x; i < end; i += gridDim.x * kThreads) {
    const Overflow o = a.weight.overflow[i];
    a.out[static_cast<int64_t>(static_cast<int>(o.row) - a.first) * a.weight.layout.k + o.column] =
        __ushort_as_bfloat16(o.bits);
  }
}

}  // namespace

cudaError_t UnpackRows(const Launch& launch, const PackedWeight& weight, int first, int count, void* out) {
  const PackedLayout& l = weight.layout;
  if (weight.matrices != 1 || first % kBlockRows != 0 || l.k % 8 != 0) return cudaErrorInvalidValue;
  const UnpackArgs args = {weight, first, count, static_cast<bf16*>(out)};
  const dim3 grid(static_cast<unsigned>((count + kBlockRows - 1) / kBlockRows),
                  static_cast<unsigned>((l.tiles() + 7) / 8));
  cudaError_t error = cudaErrorInvalidValue;
  switch (l.packing) {
    case Packing::kLossless12:
      error = Start(launch, unpack_rows<Lossless12>, grid, dim3(kThreads), 0, args);
      break;
    case Packing::kInt8:
      error = Start(launch, unpack_rows<Int8>, grid, dim3(kThreads), 0, args);
      break;
    case Packing::kFp8:
      error = Start(launch, unpack_rows<Fp8>, grid, dim3(kThreads), 0, args);
      break;
    case Packing::kInt4:
      error = Start(launch, unpack_rows<Int4>, grid, dim3(kThreads), 0, args);
      break;
    default:
      break;
  }
  if (error != cudaSuccess || weight.overflow_first == nullptr) return error;
  return Start(launch, unpack_overflow, dim3(8), dim3(kThreads), 0, args);
}

}  // namespace dsopt_cuda
