// simd.h - vectors of floats as wide as the file that includes it is compiled for. Everything is static and
// inlined: no symbol of a wide file may end up in ordinary code. Multiply-adds are explicit
// (-ffp-contract=off), so the rounding of a sum never depends on what the compiler happened to fuse.
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__) || defined(__AVX512F__) || defined(__SSE2__)
#include <immintrin.h>
#endif

#define DSOPT_INLINE static inline __attribute__((always_inline, unused))

namespace {

#if defined(__AVX512F__)
constexpr uint32_t kLanes = 16;
typedef __m512 VF;
typedef int32_t VI __attribute__((vector_size(64)));
DSOPT_INLINE VF Fma(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }
DSOPT_INLINE VF Max(VF a, VF b) { return _mm512_max_ps(a, b); }
DSOPT_INLINE VF Set1(float v) { return _mm512_set1_ps(v); }
#elif defined(__AVX2__)
constexpr uint32_t kLanes = 8;
typedef __m256 VF;
typedef int32_t VI __attribute__((vector_size(32)));
DSOPT_INLINE VF Fma(VF a, VF b, VF c) { return _mm256_fmadd_ps(a, b, c); }
DSOPT_INLINE VF Max(VF a, VF b) { return _mm256_max_ps(a, b); }
DSOPT_INLINE VF Set1(float v) { return _mm256_set1_ps(v); }
#else
constexpr uint32_t kLanes = 4;
typedef float VF __attribute__((vector_size(16)));
typedef int32_t VI __attribute__((vector_size(16)));
DSOPT_INLINE VF Fma(VF a, VF b, VF c) { return a * b + c; }
DSOPT_INLINE VF Max(VF a, VF b) { return a > b ? a : b; }  // b if either is NaN, as maxps
DSOPT_INLINE VF Set1(float v) { return VF{v, v, v, v}; }
#endif

DSOPT_INLINE VF Zero() { return Set1(0.0f); }
DSOPT_INLINE VF Load(const float* p) {
  VF v;
  memcpy(&v, p, sizeof(v));
  return v;
}
DSOPT_INLINE void Store(float* p, VF v) { memcpy(p, &v, sizeof(v)); }
DSOPT_INLINE VF LoadPart(const float* p, uint32_t count, float fill) {
  float t[kLanes];
  for (uint32_t i = 0; i < kLanes; ++i) t[i] = i < count ? p[i] : fill;
  return Load(t);
}
DSOPT_INLINE void StorePart(float* p, VF v, uint32_t count) {
  float t[kLanes];
  Store(t, v);
  for (uint32_t i = 0; i < count; ++i) p[i] = t[i];
}
DSOPT_INLINE VI AsInt(VF v) {
  VI i;
  memcpy(&i, &v, sizeof(i));
  return i;
}
DSOPT_INLINE VF AsFloat(VI v) {
  VF f;
  memcpy(&f, &v, sizeof(f));
  return f;
}

// The order of these reductions is fixed by the lanes alone.
DSOPT_INLINE float ReduceAdd(VF v) {
  float t[kLanes];
  Store(t, v);
  for (uint32_t half = kLanes / 2; half > 0; half /= 2) {
    for (uint32_t i = 0; i < half; ++i) t[i] += t[i + half];
  }
  return t[0];
}
DSOPT_INLINE float ReduceMax(VF v) {
  float t[kLanes];
  Store(t, v);
  float m = t[0];
  for (uint32_t i = 1; i < kLanes; ++i) m = t[i] > m ? t[i] : m;
  return m;
}

// Round to nearest even; a NaN stays one.
DSOPT_INLINE uint16_t ToBf16(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
DSOPT_INLINE float FromBf16(uint16_t h) {
  const uint32_t u = static_cast<uint32_t>(h) << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
DSOPT_INLINE float FromF16(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t magnitude = h & 0x7fffu;
  uint32_t u = magnitude << 13;
  float f;
  if (magnitude >= 0x7c00u) {
    u += 0x70000000u;  // infinity or NaN
  } else if (magnitude >= 0x400u) {
    u += 0x38000000u;  // normal: re-bias the exponent
  } else {             // subnormal: magnitude * 2^-24, exactly
    f = static_cast<float>(magnitude) * 0x1p-24f;
    memcpy(&u, &f, 4);
  }
  u |= sign;
  memcpy(&f, &u, 4);
  return f;
}

// kLanes bf16 or f16 values as floats.
#if defined(__AVX512F__)
DSOPT_INLINE VF LoadBf16(const uint16_t* p) {
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
DSOPT_INLINE VF LoadF16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
#elif defined(__AVX2__)
DSOPT_INLINE VF LoadBf16(const uint16_t* p) {
  const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
DSOPT_INLINE VF LoadF16(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
#else
DSOPT_INLINE VF LoadBf16(const uint16_t* p) {
  return VF{FromBf16(p[0]), FromBf16(p[1]), FromBf16(p[2]), FromBf16(p[3])};
}
DSOPT_INLINE VF LoadF16(const uint16_t* p) {
  return VF{FromF16(p[0]), FromF16(p[1]), FromF16(p[2]), FromF16(p[3])};
}
#endif

// kLanes bytes, or as many words of 32 bits, as integers.
#if defined(__AVX512F__)
DSOPT_INLINE VI LoadI8(const uint8_t* p) {
  return reinterpret_cast<VI>(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
DSOPT_INLINE VI LoadU8(const uint8_t* p) {
  return reinterpret_cast<VI>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
#elif defined(__AVX2__)
DSOPT_INLINE VI LoadI8(const uint8_t* p) {
  return reinterpret_cast<VI>(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
DSOPT_INLINE VI LoadU8(const uint8_t* p) {
  return reinterpret_cast<VI>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
#else
DSOPT_INLINE VI LoadI8(const uint8_t* p) {
  int8_t b[4];
  memcpy(b, p, 4);
  return VI{b[0], b[1], b[2], b[3]};
}
DSOPT_INLINE VI LoadU8(const uint8_t* p) { return VI{p[0], p[1], p[2], p[3]}; }
#endif
DSOPT_INLINE VI LoadI32(const uint8_t* p) {
  VI v;
  memcpy(&v, p, sizeof(v));
  return v;
}
DSOPT_INLINE VF ToFloat(VI v) { return __builtin_convertvector(v, VF); }

DSOPT_INLINE void StoreBf16(uint16_t* p, VF v) {
#if defined(__AVX512BF16__)
  const __m256bh h = _mm512_cvtneps_pbh(v);
  memcpy(p, &h, sizeof(h));
#else
  float t[kLanes];
  Store(t, v);
  for (uint32_t i = 0; i < kLanes; ++i) p[i] = ToBf16(t[i]);
#endif
}

// e^x: at most about 1 ulp off for x in [-87.3, 88.3], 0 below, about 2e38 above; a NaN stays one.
#if defined(__AVX2__) || defined(__AVX512F__)
DSOPT_INLINE VF Exp(VF x) {
  const VF low = Set1(-87.336544f), high = Set1(88.3f), magic = Set1(12582912.0f);
  const VF c = -Max(Set1(0.0f) - high, Set1(0.0f) - Max(low, x));
  const VF t = Fma(c, Set1(1.44269504f), magic);  // the low bits of t hold round(c / ln 2)
  const VF n = t - magic;
  VF r = Fma(n, Set1(-0.693359375f), c);
  r = Fma(n, Set1(2.12194440e-4f), r);
  VF y = Fma(Set1(1.9875691500e-4f), r, Set1(1.3981999507e-3f));
  y = Fma(y, r, Set1(8.3334519073e-3f));
  y = Fma(y, r, Set1(4.1665795894e-2f));
  y = Fma(y, r, Set1(1.6666665459e-1f));
  y = Fma(y, r, Set1(5.0000001201e-1f));
  y = Fma(y, r * r, r) + Set1(1.0f);
  const VI power = (AsInt(t) - AsInt(magic) + 127) << 23;
  y = y * AsFloat(power);
#if defined(__AVX512F__)
  return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, low, _CMP_LT_OQ), Zero());
#else
  return _mm256_andnot_ps(_mm256_cmp_ps(x, low, _CMP_LT_OQ), y);
#endif
}
#else
DSOPT_INLINE VF Exp(VF x) { return VF{expf(x[0]), expf(x[1]), expf(x[2]), expf(x[3])}; }
#endif

}  // namespace
