// pack.cu - codes, scales and bf16 weights to their packed places.
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "common/packed.cuh"
#include "pack.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 256;

unsigned GridFor(uint64_t count) {
  const uint64_t ctas = (count + kThreads - 1) / kThreads;
  return static_cast<unsigned>(ctas < 1 ? 1 : ctas > 16384 ? 16384 : ctas);
}

// The row that logical row `row` of a matrix of `rows` rows is stored in.
__device__ __forceinline__ int StoredRow(const WeightLayout& shape, int row) {
  const int inner = static_cast<int>(shape.rows / 2);
  return !shape.interleaved ? row : row < inner ? 2 * row : 2 * (row - inner) + 1;
}

__device__ __forceinline__ void PutCode(const PackedLayout& l, uint8_t* matrix, int row, int column,
                                        uint32_t code) {
  const PackedPlace p = PlaceOf(l, row, column);
  uint8_t* at = matrix + CodeByte(l, p);
  if (l.packing == Packing::kInt4) {
    atomicOr(reinterpret_cast<unsigned*>(at), (code & 15u) << (4 * p.reg + 16 * p.half));
  } else {
    *at = static_cast<uint8_t>(l.packing == Packing::kInt8 ? code + 128u : code);
  }
}

// data: zeroed before (int4). One thread per code.
// bytes  count * code read, one read-modify-write of 4 bytes in L2 per int4 code     bound: L2 atomics
// grid   up to 16384 CTAs x 256 threads, striding
__global__ void pack_codes(PackedLayout l, WeightLayout shape, const uint8_t* codes, uint64_t first,
                           uint64_t count, uint8_t* data) {
  const uint64_t step = static_cast<uint64_t>(gridDim.x) * kThreads;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    const uint64_t at = first + i, row = at / shape.cols;
    const int column = static_cast<int>(at % shape.cols), in_matrix = static_cast<int>(row % shape.rows);
    const uint32_t code = l.packing == Packing::kInt4 ? codes[i / 2] >> (i % 2 * 4) & 15u : codes[i];
    PutCode(l, data + static_cast<int64_t>(row / shape.rows) * l.matrix_bytes(), StoredRow(shape, in_matrix),
            column, code);
  }
}

__device__ __forceinline__ void PutScale(const PackedLayout& l, uint8_t* matrix, int row, int column,
                                         float scale, float offset) {
  const PackedPlace p = PlaceOf(l, row, column);
  uint8_t* side = matrix + p.chunk + p.tiles * l.tile_bytes();
  const int at = column % kChunkColumns / l.group * kBlockRows + row % kBlockRows;
  if (l.packing == Packing::kFp8) {
    reinterpret_cast<float*>(side)[at] = scale;
    return;
  }
  reinterpret_cast<__half*>(side)[at] = __float2half(scale);
  if (l.offsets) reinterpret_cast<__half*>(side)[l.groups_of(p.tiles) * kBlockRows + at] = __float2half(offset);
}

// One thread per grid entry: it writes the scales of its rows.
__global__ void pack_scales(PackedLayout l, WeightLayout shape, ScaleGrid grid, const float* scales,
                            const float* offsets, uint64_t first, uint64_t count, uint8_t* data,
                            float* row_scales, float* row_offsets) {
  const uint64_t step = static_cast<uint64_t>(gridDim.x) * kThreads;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    const uint64_t at = first + i, matrix = at / (grid.rows * grid.columns),
                   entry = at % (grid.rows * grid.columns);
    const int row0 = static_cast<int>(entry / grid.columns * grid.group_rows);
    const int column = static_cast<int>(entry % grid.columns * grid.group_columns);
    const int end = min(row0 + static_cast<int>(grid.group_rows), static_cast<int>(shape.rows));
    for (int row = row0; row < end; ++row) {
      const int stored = StoredRow(shape, row);
      const float offset = offsets != nullptr ? offsets[i] : 0.0f;
      if (l.group == 0) {
        row_scales[matrix * shape.rows + stored] = scales[i];
        if (row_offsets != nullptr) row_offsets[matrix * shape.rows + stored] = offset;
      } else {
        PutScale(l, data + static_cast<int64_t>(matrix) * l.matrix_bytes(), stored, column, scales[i], offset);
      }
    }
  }
}

// Start of the window of 16 exponents that leaves the fewest of a row's 128 weights outside (4 in each lane).
__device__ __forceinline__ int BaseOf(const uint32_t (&bits)[4]) {
  unsigned top = 0, plain = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned e = bits[i] >> 7 & 0xFF;
    if (e < 255) top = max(top, e);
    plain |= bits[i] & 0xFFFF;
  }
  top = __reduce_max_sync(~0u, top);
  plain = __reduce_or_sync(~0u, plain);
  if (plain == 0 || top == 0) return 0;
  int best = 1;
  unsigned fewest = 1000;
  for (int d = 0; d < 24; ++d) {
    const int base = max(static_cast<int>(top) - 15 - d, 1);
    unsigned outside = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int e = static_cast<int>(bits[i] >> 7 & 0xFF);
      outside += e < base || e > base + 15 ? 1 : 0;
    }
    outside = __reduce_add_sync(~0u, outside);
    if (outside < fewest) {
      fewest = outside;
      best = base;
    }
    if (outside == 0 || base == 1) break;
  }
  return min(best, 239);
}

// One warp per row block, unit after unit, so that the overflow list has the same order at every load.
// bytes  n * k * 2 read, 12.125 bits per weight written     bound: integer work
// grid   row blocks x 32 threads
__global__ __launch_bounds__(32) void pack_lossless12(PackedLayout l, const uint16_t* weights, uint8_t* data,
                                                      int* first, Overflow* overflow) {
  __shared__ uint32_t base[kBlockRows];
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const int blocks = l.blocks(), matrix = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const uint16_t* w = weights + static_cast<int64_t>(matrix) * l.n * l.k;
  uint8_t* out = data + matrix * l.matrix_bytes() + block * l.block_bytes();
  const auto weight = [&](int row, int column) -> uint32_t {
    const int r = block * kBlockRows + row;
    return r < l.n && column < l.k ? w[static_cast<int64_t>(r) * l.k + column] : 0u;
  };
  int over = overflow != nullptr ? first[blockIdx.x] : 0;
  for (int unit = 0; unit * kUnitColumns < l.k; ++unit) {
    const int column0 = unit * kUnitColumns, chunk = column0 / kChunkColumns, tiles = l.tiles_of(chunk);
    for (int row = 0; row < kBlockRows; ++row) {
      uint32_t bits[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) bits[i] = weight(row, column0 + 32 * i + lane);
      const int b = BaseOf(bits);
      if (lane == row) base[row] = static_cast<uint32_t>(b);
    }
    __syncwarp();
    uint8_t* to = out + static_cast<int64_t>(chunk) * l.chunk_bytes(kChunkTiles);
    uint8_t* side = to + tiles * l.tile_bytes() + unit % 2 * (kBlockRows + 4 * kEscapeSlots);
    const uint32_t bases[2] = {base[g], base[g + 8]};
    int used = 0;  // escapes of the unit so far, the same in all lanes
    for (int in_unit = 0; in_unit < 2; ++in_unit) {
      const int tile = unit % 2 * 2 + in_unit;
      if (tile >= tiles) break;
      uint32_t words[4][3] = {};
      for (int s = 0; s < 4; ++s) {
        for (int p = 0; p < 2; ++p) {
          int code[4];
          for (int r = 0; r < 4; ++r) {
            const int row = g + 8 * (r & 1), in_tile = 32 * (s / 2) + 8 * t + 4 * (s % 2) + 2 * (r / 2) + p;
            const int column = column0 + in_unit * kTileColumns + in_tile;
            const uint32_t bits = weight(row, column);
            const bool padding = block * kBlockRows + row >= l.n || column >= l.k;  // never reaches a result
            code[r] = padding ? 0 : Lossless12::Code(bits, bases[r & 1]);
            // Escapes in the order of lanes.
            const unsigned escaping = __ballot_sync(~0u, code[r] < 0);
            if (code[r] < 0) {
              const int mine = used + __popc(escaping & ((1u << lane) - 1u));
              if (overflow != nullptr) {
                if (mine < kEscapeSlots) {
                  reinterpret_cast<uint32_t*>(side + kBlockRows)[mine] =
                      0x80000000u | static_cast<uint32_t>(row) << 23 |
                      static_cast<uint32_t>(in_unit * kTileColumns + in_tile) << 16 | bits;
                } else {
                  overflow[over + mine - kEscapeSlots] = {
                      static_cast<uint32_t>(block * kBlockRows + row), static_cast<uint32_t>(column),
                      static_cast<uint16_t>(bits), static_cast<uint16_t>(bases[r & 1])};
                }
              }
              code[r] = 0;
            }
            used += __popc(escaping);
          }
          const auto place = [](int c) { return static_cast<uint32_t>((c & 0x800) << 4 | (c & 0x7FF)); };
          for (int v = 0; v < 3; ++v)
            words[s][v] |= (place(code[v]) | static_cast<uint32_t>(code[3] >> (8 - 4 * v) & 15) << 11)
                           << (16 * p);
        }
      }
      if (overflow == nullptr) continue;
      for (int v = 0; v < 3; ++v)
        *reinterpret_cast<uint4*>(to + (tile * 3 + v) * 512 + lane * 16) =
            uint4{words[0][v], words[1][v], words[2][v], words[3][v]};
    }
    if (overflow != nullptr) {
      if (lane < kBlockRows) side[lane] = static_cast<uint8_t>(base[lane]);
      if (lane >= used && lane < kEscapeSlots) reinterpret_cast<uint32_t*>(side + kBlockRows)[lane] = 0;
    }
    over += max(0, used - kEscapeSlots);
    __syncwarp();
  }
  if (overflow == nullptr && lane == 0) first[blockIdx.x] = over;
}

// One CTA.
__global__ __launch_bounds__(1024) void exclusive_sum(int* v, int count) {
  __shared__ int warp_sums[32], carried;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (threadIdx.x == 0) carried = 0;
  __syncthreads();
  for (int first = 0; first <= count; first += 1024) {
    const int i = first + threadIdx.x, mine = i < count ? v[i] : 0;
    int sum = mine;
    for (int d = 1; d < 32; d *= 2) {
      const int below = __shfl_up_sync(~0u, sum, d);
      if (lane >= d) sum += below;
    }
    if (lane == 31) warp_sums[warp] = sum;
    __syncthreads();
    int before = carried;
    for (int w = 0; w < warp; ++w) before += warp_sums[w];
    if (i <= count) v[i] = before + sum - mine;
    __syncthreads();
    if (threadIdx.x == 1023) carried = before + sum;
    __syncthreads();
  }
}

// Values of a hash: codes with about the shape of a normal distribution, scales so that the deviation comes
// out.
__device__ __forceinline__ float Bell(uint64_t seed, uint64_t i) {
  uint64_t z = seed + i * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z ^= z >> 31;
  const int sum = static_cast<int>((z & 255) + (z >> 8 & 255) + (z >> 16 & 255) + (z >> 24 & 255));
  return static_cast<float>(sum - 510) * 0.0067658754f;
}

__global__ void fill_smooth(uint16_t* data, uint64_t count, uint64_t seed, float mean, float stddev) {
  const uint64_t step = static_cast<uint64_t>(gridDim.x) * kThreads;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    const float between = (static_cast<float>(i * 2654435761u >> 8 & 0xFFFF) + 0.5f) * (1.0f / 65536.0f) - 0.5f;
    const float v = mean + stddev * (Bell(seed, i) + 0.0067658754f * between);
    data[i] = __bfloat16_as_ushort(__float2bfloat16(v));
  }
}

__global__ void fill_codes(PackedLayout l, WeightLayout shape, uint64_t seed, float per_code, uint8_t* data) {
  const uint64_t step = static_cast<uint64_t>(gridDim.x) * kThreads,
                 count = shape.batch * shape.rows * shape.cols;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    const uint64_t row = i / shape.cols;
    const float v = Bell(seed, i) * per_code;
    uint32_t code;
    if (l.packing == Packing::kInt4)
      code = static_cast<uint32_t>(min(max(__float2int_rn(v) + 8, 0), 15));
    else if (l.packing == Packing::kInt8)
      code = static_cast<uint32_t>(min(max(__float2int_rn(v), -127), 127)) & 255u;
    else {  // e4m3: sign, 3 bits of mantissa; |v| in [2^-6, 448]
      const uint32_t bits = __float_as_uint(fminf(fmaxf(fabsf(v), 0.015625f), 448.0f));
      code = (v < 0 ? 128u : 0u) | ((((bits >> 23) - 120u) << 3 | (bits >> 20 & 7u)) & 127u);
    }
    PutCode(l, data + static_cast<int64_t>(row / shape.rows) * l.matrix_bytes(),
            StoredRow(shape, static_cast<int>(row % shape.rows)), static_cast<int>(i % shape.cols), code);
  }
}

__global__ void fill_scales(PackedLayout l, WeightLayout shape, float scale, uint8_t* data, float* row_scales,
                            float* row_offsets) {
  const uint64_t step = static_cast<uint64_t>(gridDim.x) * kThreads, rows = shape.batch * shape.rows;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * kThreads + threadIdx.x; i < rows; i += step) {
    const int row = static_cast<int>(i % shape.rows);
    if (l.group == 0) {
      row_scales[i] = scale;
      if (row_offsets != nullptr) row_offsets[i] = 0.0f;
      continue;
    }
    for (int column = 0; column < l.k; column += l.group)
      PutScale(l, data + static_cast<int64_t>(i / shape.rows) * l.matrix_bytes(), row, column, scale, 0.0f);
  }
}

}  // namespace

cudaError_t PackCodes(cudaStream_t stream, const PackedLayout& layout, const WeightLayout& shape,
                      const uint8_t* codes, uint64_t first, uint64_t count, uint8_t* data) {
  pack_codes<<<GridFor(count), kThreads, 0, stream>>>(layout, shape, codes, first, count, data);
  return cudaGetLastError();
}

cudaError_t PackScales(cudaStream_t stream, const PackedLayout& layout, const WeightLayout& shape,
                       const ScaleGrid& grid, const float* scales, const float* offsets, uint64_t first,
                       uint64_t count, uint8_t* data, float* row_scales, float* row_offsets) {
  pack_scales<<<GridFor(count), kThreads, 0, stream>>>(layout, shape, grid, scales, offsets, first, count, data,
                                                       row_scales, row_offsets);
  return cudaGetLastError();
}

cudaError_t PackLossless12(cudaStream_t stream, const PackedLayout& layout, int matrices, const void* weights,
                           uint8_t* data, int* first, Overflow* overflow) {
  pack_lossless12<<<static_cast<unsigned>(matrices * layout.blocks()), 32, 0, stream>>>(
      layout, static_cast<const uint16_t*>(weights), data, first, overflow);
  return cudaGetLastError();
}

cudaError_t ExclusiveSum(cudaStream_t stream, int* first, int count) {
  exclusive_sum<<<1, 1024, 0, stream>>>(first, count);
  return cudaGetLastError();
}

cudaError_t FillCodes(cudaStream_t stream, const PackedLayout& layout, const WeightLayout& shape,
                      const ScaleGrid&, uint64_t seed, float stddev, uint8_t* data, float* row_scales,
                      float* row_offsets) {
  // The largest of a group stands near 3.8 deviations of int8 and fp8; int4 groups of 128 near 2.7.
  const float per_code = layout.packing == Packing::kInt4   ? 2.6f
                         : layout.packing == Packing::kInt8 ? 33.0f
                                                            : 64.0f;
  fill_codes<<<16384, kThreads, 0, stream>>>(layout, shape, seed, per_code, data);
  fill_scales<<<GridFor(shape.batch * shape.rows), kThreads, 0, stream>>>(layout, shape, stddev / per_code,
                                                                          data, row_scales, row_offsets);
  return cudaGetLastError();
}

cudaError_t FillSmooth(cudaStream_t stream, uint64_t count, uint64_t seed, float mean, float stddev,
                       void* data) {
  fill_smooth<<<GridFor(count), kThreads, 0, stream>>>(static_cast<uint16_t*>(data), count, seed, mean, stddev);
  return cudaGetLastError();
}

}  // namespace dsopt_cuda
