// linear_tiles.cu - y = x W^T for many rows with mma.sync tiles (sm_80 and newer): our own kernel for prefill where
// cublasLt is not found, and for mixtures, whose slots are gathered by expert inside the kernel.
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kN = 128, kK = 64, kStages = 3, kThreads = 256;

template <int kM>
constexpr int SharedBytes() {
  return kStages * (kM + kN) * kK * 2;
}

// 16-byte chunk c of row r of a tile with 128-byte rows; ldmatrix then reads 8 rows without conflicts.
__device__ __forceinline__ uint32_t TileAddress(uint32_t base, int r, int c) { return base + r * 128 + ((c ^ (r & 7)) << 4); }

// out[m, n] (+)= in[m, :] . W[n, :] + bias[n], or act(gate) up of column pairs      bf16 operands, f32 sums
// in [rows, k] bf16   W [n, k] bf16   k % 8 == 0
// bytes  DRAM: W once (the row tiles of a weight tile run side by side), in about n / 128 times from L2
//        shared: 64 KiB per 128x128x64 step against 2 MFLOP    bound: tensor cores (mma.sync)
// grid   (row tiles, n / 128, batch) x 256 threads; 3 stages of cp.async, 72 or 96 KiB; 8 warps of 32x32 or 64x32
// when   rows > 64; mixtures: row tiles of one expert each, rows gathered through sorted_slots
template <int kM>
__global__ __launch_bounds__(kThreads, 2) void linear_tiles(LinearArgs a) {
  extern __shared__ __align__(128) char smem[];
  LetNextStart();
  WaitForPrevious();
  constexpr int kWarpM = kM / 2, kFragM = kWarpM / 16, kLoadA = kM / 32, kLoadB = kN / 32;
  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  const int n0 = blockIdx.y * kN;
  int first = blockIdx.x * kM, count = min(kM, a.rows - first);
  int64_t matrix = blockIdx.z;
  if (a.sorted_slots != nullptr) {
    const int4 tile = a.tiles[blockIdx.x];
    if (tile.z == 0) return;
    matrix = tile.x;
    first = tile.y;
    count = tile.z;
  }
  const uint32_t base = SmemAddress(smem);
  const auto stage_a = [&](int s) { return base + s * (kM + kN) * kK * 2; };
  const auto stage_b = [&](int s) { return stage_a(s) + kM * kK * 2; };

  const int chunk = tid % 8;
  const bf16* in = static_cast<const bf16*>(a.in) + blockIdx.z * a.in_batch_stride + chunk * 8;
  const bf16* w = static_cast<const bf16*>(a.weight) + matrix * a.weight_stride + chunk * 8;
  const bf16* from_a[kLoadA];
  const bf16* from_b[kLoadB];
  uint32_t valid_a = 0, valid_b = 0;
#pragma unroll
  for (int j = 0; j < kLoadA; ++j) {
    const int r = tid / 8 + 32 * j;
    const bool valid = r < count;
    int row = valid ? first + r : 0;
    if (valid && a.sorted_slots != nullptr) row = a.sorted_slots[first + r] / a.in_div;
    valid_a |= (valid ? 1u : 0u) << j;
    from_a[j] = in + row * a.in_row_stride;
  }
#pragma unroll
  for (int j = 0; j < kLoadB; ++j) {
    const int n = n0 + tid / 8 + 32 * j;
    valid_b |= (n < a.n ? 1u : 0u) << j;
    from_b[j] = w + static_cast<int64_t>(n < a.n ? n : 0) * a.k;
  }
  const int steps = (a.k + kK - 1) / kK;
  const auto load = [&](int step) {
    const int s = step % kStages, k = step * kK;
    const bool inside = k + chunk * 8 < a.k;
    const int at = inside ? k : 0;
#pragma unroll
    for (int j = 0; j < kLoadA; ++j)
      CopyAsync16(TileAddress(stage_a(s), tid / 8 + 32 * j, chunk), from_a[j] + at, inside && (valid_a >> j & 1));
#pragma unroll
    for (int j = 0; j < kLoadB; ++j)
      CopyAsync16(TileAddress(stage_b(s), tid / 8 + 32 * j, chunk), from_b[j] + at, inside && (valid_b >> j & 1));
  };
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps) load(s);
    CopyAsyncCommit();
  }

  const int warp_m = warp / 4 * kWarpM, warp_n = warp % 4 * 32;
  float acc[kFragM][4][4] = {};
  for (int step = 0; step < steps; ++step) {
    CopyAsyncWait<kStages - 2>();
    __syncthreads();
    if (step + kStages - 1 < steps) load(step + kStages - 1);
    CopyAsyncCommit();
    const uint32_t at_a = stage_a(step % kStages), at_b = stage_b(step % kStages);
#pragma unroll
    for (int ks = 0; ks < kK / 16; ++ks) {
      uint4 fa[kFragM], fb[2];
#pragma unroll
      for (int i = 0; i < kFragM; ++i)
        fa[i] = LoadMatrix(TileAddress(at_a, warp_m + 16 * i + lane % 16, 2 * ks + lane / 16));
#pragma unroll
      for (int i = 0; i < 2; ++i)
        fb[i] = LoadMatrix(TileAddress(at_b, warp_n + 16 * i + lane / 16 * 8 + lane % 8, 2 * ks + lane / 8 % 2));
#pragma unroll
      for (int i = 0; i < kFragM; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          Mma(acc[i][2 * j], fa[i].x, fa[i].y, fa[i].z, fa[i].w, fb[j].x, fb[j].y);
          Mma(acc[i][2 * j + 1], fa[i].x, fa[i].y, fa[i].z, fa[i].w, fb[j].z, fb[j].w);
        }
      }
    }
  }

  const int64_t out_base = blockIdx.z * a.out_batch_stride;
#pragma unroll
  for (int i = 0; i < kFragM; ++i) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int m = warp_m + 16 * i + lane / 4 + 8 * h;
      if (m >= count) continue;
      const int64_t row = a.sorted_slots != nullptr ? a.sorted_slots[first + m] : first + m;
      const int64_t to = out_base + row * a.out_row_stride;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int n = n0 + warp_n + 8 * j + lane % 4 * 2;
        if (n >= a.n) continue;
        float y0 = acc[i][j][2 * h], y1 = acc[i][j][2 * h + 1];
        if (a.epilogue == Epilogue::kGateUp) {
          if (a.bias != nullptr) {
            y0 += a.bias[n / 2];
            y1 += a.bias[a.n / 2 + n / 2];
          }
          static_cast<bf16*>(a.out)[to + n / 2] = __float2bfloat16(GatedActivation(y0, y1, a.gelu));
          continue;
        }
        const bool second = n + 1 < a.n;
        if (a.bias != nullptr) {
          y0 += a.bias[n];
          if (second) y1 += a.bias[n + 1];
        }
        if (a.epilogue == Epilogue::kAdd) {
          float* x = static_cast<float*>(a.out) + to + n;
          x[0] += y0;
          if (second) x[1] += y1;
        } else if (a.out_f32) {
          float* x = static_cast<float*>(a.out) + to + n;
          x[0] = y0;
          if (second) x[1] = y1;
        } else {
          bf16* x = static_cast<bf16*>(a.out) + to + n;
          x[0] = __float2bfloat16(y0);
          if (second) x[1] = __float2bfloat16(y1);
        }
      }
    }
  }
}

}  // namespace

cudaError_t LinearTiles(const Launch& launch, const LinearArgs& args) {
  if (args.elem != Elem::kBf16 || args.k % 8 != 0) return cudaErrorInvalidValue;
  const unsigned columns = static_cast<unsigned>((args.n + kN - 1) / kN), depth = static_cast<unsigned>(args.batch);
  if (args.sorted_slots != nullptr)
    return StartLarge(launch, linear_tiles<kGroupRows>, dim3(static_cast<unsigned>(args.max_tiles), columns, 1),
                      dim3(kThreads), SharedBytes<kGroupRows>(), args);
  const int tiles128 = (args.rows + 127) / 128;
  // Few tiles: the smaller ones keep more of the GPU busy.
  if (static_cast<int64_t>(tiles128) * columns * depth < launch.limits->sms)
    return StartLarge(launch, linear_tiles<64>, dim3(static_cast<unsigned>((args.rows + 63) / 64), columns, depth),
                      dim3(kThreads), SharedBytes<64>(), args);
  return StartLarge(launch, linear_tiles<128>, dim3(static_cast<unsigned>(tiles128), columns, depth),
                    dim3(kThreads), SharedBytes<128>(), args);
}

}  // namespace dsopt_cuda
