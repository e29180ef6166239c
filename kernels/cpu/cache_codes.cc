// cache_codes.cc - see cache_codes.h. Ordinary code: every instruction set writes the same codes.
#include "cache_codes.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace dsopt_cpu {
namespace {

constexpr float kTiny = 1e-30f;  // below it a scale could be subnormal: such a group is zero
constexpr float kLargestF16 = 65504.0f;
constexpr uint32_t kNanF32 = 0x7fc00000u, kNanF16 = 0x7e00u;

uint32_t Bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

// Nearest integer, ties to even, for |x| < 2^22. Compiles to one addition.
int32_t Round(float x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23
  return static_cast<int32_t>(Bits(x + magic) - Bits(magic));
}

// Nearest e4m3, ties to even; |x| <= 448 but for rounding of the scale.
uint8_t Fp8(float x) {
  const uint32_t bits = Bits(x);
  const uint32_t sign = bits >> 24 & 0x80u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude < 0x3c800000u) {  // below 2^-6: multiples of 2^-9
    const uint32_t steps = static_cast<uint32_t>(Round(std::fabs(x) * 512.0f));
    return static_cast<uint8_t>(sign | steps);  // 8 is the smallest normal number
  }
  magnitude += 0x7ffffu + (magnitude >> 20 & 1u);
  const uint32_t code = (magnitude - (120u << 23)) >> 20;
  return static_cast<uint8_t>(sign | Min(code, 0x7eu));
}

// Largest magnitude; NaN when a value is not finite.
float Largest(const float* x, uint32_t count) {
  float largest = 0.0f, sum = 0.0f;
  for (uint32_t i = 0; i < count; ++i) {
    const float magnitude = std::fabs(x[i]);
    largest = magnitude > largest ? magnitude : largest;
    sum += x[i] * 0.0f;  // NaN, once there is an infinity or NaN
  }
  return sum == 0.0f ? largest : std::numeric_limits<float>::quiet_NaN();
}

void EncodeBytes(CacheCode code, const float* x, uint32_t count, uint8_t* codes, uint8_t* word) {
  const float largest = Largest(x, count), top = code == kCacheFp8 ? 448.0f : 127.0f;
  uint32_t scale_bits = kNanF32;
  float inverse = 0.0f;
  if (largest >= kTiny) {
    const float scale = largest / top;
    scale_bits = Bits(scale);
    inverse = 1.0f / scale;
  } else if (largest < kTiny) {
    scale_bits = 0;
  }
  std::memcpy(word, &scale_bits, 4);
  if (inverse == 0.0f) {
    std::memset(codes, 0, count);
  } else if (code == kCacheFp8) {
    for (uint32_t i = 0; i < count; ++i) codes[i] = Fp8(x[i] * inverse);
  } else {
    for (uint32_t i = 0; i < count; ++i) {  // rounding of scale and inverse may lead to 127.00002: still 127
      codes[i] = static_cast<uint8_t>(Round(x[i] * inverse));
    }
  }
}

// One group; count is even. Scale and lowest value are rounded first, then codes are chosen for what they are.
void EncodeNibbles(const float* x, uint32_t count, uint8_t* codes, uint8_t* word) {
  const float largest = Largest(x, count);
  uint32_t bits = kNanF16 | kNanF16 << 16;
  float lowest = 0.0f, inverse = 0.0f;
  if (largest < kTiny) bits = 0;
  if (largest >= kTiny) {
    float low = x[0], high = x[0];
    for (uint32_t i = 1; i < count; ++i) {
      low = x[i] < low ? x[i] : low;
      high = x[i] > high ? x[i] : high;
    }
    const uint16_t low_half = F16FromFloat(Max(low, -kLargestF16));
    lowest = FloatFromF16(low_half);
    const uint16_t scale_half = F16FromFloat(Min(Max(high - lowest, 0.0f) / 15.0f, kLargestF16));
    const float scale = FloatFromF16(scale_half);
    if (scale > 0.0f) inverse = 1.0f / scale;
    bits = scale_half | static_cast<uint32_t>(low_half) << 16;
  }
  std::memcpy(word, &bits, 4);
  for (uint32_t i = 0; i < count; i += 2) {
    uint32_t pair[2];
    for (uint32_t j = 0; j < 2; ++j) {
      const float steps = inverse == 0.0f ? 0.0f : (x[i + j] - lowest) * inverse;
      pair[j] = static_cast<uint32_t>(Round(Min(Max(steps, 0.0f), 15.0f)));
    }
    codes[i / 2] = static_cast<uint8_t>(pair[0] | pair[1] << 4);
  }
}

}  // namespace

CacheCode CacheCodeOf(dsopt_dtype kv_dtype) {
  switch (kv_dtype) {
    case DSOPT_F8_E4M3:
      return kCacheFp8;
    case DSOPT_I8:
      return kCacheInt8;
    case DSOPT_I4:
      return kCacheInt4;
    default:
      return kPlainCache;
  }
}

CodedPlace PlaceHeads(CacheCode code, uint32_t values, uint64_t codes, uint64_t words) {
  CodedPlace place = {};
  place.values = values;
  place.codes = codes;
  place.words = words;
  place.code_stride = CacheCodeBytes(code, values);
  place.word_stride = CacheWordBytes(code, values);
  place.head_codes = kPageTokens * place.code_stride;
  place.head_words = kPageTokens * place.word_stride;
  return place;
}

void EncodeVector(CacheCode code, const float* x, const CodedPlace& place, uint64_t head, uint32_t slot,
                  uint8_t* layer) {
  uint8_t* codes = layer + place.codes + head * place.head_codes + slot * place.code_stride;
  uint8_t* words = layer + place.words + head * place.head_words + slot * place.word_stride;
  if (code != kCacheInt4) return EncodeBytes(code, x, place.values, codes, words);
  for (uint32_t first = 0; first < place.values; first += kCacheGroup) {
    EncodeNibbles(x + first, Min(place.values - first, kCacheGroup), codes + first / 2,
                  words + first / kCacheGroup * 4);
  }
}

}  // namespace dsopt_cpu
