// The e4m3 float: every code, and rounding against a search over all codes.
#include "quant/fp8.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

namespace dsopt {
namespace {

TEST_CASE("every fp8 code survives the way to float and back", "[quant]") {
  for (int code = 0; code < 256; ++code) {
    const float value = Fp8ToFloat(static_cast<uint8_t>(code));
    CAPTURE(code, value);
    if ((code & 0x7f) == 0x7f) {
      CHECK(std::isnan(value));
      CHECK((FloatToFp8(value) & 0x7f) == 0x7f);
    } else {
      CHECK(FloatToFp8(value) == code);
    }
  }
  CHECK(Fp8ToFloat(0x7e) == kMostFp8);
  CHECK(Fp8ToFloat(0x08) == 0x1p-6f);
  CHECK(Fp8ToFloat(0x81) == -0x1p-9f);
}

// The nearest of the 127 magnitudes; of two equally near ones that with an even last bit.
uint8_t NearestMagnitude(float magnitude) {
  uint8_t best = 0;
  for (uint8_t code = 1; code < 0x7f; ++code) {
    const float near = std::fabs(Fp8ToFloat(code) - magnitude),
                so_far = std::fabs(Fp8ToFloat(best) - magnitude);
    if (near < so_far || (near == so_far && code % 2 == 0)) best = code;
  }
  return best;
}

TEST_CASE("a float becomes the nearest fp8, ties to even, and never more than 448", "[quant]") {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> exponent(-12.0f, 10.0f);
  for (int i = 0; i < 20000; ++i) {
    const float value = std::exp2(exponent(random));
    CAPTURE(value);
    REQUIRE(FloatToFp8(value) == NearestMagnitude(value));
    REQUIRE(FloatToFp8(-value) == (0x80 | NearestMagnitude(value)));
  }
  for (int code = 0; code < 0x7e; ++code) {  // exactly between two neighbours
    const float middle =
        0.5f * (Fp8ToFloat(static_cast<uint8_t>(code)) + Fp8ToFloat(static_cast<uint8_t>(code + 1)));
    CAPTURE(code);
    CHECK(FloatToFp8(middle) == (code % 2 == 0 ? code : code + 1));
  }
  CHECK(FloatToFp8(1e30f) == 0x7e);
  CHECK(FloatToFp8(-INFINITY) == 0xfe);
  CHECK(FloatToFp8(0.0f) == 0);
}

}  // namespace
}  // namespace dsopt
