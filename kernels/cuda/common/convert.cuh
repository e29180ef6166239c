// convert.cuh - element types on the device: load any stored type as f32, store f32 as any type, reductions.
#ifndef DSOPT_CUDA_COMMON_CONVERT_CUH_
#define DSOPT_CUDA_COMMON_CONVERT_CUH_

#include "common/ptx.cuh"

namespace dsopt_cuda {

__device__ __forceinline__ float ToFloat(float v) { return v; }
__device__ __forceinline__ float ToFloat(bf16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float ToFloat(__half v) { return __half2float(v); }

template <typename T>
__device__ __forceinline__ T FromFloat(float v);
template <>
__device__ __forceinline__ float FromFloat<float>(float v) {
  return v;
}
template <>
__device__ __forceinline__ bf16 FromFloat<bf16>(float v) {
  return __float2bfloat16(v);
}
template <>
__device__ __forceinline__ __half FromFloat<__half>(float v) {
  return __float2half(v);
}

__device__ __forceinline__ float WarpSum(float v) {
#pragma unroll
  for (int m = 16; m > 0; m /= 2) v += __shfl_xor_sync(~0u, v, m);
  return v;
}
__device__ __forceinline__ float WarpMax(float v) {
#pragma unroll
  for (int m = 16; m > 0; m /= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, m));
  return v;
}
// Sum over the block; every thread gets it. scratch: 33 floats of shared memory.
__device__ __forceinline__ float BlockSum(float v, float* scratch) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = (blockDim.x + 31) / 32;
  v = WarpSum(v);
  __syncthreads();
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  if (warp == 0) {
    const float total = WarpSum(lane < warps ? scratch[lane] : 0.0f);
    if (lane == 0) scratch[32] = total;
  }
  __syncthreads();
  return scratch[32];
}
__device__ __forceinline__ float BlockMax(float v, float* scratch) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = (blockDim.x + 31) / 32;
  v = WarpMax(v);
  __syncthreads();
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  if (warp == 0) {
    const float total = WarpMax(lane < warps ? scratch[lane] : -INFINITY);
    if (lane == 0) scratch[32] = total;
  }
  __syncthreads();
  return scratch[32];
}

// act(gate) * up. gelu: the tanh form.
__device__ __forceinline__ float GatedActivation(float gate, float up, bool gelu) {
  if (gelu) {
    const float inner = 0.7978845608028654f * (gate + 0.044715f * gate * gate * gate);
    return 0.5f * gate * (1.0f + tanhf(inner)) * up;
  }
  return gate / (1.0f + __expf(-gate)) * up;
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_CONVERT_CUH_
