// cache_codes.cuh - a cache of F8_E4M3, I8 or I4: vectors as codes and words, see dsopt_program_desc. How
// vectors become codes, and codes f32, or bf16 where tensor-core kernels expect bf16.
#ifndef DSOPT_CUDA_COMMON_CACHE_CODES_CUH_
#define DSOPT_CUDA_COMMON_CACHE_CODES_CUH_

#include <cuda_fp8.h>

#include "common/convert.cuh"
#include "launch.h"
#include "shared/cache_layout.h"

namespace dsopt_cuda {

inline constexpr int kCodeGroup = dsopt_shared::kCacheGroup;  // values of I4 that share a word

// Bytes of the codes, and number of the words, of a vector.
template <CacheCode kCode>
DSOPT_HOST_DEVICE constexpr int CodeBytes(int values) {
  return kCode == CacheCode::kInt4 ? values / 2 : values;
}
template <CacheCode kCode>
DSOPT_HOST_DEVICE constexpr int CodeWords(int values) {
  return kCode == CacheCode::kInt4 ? (values + kCodeGroup - 1) / kCodeGroup : 1;
}

// ---- reading ----------------------------------------------------------------------------------------

// The value of the byte at bits 8 i of word. F8_E4M3 and I8.
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

// Of a group of I4.
__device__ __forceinline__ float ScaleOfWord(uint32_t word) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(word & 0xffff)));
}
__device__ __forceinline__ float LowestOfWord(uint32_t word) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(word >> 16)));
}

// Value i of a vector.
template <CacheCode kCode>
__device__ __forceinline__ float CachedValue(const uint8_t* codes, const uint32_t* words, int i) {
  if constexpr (kCode == CacheCode::kInt4) {
    const uint32_t word = words[i / kCodeGroup];
    return fmaf(static_cast<float>(codes[i / 2] >> (i % 2 * 4) & 15), ScaleOfWord(word), LowestOfWord(word));
  } else {
    return CodeValue<kCode>(codes[i], 0) * __uint_as_float(words[0]);
  }
}

// 16 bytes of codes that share a word become vectors of 8 bf16. A word of zero makes codes of zero zeros.
// A code is put into the mantissa of a power of two, and one multiplication and addition takes off that and
// applies the scale. What the addend loses in its own rounding is at most 1/500 of a step of I8, less of I4.
template <CacheCode kCode>
struct CodeExpander {
  static constexpr int kVectors = kCode == CacheCode::kInt4 ? 4 : 2;
  float scale, base;

  __device__ explicit CodeExpander(uint32_t word) {
    if constexpr (kCode == CacheCode::kInt4) {
      scale = ScaleOfWord(word);
      base = fmaf(-128.0f, scale, LowestOfWord(word));
    } else {
      scale = __uint_as_float(word);
      base = -32896.0f * scale;  // 32768 and the 128 that make an I8 code positive
    }
  }
  // Vector i: of the codes in word i (I4), or in words 2 i and 2 i + 1.
  __device__ __forceinline__ uint4 Vector(const uint4& codes, int i) const {
    const uint32_t w[4] = {codes.x, codes.y, codes.z, codes.w};
    if constexpr (kCode == CacheCode::kInt4) {
      const uint32_t even = w[i] & 0x0F0F0F0Fu, odd = (w[i] >> 4) & 0x0F0F0F0Fu;
      return {Nibbles(even, odd, 0), Nibbles(even, odd, 1), Nibbles(even, odd, 2), Nibbles(even, odd, 3)};
    } else {
      uint4 out;
      Bytes(w[2 * i], out.x, out.y);
      Bytes(w[2 * i + 1], out.z, out.w);
      return out;
    }
  }

 private:
  // Bytes j of both words, below 16.
  __device__ __forceinline__ uint32_t Nibbles(uint32_t even, uint32_t odd, int j) const {
    const uint32_t select = 0x7044u + (static_cast<uint32_t>(j) << 8);
    return PackBf16(fmaf(__uint_as_float(__byte_perm(even, 0x43000000u, select)), scale, base),
                    fmaf(__uint_as_float(__byte_perm(odd, 0x43000000u, select)), scale, base));
  }
  // Bytes 0 and 1, then 2 and 3.
  __device__ __forceinline__ void Bytes(uint32_t w, uint32_t& low, uint32_t& high) const {
    if constexpr (kCode == CacheCode::kInt8) {
      const uint32_t u = w ^ 0x80808080u;
      const auto value = [&](uint32_t select) {
        return fmaf(__uint_as_float(__byte_perm(u, 0x47000000u, select)), scale, base);
      };
      low = PackBf16(value(0x7404u), value(0x7414u));
      high = PackBf16(value(0x7424u), value(0x7434u));
    } else {
#if __CUDA_ARCH__ >= 890 || !defined(__CUDA_ARCH__)
      UnpackFp8(w, low, high);
      low = Scaled(low), high = Scaled(high);
#else
      low = PackBf16(CodeValue<kCode>(w, 0) * scale, CodeValue<kCode>(w, 1) * scale);
      high = PackBf16(CodeValue<kCode>(w, 2) * scale, CodeValue<kCode>(w, 3) * scale);
#endif
    }
  }
  // Two f16 times the scale.
  __device__ __forceinline__ uint32_t Scaled(uint32_t pair) const {
    const float lo = __half2float(__ushort_as_half(static_cast<unsigned short>(pair & 0xffff)));
    const float hi = __half2float(__ushort_as_half(static_cast<unsigned short>(pair >> 16)));
    return PackBf16(lo * scale, hi * scale);
  }
};

__device__ __forceinline__ void StoreShared16(uint32_t p, uint4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

// ---- writing ----------------------------------------------------------------------------------------

inline constexpr float kTinyValue = 1e-30f;  // a group without a value as large is all zeros

// Scale of a vector of F8_E4M3 or I8 and its inverse (0: all codes are 0), from its largest magnitude. finite:
// all values are.
template <CacheCode kCode>
__device__ __forceinline__ float ScaleOf(float largest, bool finite, float* inverse) {
  *inverse = 0;
  if (!finite) return __uint_as_float(0x7fc00000u);
  if (!(largest >= kTinyValue)) return 0;
  const float scale = largest / (kCode == CacheCode::kInt8 ? 127.0f : 448.0f);
  *inverse = 1.0f / scale;
  return scale;
}

template <CacheCode kCode>
__device__ __forceinline__ uint8_t CodeOf(float x, float inverse) {
  if (inverse == 0) return 0;
  if constexpr (kCode == CacheCode::kInt8)
    return static_cast<uint8_t>(__float2int_rn(x * inverse));
  else
    return __nv_cvt_float_to_fp8(x * inverse, __NV_SATFINITE, __NV_E4M3);
}

// One warp, a value of a group of I4 per lane: its code and the group's word.
__device__ __forceinline__ uint32_t Int4Code(float v, uint32_t* word) {
  const bool finite = __all_sync(~0u, fabsf(v) < INFINITY);
  const float low = -WarpMax(-v), high = WarpMax(v);
  *word = 0x7e007e00u;  // NaNs
  float lowest = 0, inverse = 0;
  // Scale and lowest value are rounded first, then codes are chosen for what they are.
  if (finite && fmaxf(fabsf(low), fabsf(high)) >= kTinyValue) {
    const __half low_half = __float2half_rn(fmaxf(low, -65504.0f));
    lowest = __half2float(low_half);
    const __half scale_half = __float2half_rn(fminf(fmaxf(high - lowest, 0.0f) / 15.0f, 65504.0f));
    const float scale = __half2float(scale_half);
    if (scale > 0) inverse = 1.0f / scale;
    *word = __half_as_ushort(scale_half) | static_cast<uint32_t>(__half_as_ushort(low_half)) << 16;
  } else if (finite) {
    *word = 0;
  }
  const float steps = inverse == 0 ? 0.0f : (v - lowest) * inverse;
  return static_cast<uint32_t>(__float2int_rn(fminf(fmaxf(steps, 0.0f), 15.0f)));
}
// One warp writes the codes of `count` lanes.
__device__ __forceinline__ void StoreNibbles(uint32_t code, int count, uint8_t* codes, int lane) {
  const uint32_t next = __shfl_down_sync(~0u, code, 1);
  if (lane % 2 == 0 && lane < count) codes[lane / 2] = static_cast<uint8_t>(code | next << 4);
}

// One warp: x[count] becomes codes and a word. count is even, and at most kCodeGroup for I4.
template <CacheCode kCode>
__device__ __forceinline__ void EncodeGroup(const float* __restrict__ x, int count, uint8_t* __restrict__ codes,
                                            uint32_t* __restrict__ word, int lane) {
  if constexpr (kCode == CacheCode::kInt4) {
    uint32_t bits;
    StoreNibbles(Int4Code(x[min(lane, count - 1)], &bits), count, codes, lane);
    if (lane == 0) *word = bits;
  } else {
    float largest = 0;
    bool finite = true;
    for (int i = lane; i < count; i += 32) {
      largest = fmaxf(largest, fabsf(x[i]));
      finite &= fabsf(x[i]) < INFINITY;
    }
    float inverse;
    const float scale = ScaleOf<kCode>(WarpMax(largest), __all_sync(~0u, finite), &inverse);
    for (int i = lane; i < count; i += 32) codes[i] = CodeOf<kCode>(x[i], inverse);
    if (lane == 0) *word = __float_as_uint(scale);
  }
}

// Warp `warp` of `warps` writes its groups of a vector.
template <CacheCode kCode>
__device__ __forceinline__ void EncodeVector(const float* x, int values, uint8_t* codes, uint32_t* words,
                                             int warp, int warps, int lane) {
  if constexpr (kCode == CacheCode::kInt4) {
    for (int g = warp; g < CodeWords<kCode>(values); g += warps)
      EncodeGroup<kCode>(x + g * kCodeGroup, min(values - g * kCodeGroup, kCodeGroup),
                         codes + g * (kCodeGroup / 2), words + g, lane);
  } else {
    if (warp == 0) EncodeGroup<kCode>(x, values, codes, words, lane);
  }
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_CACHE_CODES_CUH_
