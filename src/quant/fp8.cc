#include "quant/fp8.h"

#include <cmath>
#include <cstring>

namespace dsopt {

float Fp8ToFloat(uint8_t bits) {
  const uint32_t exponent = (bits >> 3) & 15u, mantissa = bits & 7u;
  float magnitude;
  if ((bits & 0x7fu) == 0x7fu) {
    magnitude = NAN;
  } else if (exponent == 0) {
    magnitude = static_cast<float>(mantissa) * 0x1p-9f;
  } else {
    const uint32_t word = (exponent + 120u) << 23 | mantissa << 20;
    std::memcpy(&magnitude, &word, 4);
  }
  return (bits & 0x80u) != 0 ? -magnitude : magnitude;
}

uint8_t FloatToFp8(float value) {
  uint32_t word;
  std::memcpy(&word, &value, 4);
  const auto sign = static_cast<uint8_t>((word >> 24) & 0x80u);
  word &= 0x7fffffffu;
  if (word > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
  float magnitude;
  std::memcpy(&magnitude, &word, 4);
  if (magnitude >= kMostFp8) return static_cast<uint8_t>(sign | 0x7eu);
  if (magnitude < 0x1p-6f) {  // subnormal: adding 1.5 * 2^14 leaves round(value * 2^9) in the low bits
    const float sum = magnitude + 0x1.8p14f;
    std::memcpy(&word, &sum, 4);
    return static_cast<uint8_t>(sign | (word & 15u));  // 8 is the smallest normal number
  }
  word += 0x7ffffu + ((word >> 20) & 1u);  // may carry into the exponent
  const uint32_t code = (word >> 20) - (120u << 3);
  return static_cast<uint8_t>(sign | (code > 0x7eu ? 0x7eu : code));
}

}  // namespace dsopt
