// cache_codes.cuh - a cache of F8_E4M3 or I8: a vector is kDim codes of a byte and an f32 scale, see
// dsopt_program_desc. Codes become bf16 in shared memory, where the tensor-core kernels expect bf16.
#ifndef DSOPT_CUDA_COMMON_CACHE_CODES_CUH_
#define DSOPT_CUDA_COMMON_CACHE_CODES_CUH_

#include <cuda_fp8.h>

#include "common/convert.cuh"
#include "launch.h"

namespace dsopt_cuda {

// The value of the byte at bits 8 i of word.
template <CacheCode kCode>
__device__ __forceinline__ float CodeValue(uint32_t word, int i) {
  if constexpr (kCode == CacheCode::kInt8) {
    return static_cast<float>(static_cast<int>(word << (24 - 8 * i)) >> 24);
  } else {
    // As f32 with the exponent 120 too small; subnormal codes are subnormal f32.
    const uint32_t byte = word >> (8 * i);
    return __uint_as_float((byte & 0x80) << 24 | (byte & 0x7f) << 20) * 0x1p120f;
  }
}

// 16 codes times their scale as two times 8 bf16.
template <CacheCode kCode>
__device__ __forceinline__ void Expand16(uint4 codes, float scale, uint4* low, uint4* high) {
  const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
  uint32_t out[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float a = CodeValue<kCode>(words[i / 2], i % 2 * 2) * scale;
    const float b = CodeValue<kCode>(words[i / 2], i % 2 * 2 + 1) * scale;
    out[i] = PackBf16(a, b);
  }
  *low = {out[0], out[1], out[2], out[3]};
  *high = {out[4], out[5], out[6], out[7]};
}

__device__ __forceinline__ void StoreShared16(uint32_t p, uint4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// Scale of a vector and its inverse (0: all codes are 0), from its largest magnitude. finite: all values are.
template <CacheCode kCode>
__device__ __forceinline__ float ScaleOf(float largest, bool finite, float* inverse) {
  *inverse = 0;
  if (!finite) return __uint_as_float(0x7fc00000u);
  if (!(largest >= 1e-30f)) return 0;
  const float scale = largest / (kCode == CacheCode::kInt8 ? 127.0f : 448.0f);
  *inverse = 1.0f / scale;
  return scale;
}

template <CacheCode kCode>
__device__ __forceinline__ uint8_t CodeOf(float x, float inverse) {
  if (inverse == 0) return 0;
  if constexpr (kCode == CacheCode::kInt8) return static_cast<uint8_t>(__float2int_rn(x * inverse));
  else return __nv_cvt_float_to_fp8(x * inverse, __NV_SATFINITE, __NV_E4M3);
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_CACHE_CODES_CUH_
