// linear_skinny.cu - y = x W^T for up to 64 rows at the speed of reading the weights once: tensor cores with the
// weights as the A operand, straight from global memory to registers. Also one row per slot of a mixture.
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kWarps = 8, kUnroll = 4;  // a warp step is 4 x 32 columns
constexpr int kShortK = 512;             // up to here a warp takes all columns of its own 16 rows

// The weights of columns [k, k + 128) of rows g and g + 8: 16 bytes each per 32 columns. Lane (g, t) holds columns
// 8 t .. 8 t + 7 of a group of 32; the products' own order of k inside the group does not matter as long as the
// activations are fetched alike.
struct Weights {
  uint4 lo[kUnroll], hi[kUnroll];
  __device__ __forceinline__ void Load(const bf16* w_lo, const bf16* w_hi, int k, int k_end) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const bool valid = k + 32 * u < k_end;
      lo[u] = valid ? LoadStream16(w_lo + k + 32 * u) : uint4{0, 0, 0, 0};
      hi[u] = valid ? LoadStream16(w_hi + k + 32 * u) : uint4{0, 0, 0, 0};
    }
  }
};

// out[r, n] (+)= in[r, :] . W[n, :] + bias[n], or act(gate) up of row pairs      bf16 operands, f32 sums
// in [rows, k] bf16   W [n, k] bf16   k % 8 == 0   rows <= 8 kTiles
// bytes  n * k * 2 (DRAM) + n / 16 * rows * k * 2 (activations, L2)     bound: DRAM up to about 16 rows, then L2
// grid   (n / 16, batch or slots) x 256 threads, 3 or 2 CTAs per SM: 96 KiB of weights in flight per SM
//        kSplit: 8 warps share 16 weight rows and cut k; partial sums meet in shared memory (4 to 32 KiB)
//        else (k <= 512, MLA's per-head products): grid (n / 128, ..), each warp has 16 rows of its own
// when   rows <= 64; mixtures with few slots (column 0 only)
template <int kTiles, bool kSplit>
__global__ __launch_bounds__(256, kTiles <= 2 ? 3 : 2) void linear_skinny(LinearArgs a) {
  constexpr int kColumns = 8 * kTiles, kPitch = 17;
  __shared__ float sums[kWarps][kColumns * kPitch];
  LetNextStart();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int n0 = kSplit ? blockIdx.x * 16 : (blockIdx.x * kWarps + warp) * 16;
  const bool slots = a.slot_expert != nullptr;
  if (slots) WaitForPrevious();  // the expert is the router's result
  const int64_t matrix = slots ? a.slot_expert[blockIdx.y] : blockIdx.y;
  const bf16* w = static_cast<const bf16*>(a.weight) + matrix * a.weight_stride + 8 * t;
  const bf16* w_lo = w + static_cast<int64_t>(min(n0 + g, a.n - 1)) * a.k;
  const bf16* w_hi = w + static_cast<int64_t>(min(n0 + g + 8, a.n - 1)) * a.k;
  const int k_end = a.k - 8 * t;
  int k = kSplit ? warp * 32 * kUnroll : 0;
  Weights v;
  v.Load(w_lo, w_hi, k, k_end);
  if (!slots) WaitForPrevious();
  const bf16* in = static_cast<const bf16*>(a.in) + 8 * t;
  if (slots) in += (blockIdx.y / a.in_div) * a.in_row_stride;
  else in += blockIdx.y * a.in_batch_stride;
  const int rows = slots ? 1 : a.rows;

  float acc[kTiles][4] = {};
  while (true) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      uint4 x[kTiles];
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        const bool valid = 8 * i + g < rows && k + 32 * u < k_end;
        x[i] = valid ? __ldcg(reinterpret_cast<const uint4*>(in + (8 * i + g) * a.in_row_stride + k + 32 * u))
                     : uint4{0, 0, 0, 0};
      }
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        Mma(acc[i], v.lo[u].x, v.hi[u].x, v.lo[u].y, v.hi[u].y, x[i].x, x[i].y);
        Mma(acc[i], v.lo[u].z, v.hi[u].z, v.lo[u].w, v.hi[u].w, x[i].z, x[i].w);
      }
    }
    k += (kSplit ? kWarps : 1) * 32 * kUnroll;
    if (k >= a.k) break;
    v.Load(w_lo, w_hi, k, k_end);
  }
#pragma unroll
  for (int i = 0; i < kTiles; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[warp][(8 * i + 2 * t + j % 2) * kPitch + g + 8 * (j / 2)] = acc[i][j];
  __syncthreads();

  const auto total = [&](int column, int row) {
    if (!kSplit) return sums[warp][column * kPitch + row];
    float s = 0;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) s += sums[i][column * kPitch + row];
    return s;
  };
  const int worker = kSplit ? threadIdx.x : lane, workers = kSplit ? 256 : 32;
  const int64_t out_base = slots ? blockIdx.y * a.out_row_stride : blockIdx.y * a.out_batch_stride;
  if (a.epilogue == Epilogue::kGateUp) {
    for (int e = worker; e < 8 * rows; e += workers) {
      const int column = e / 8, pair = e % 8, i = n0 / 2 + pair;
      if (2 * i >= a.n) continue;
      const float gate = total(column, 2 * pair) + (a.bias != nullptr ? a.bias[i] : 0.0f);
      const float up = total(column, 2 * pair + 1) + (a.bias != nullptr ? a.bias[a.n / 2 + i] : 0.0f);
      static_cast<bf16*>(a.out)[out_base + column * a.out_row_stride + i] =
          __float2bfloat16(GatedActivation(gate, up, a.gelu));
    }
    return;
  }
  for (int e = worker; e < 16 * rows; e += workers) {
    const int column = e / 16, n = n0 + e % 16;
    if (n >= a.n) continue;
    const float y = total(column, e % 16) + (a.bias != nullptr ? a.bias[n] : 0.0f);
    const int64_t at = out_base + column * a.out_row_stride + n;
    if (a.epilogue == Epilogue::kAdd) static_cast<float*>(a.out)[at] += y;
    else if (a.out_f32) static_cast<float*>(a.out)[at] = y;
    else static_cast<bf16*>(a.out)[at] = __float2bfloat16(y);
  }
}

}  // namespace

namespace {

template <bool kSplit>
cudaError_t StartSkinny(const Launch& launch, const LinearArgs& args, int tiles, int depth) {
  const int rows = kSplit ? 16 : 16 * kWarps;
  const dim3 grid(static_cast<unsigned>((args.n + rows - 1) / rows), static_cast<unsigned>(depth)), block(256);
  if (tiles <= 1) return Start(launch, linear_skinny<1, kSplit>, grid, block, 0, args);
  if (tiles <= 2) return Start(launch, linear_skinny<2, kSplit>, grid, block, 0, args);
  if (tiles <= 4) return Start(launch, linear_skinny<4, kSplit>, grid, block, 0, args);
  return Start(launch, linear_skinny<8, kSplit>, grid, block, 0, args);
}

}  // namespace

cudaError_t LinearSkinny(const Launch& launch, const LinearArgs& args) {
  const bool slots = args.slot_expert != nullptr;
  const int tiles = slots ? 1 : (args.rows + 7) / 8;
  const int depth = slots ? args.rows : args.batch;
  if (args.elem != Elem::kBf16 || args.k % 8 != 0 || tiles > 8 || depth > 65535) return cudaErrorInvalidValue;
  return args.k <= kShortK ? StartSkinny<false>(launch, args, tiles, depth)
                           : StartSkinny<true>(launch, args, tiles, depth);
}

}  // namespace dsopt_cuda
