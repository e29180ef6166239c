#include "base/float_types.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

namespace dsopt {
namespace {

// The value of the format from its definition: sign, exponent, mantissa.
double Definition(uint32_t bits, int exponent_bits, int mantissa_bits) {
  const double sign = (bits >> (exponent_bits + mantissa_bits) & 1) != 0 ? -1 : 1;
  const int exponent = static_cast<int>(bits >> mantissa_bits & ((1u << exponent_bits) - 1));
  const uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  const double fraction = static_cast<double>(mantissa) + (exponent == 0 ? 0 : std::ldexp(1.0, mantissa_bits));
  return sign * std::ldexp(fraction, (exponent == 0 ? 1 : exponent) - bias - mantissa_bits);
}

bool Same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

TEST_CASE("every f16 and bf16 widens to its value and narrows back to itself", "[base]") {
  size_t wrong = 0;
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint16_t bits = static_cast<uint16_t>(i);
    const float half = HalfToFloat(bits), brain = Bf16ToFloat(bits);
    wrong += !Same(half, Definition(i, 5, 10)) || !Same(brain, Definition(i, 8, 7));
    wrong += std::isnan(half) ? !std::isnan(HalfToFloat(FloatToHalf(half))) : FloatToHalf(half) != bits;
    wrong += std::isnan(brain) ? !std::isnan(Bf16ToFloat(FloatToBf16(brain))) : FloatToBf16(brain) != bits;
  }
  CHECK(wrong == 0);
}

// Narrowing gives the nearest value and, half way, the one with the even last bit. low and high are neighbours.
template <typename Narrow>
size_t WrongBetween(uint16_t low, float low_value, float high_value, Narrow narrow) {
  const uint16_t high = static_cast<uint16_t>(low + 1);
  const float middle = low_value + (high_value - low_value) / 2;
  const float below = std::nextafter(middle, low_value), above = std::nextafter(middle, high_value);
  return static_cast<size_t>(narrow(middle) != (low % 2 == 0 ? low : high)) + (narrow(below) != low) +
         (narrow(above) != high);
}

TEST_CASE("narrowing rounds to nearest, ties to even, between all neighbours", "[base]") {
  size_t wrong = 0;
  for (uint32_t i = 0; i < 0x7bff; ++i) {  // up to the largest finite f16
    const uint16_t bits = static_cast<uint16_t>(i);
    wrong += WrongBetween(bits, HalfToFloat(bits), HalfToFloat(static_cast<uint16_t>(i + 1)), FloatToHalf);
  }
  for (uint32_t i = 0; i < 0x7f7f; ++i) {
    const uint16_t bits = static_cast<uint16_t>(i);
    wrong += WrongBetween(bits, Bf16ToFloat(bits), Bf16ToFloat(static_cast<uint16_t>(i + 1)), FloatToBf16);
  }
  CHECK(wrong == 0);
  CHECK(FloatToHalf(65519.0f) == 0x7bff);
  CHECK(FloatToHalf(65520.0f) == 0x7c00);  // half way to 65536: infinity
  CHECK(FloatToHalf(-1e30f) == 0xfc00);
  CHECK(FloatToBf16(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(FloatToBf16(std::bit_cast<float>(0x7f800001u)) == 0x7fc0);  // a NaN does not become infinity
}

TEST_CASE("elements are converted between any two types, unaligned", "[base]") {
  const dsopt_dtype types[] = {DSOPT_F32, DSOPT_F16, DSOPT_BF16};
  const float values[] = {0.0f, -1.5f, 2.0f, 96.0f, -0.25f};  // exact in all three
  for (dsopt_dtype from : types) {
    for (dsopt_dtype to : types) {
      CAPTURE(TypeName(from), TypeName(to));
      std::vector<uint8_t> in(1 + 5 * 4), out(1 + 5 * 4), back(5 * 4);
      ConvertElements(DSOPT_F32, values, from, in.data() + 1, 5);
      ConvertElements(from, in.data() + 1, to, out.data() + 1, 5);
      ConvertElements(to, out.data() + 1, DSOPT_F32, back.data(), 5);
      const float* result = reinterpret_cast<const float*>(back.data());
      CHECK(std::vector<float>(result, result + 5) == std::vector<float>(values, values + 5));
    }
  }
}

TEST_CASE("types have names and a wider of two", "[base]") {
  CHECK(std::string(TypeName(DSOPT_BF16)) == "bf16");
  CHECK(std::string(TypeName(static_cast<dsopt_dtype>(99))) == "unknown");
  CHECK(IsFloatType(DSOPT_F16));
  CHECK_FALSE(IsFloatType(DSOPT_I8));
  CHECK(WiderFloatType(DSOPT_BF16, DSOPT_BF16) == DSOPT_BF16);
  CHECK(WiderFloatType(DSOPT_BF16, DSOPT_F16) == DSOPT_F32);
}

}  // namespace
}  // namespace dsopt
