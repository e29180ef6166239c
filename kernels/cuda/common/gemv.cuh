// gemv.cuh - pieces of the one-row products: the normalised input in shared memory, dot products of 8 bf16 pairs.
#ifndef DSOPT_CUDA_COMMON_GEMV_CUH_
#define DSOPT_CUDA_COMMON_GEMV_CUH_

#include "common/convert.cuh"

namespace dsopt_cuda {

__device__ __forceinline__ void DotPair(float& sum, uint32_t w, uint32_t x) {
  sum = fmaf(__uint_as_float(w << 16), __uint_as_float(x << 16), sum);
  sum = fmaf(__uint_as_float(w & 0xffff0000u), __uint_as_float(x & 0xffff0000u), sum);
}
__device__ __forceinline__ float Dot8(float sum, uint4 w, uint4 x) {
  DotPair(sum, w.x, x.x);
  DotPair(sum, w.y, x.y);
  DotPair(sum, w.z, x.z);
  DotPair(sum, w.w, x.w);
  return sum;
}

// 1 / rms of k values (k % 4 == 0), the same in every thread. scratch: 33 floats of shared memory.
__device__ __forceinline__ float InverseRms(const float* in, int k, float eps, float* scratch) {
  float sum = 0;
  for (int i = threadIdx.x; i < k / 4; i += blockDim.x) {
    const float4 v = __ldcg(reinterpret_cast<const float4*>(in) + i);
    sum = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, sum))));
  }
  return rsqrtf(BlockSum(sum, scratch) / static_cast<float>(k) + eps);
}

// rmsnorm(in) * gain as bf16 into shared memory; the caller synchronises.
__device__ __forceinline__ void NormToShared(const float* in, const float* gain, float eps, int k, uint2* out,
                                             float* scratch) {
  const float rstd = InverseRms(in, k, eps, scratch);
  for (int i = threadIdx.x; i < k / 4; i += blockDim.x) {
    const float4 v = __ldcg(reinterpret_cast<const float4*>(in) + i);
    const float4 g = __ldg(reinterpret_cast<const float4*>(gain) + i);
    out[i] = {PackBf16(v.x * rstd * g.x, v.y * rstd * g.y), PackBf16(v.z * rstd * g.z, v.w * rstd * g.w)};
  }
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_GEMV_CUH_
