#include "base/float_types.h"

#include <bit>
#include <cstring>

namespace dsopt {
namespace {

template <typename T>
T LoadUnaligned(const uint8_t* src) {
  T value;
  std::memcpy(&value, src, sizeof(T));
  return value;
}

template <typename T>
void StoreUnaligned(uint8_t* dst, T value) {
  std::memcpy(dst, &value, sizeof(T));
}

}  // namespace

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu, mantissa = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float value = static_cast<float>(mantissa) * 0x1p-24f;  // zero or subnormal: exact
  return sign != 0 ? -value : value;
}

float Bf16ToFloat(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to 65536 or more
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24; adding 0.5 rounds to one
    const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(rounded) - 0x3f000000u));
  }
  const uint32_t rebased = magnitude - 0x38000000u;
  return static_cast<uint16_t>(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13));
}

uint16_t FloatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

bool IsFloatType(dsopt_dtype type) { return type == DSOPT_F32 || type == DSOPT_F16 || type == DSOPT_BF16; }

dsopt_dtype WiderFloatType(dsopt_dtype a, dsopt_dtype b) { return a == b ? a : DSOPT_F32; }

const char* TypeName(dsopt_dtype type) {
  switch (type) {
    case DSOPT_F32:
      return "f32";
    case DSOPT_F16:
      return "f16";
    case DSOPT_BF16:
      return "bf16";
    case DSOPT_F8_E4M3:
      return "f8_e4m3";
    case DSOPT_I8:
      return "i8";
    case DSOPT_I32:
      return "i32";
    case DSOPT_U8:
      return "u8";
    default:
      return "unknown";
  }
}

void ConvertElements(dsopt_dtype from, const void* src, dsopt_dtype to, void* dst, size_t count) {
  const auto* in = static_cast<const uint8_t*>(src);
  auto* out = static_cast<uint8_t*>(dst);
  if (from == to) {
    std::memcpy(out, in, count * (from == DSOPT_F32 ? 4u : 2u));
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    const float value = from == DSOPT_F32   ? LoadUnaligned<float>(in + 4 * i)
                        : from == DSOPT_F16 ? HalfToFloat(LoadUnaligned<uint16_t>(in + 2 * i))
                                            : Bf16ToFloat(LoadUnaligned<uint16_t>(in + 2 * i));
    if (to == DSOPT_F32) {
      StoreUnaligned(out + 4 * i, value);
    } else {
      StoreUnaligned(out + 2 * i, to == DSOPT_F16 ? FloatToHalf(value) : FloatToBf16(value));
    }
  }
}

}  // namespace dsopt
