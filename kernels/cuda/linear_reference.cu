// linear_reference.cu - y = x W^T with f32 activations, products and sums, for weights of any stored type and any
// shape. The check mode and the fallback for checkpoints that are not bf16; not tuned for speed.
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kRows = 4;  // input rows of one pass over the weights

template <typename W>
__device__ __forceinline__ void Load4(const W* p, float (&v)[4]);
template <>
__device__ __forceinline__ void Load4<float>(const float* p, float (&v)[4]) {
  const float4 x = *reinterpret_cast<const float4*>(p);
  v[0] = x.x; v[1] = x.y; v[2] = x.z; v[3] = x.w;
}
template <>
__device__ __forceinline__ void Load4<bf16>(const bf16* p, float (&v)[4]) {
  const uint2 x = *reinterpret_cast<const uint2*>(p);
  v[0] = __uint_as_float(x.x << 16); v[1] = __uint_as_float(x.x & 0xffff0000u);
  v[2] = __uint_as_float(x.y << 16); v[3] = __uint_as_float(x.y & 0xffff0000u);
}
template <>
__device__ __forceinline__ void Load4<__half>(const __half* p, float (&v)[4]) {
  const uint2 x = *reinterpret_cast<const uint2*>(p);
  const float2 lo = __half22float2(*reinterpret_cast<const __half2*>(&x.x));
  const float2 hi = __half22float2(*reinterpret_cast<const __half2*>(&x.y));
  v[0] = lo.x; v[1] = lo.y; v[2] = hi.x; v[3] = hi.y;
}

// out[r, n] (+)= sum_k in[r, k] W[n, k] + bias[n], or act(gate) up of row pairs          all f32 but W
// in [rows, k] f32   W [n, k]   out f32     k % 4 == 0: 4 values per load, else one by one
// bytes  ceil(rows / 4) * n * k * element (L2 after the first pass)    bound: L2, FFMA
// grid   (n / 16, row groups or slots, batch) x 256 threads; a warp owns 2 weight rows and up to 4 input rows
// when   REFERENCE programs; weights in f32 or f16
template <typename W>
__global__ __launch_bounds__(256) void linear_reference(LinearArgs a) {
  LetNextStart();
  WaitForPrevious();
  const int lane = threadIdx.x % 32, n0 = (blockIdx.x * 8 + threadIdx.x / 32) * 2;
  if (n0 >= a.n) return;
  const bool slots = a.slot_expert != nullptr;
  const int first = slots ? blockIdx.y : blockIdx.y * kRows, count = slots ? 1 : min(kRows, a.rows - first);
  const int64_t matrix = slots ? a.slot_expert[blockIdx.y] : blockIdx.z;
  const W* w[2];
#pragma unroll
  for (int j = 0; j < 2; ++j)
    w[j] = static_cast<const W*>(a.weight) + matrix * a.weight_stride + static_cast<int64_t>(min(n0 + j, a.n - 1)) * a.k;
  const float* in[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int row = slots ? first / a.in_div : first + min(r, count - 1);
    in[r] = static_cast<const float*>(a.in) + blockIdx.z * a.in_batch_stride + row * a.in_row_stride;
  }
  float sum[2][kRows] = {};
  if (a.k % 4 == 0) {
    for (int k = lane * 4; k < a.k; k += 128) {
      float v[2][4];
      Load4<W>(w[0] + k, v[0]);
      Load4<W>(w[1] + k, v[1]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float4 x = *reinterpret_cast<const float4*>(in[r] + k);
#pragma unroll
        for (int j = 0; j < 2; ++j)
          sum[j][r] = fmaf(v[j][0], x.x, fmaf(v[j][1], x.y, fmaf(v[j][2], x.z, fmaf(v[j][3], x.w, sum[j][r]))));
      }
    }
  } else {
    for (int k = lane; k < a.k; k += 32) {
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int j = 0; j < 2; ++j) sum[j][r] = fmaf(ToFloat(w[j][k]), in[r][k], sum[j][r]);
    }
  }
#pragma unroll
  for (int j = 0; j < 2; ++j)
#pragma unroll
    for (int r = 0; r < kRows; ++r) sum[j][r] = WarpSum(sum[j][r]);
  if (lane != 0) return;
  float* out = static_cast<float*>(a.out) + blockIdx.z * a.out_batch_stride;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= count) break;
    float* to = out + (first + r) * a.out_row_stride;
    if (a.epilogue == Epilogue::kGateUp) {
      const int i = n0 / 2;
      const float gate = sum[0][r] + (a.bias != nullptr ? a.bias[i] : 0.0f);
      const float up = sum[1][r] + (a.bias != nullptr ? a.bias[a.n / 2 + i] : 0.0f);
      to[i] = GatedActivation(gate, up, a.gelu);
      continue;
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      if (n0 + j >= a.n) continue;
      const float y = sum[j][r] + (a.bias != nullptr ? a.bias[n0 + j] : 0.0f);
      to[n0 + j] = a.epilogue == Epilogue::kAdd ? to[n0 + j] + y : y;
    }
  }
}

}  // namespace

cudaError_t LinearReference(const Launch& launch, const LinearArgs& args) {
  const bool slots = args.slot_expert != nullptr;
  const int groups = slots ? args.rows : (args.rows + kRows - 1) / kRows;
  const dim3 block(256);
  // grid.y is limited to 65535: wider batches go in several launches.
  for (int done = 0; done < groups; done += 65535) {
    LinearArgs part = args;
    const int now = groups - done < 65535 ? groups - done : 65535;
    const int first = slots ? done : done * kRows;
    part.rows = args.rows - first;
    if (slots) part.slot_expert = args.slot_expert + done;
    if (slots && first % args.in_div != 0) return cudaErrorInvalidValue;
    part.in = static_cast<const float*>(args.in) + (slots ? first / args.in_div : first) * args.in_row_stride;
    part.out = static_cast<float*>(args.out) + first * args.out_row_stride;
    const dim3 grid(static_cast<unsigned>((args.n + 15) / 16), static_cast<unsigned>(now),
                    static_cast<unsigned>(args.batch));
    cudaError_t error;
    switch (args.elem) {
      case Elem::kF32: error = Start(launch, linear_reference<float>, grid, block, 0, part); break;
      case Elem::kF16: error = Start(launch, linear_reference<__half>, grid, block, 0, part); break;
      default: error = Start(launch, linear_reference<bf16>, grid, block, 0, part); break;
    }
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace dsopt_cuda
