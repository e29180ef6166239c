// packed_values.cu - the slow ways that read single values of encoded weights back: embedding rows, and the f32
// product of reference programs.
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "common/packed.cuh"
#include "pack.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 256;

__device__ float Lossless12Value(const PackedWeight& w, int matrix, const uint8_t* chunk, const PackedPlace& p,
                                 int row, int column) {
  const PackedLayout& l = w.layout;
  const uint32_t* words = reinterpret_cast<const uint32_t*>(chunk + p.tile * 1536 + p.lane * 16) + p.step;
  const auto half = [&](int v) { return words[v * 128] >> (16 * p.half) & 0xFFFFu; };
  uint32_t code;
  if (p.reg < 3) {
    const uint32_t h = half(p.reg);
    code = (h >> 4 & 0x800u) | (h & 0x7FFu);
  } else {
    code = (half(0) >> 11 & 15u) << 8 | (half(1) >> 11 & 15u) << 4 | (half(2) >> 11 & 15u);
  }
  const uint8_t* side = chunk + p.tiles * 1536 + p.tile / 2 * (kBlockRows + 4 * kEscapeSlots);
  const uint32_t base = side[row % kBlockRows];
  if (code == 0) {  // it may stand for an escape
    const uint32_t wanted =
        0x8000u | static_cast<uint32_t>(row % kBlockRows) << 7 | static_cast<uint32_t>(column % kUnitColumns);
    for (int i = 0; i < kEscapeSlots; ++i) {
      const uint32_t slot = reinterpret_cast<const uint32_t*>(side + kBlockRows)[i];
      if (slot >> 16 == wanted) return __uint_as_float(slot << 16);
    }
    if (w.overflow_first != nullptr) {
      const int block = matrix * l.blocks() + row / kBlockRows;
      for (int i = w.overflow_first[block]; i < w.overflow_first[block + 1]; ++i) {
        const Overflow o = w.overflow[i];
        if (static_cast<int>(o.row) == row && static_cast<int>(o.column) == column)
          return __uint_as_float(static_cast<uint32_t>(o.bits) << 16);
      }
    }
    if (base == 0) return 0.0f;
  }
  return __uint_as_float((code >> 11) << 31 | (base + (code >> 7 & 15u)) << 23 | (code & 127u) << 16);
}

__device__ float PackedValue(const PackedWeight& w, int matrix, int row, int column) {
  const PackedLayout& l = w.layout;
  const PackedPlace p = PlaceOf(l, row, column);
  const uint8_t* data = w.data + matrix * l.matrix_bytes();
  const uint8_t* chunk = data + p.chunk;
  if (l.packing == Packing::kLossless12) return Lossless12Value(w, matrix, chunk, p, row, column);
  const uint8_t* at = data + CodeByte(l, p);
  float value;
  if (l.packing == Packing::kInt4) {
    const uint32_t word = *reinterpret_cast<const uint32_t*>(at);
    value = static_cast<float>(static_cast<int>(word >> (4 * p.reg + 16 * p.half) & 15u) - 8);
  } else if (l.packing == Packing::kInt8) {
    value = static_cast<float>(static_cast<int>(*at) - 128);
  } else {
    const uint32_t c = *at;
    value = __uint_as_float((c & 128u) << 24 | (c & 127u) << 20) * 1.329227995784916e36f;  // 2^120
  }
  if (l.group == 0) {
    const int64_t r = static_cast<int64_t>(matrix) * l.n + row;
    return value * w.row_scales[r] + (w.row_offsets != nullptr ? w.row_offsets[r] : 0.0f);
  }
  const uint8_t* side = chunk + p.tiles * l.tile_bytes();
  const int group = column % kChunkColumns / l.group * kBlockRows + row % kBlockRows;
  if (l.packing == Packing::kFp8) return value * reinterpret_cast<const float*>(side)[group];
  const __half* scales = reinterpret_cast<const __half*>(side);
  const float offset = l.offsets ? __half2float(scales[l.groups_of(p.tiles) * kBlockRows + group]) : 0.0f;
  return value * __half2float(scales[group]) + offset;
}

// grid   (hidden / 256, rows) x 256 threads      bound: latency
__global__ __launch_bounds__(kThreads) void embed_packed(PackedWeight table, const int* tokens, float scale,
                                                         float* x) {
  LetNextStart();
  WaitForPrevious();
  const int column = blockIdx.x * kThreads + threadIdx.x, hidden = table.layout.k;
  if (column >= hidden) return;
  x[static_cast<int64_t>(blockIdx.y) * hidden + column] =
      PackedValue(table, 0, tokens[blockIdx.y], column) * scale;
}

// As linear_reference: f32 inputs and outputs. A warp owns one weight row and up to 4 input rows.
// grid   (n / 8, row groups or slots) x 256 threads     bound: integer work of reading single codes
constexpr int kReferenceRows = 4;
__global__ __launch_bounds__(kThreads) void linear_packed_reference(LinearArgs a, PackedWeight weight) {
  LetNextStart();
  WaitForPrevious();
  const int lane = threadIdx.x % 32, unit = blockIdx.x * 8 + threadIdx.x / 32;
  const bool pairs = a.epilogue == Epilogue::kGateUp, slots = a.slot_expert != nullptr;
  const int per_unit = pairs ? 2 : 1, n0 = unit * per_unit;
  if (n0 >= a.n) return;
  const int first = slots ? blockIdx.y : blockIdx.y * kReferenceRows;
  const int count = slots ? 1 : min(kReferenceRows, a.rows - first);
  const int matrix = slots ? a.slot_expert[blockIdx.y] : 0;
  float sum[2][kReferenceRows] = {};
  for (int k = lane; k < a.k; k += 32) {
    for (int j = 0; j < per_unit; ++j) {
      const float w = PackedValue(weight, matrix, n0 + j, k);
#pragma unroll
      for (int r = 0; r < kReferenceRows; ++r) {
        const int64_t row = slots ? first / a.in_div : first + min(r, count - 1);
        sum[j][r] = fmaf(w, static_cast<const float*>(a.in)[row * a.in_row_stride + k], sum[j][r]);
      }
    }
  }
#pragma unroll
  for (int j = 0; j < 2; ++j)
#pragma unroll
    for (int r = 0; r < kReferenceRows; ++r) sum[j][r] = WarpSum(sum[j][r]);
  if (lane != 0) return;
  for (int r = 0; r < count; ++r) {
    float* to = static_cast<float*>(a.out) + (first + r) * a.out_row_stride;
    const float s0 = r == 0 ? sum[0][0] : r == 1 ? sum[0][1] : r == 2 ? sum[0][2] : sum[0][3];
    const float s1 = r == 0 ? sum[1][0] : r == 1 ? sum[1][1] : r == 2 ? sum[1][2] : sum[1][3];
    if (pairs) {
      const float gate = s0 + (a.bias != nullptr ? a.bias[unit] : 0.0f);
      const float up = s1 + (a.bias != nullptr ? a.bias[a.n / 2 + unit] : 0.0f);
      to[unit] = GatedActivation(gate, up, a.gelu);
      continue;
    }
    const float y = s0 + (a.bias != nullptr ? a.bias[n0] : 0.0f);
    to[n0] = a.epilogue == Epilogue::kAdd ? to[n0] + y : y;
  }
}

}  // namespace

cudaError_t EmbedPacked(const Launch& launch, const PackedWeight& table, const int* tokens, int rows,
                        float scale, float* x) {
  const dim3 grid(static_cast<unsigned>((table.layout.k + kThreads - 1) / kThreads),
                  static_cast<unsigned>(rows));
  return Start(launch, embed_packed, grid, dim3(kThreads), 0, table, tokens, scale, x);
}

cudaError_t LinearPackedReference(const Launch& launch, const LinearArgs& args, const PackedWeight& weight) {
  const bool slots = args.slot_expert != nullptr;
  const int groups = slots ? args.rows : (args.rows + kReferenceRows - 1) / kReferenceRows;
  const int units = args.epilogue == Epilogue::kGateUp ? args.n / 2 : args.n;
  if (groups > 65535 || args.batch != 1) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>((units + 7) / 8), static_cast<unsigned>(groups));
  return Start(launch, linear_packed_reference, grid, dim3(kThreads), 0, args, weight);
}

}  // namespace dsopt_cuda
