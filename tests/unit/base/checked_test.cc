#include "base/checked.h"

#include <catch2/catch.hpp>

namespace dsopt {
namespace {

TEST_CASE("sums and products that fit are exact, others are refused", "[base]") {
  CHECK(CheckedAdd<uint64_t>(UINT64_MAX - 1, 1) == UINT64_MAX);
  CHECK(CheckedAdd<uint64_t>(UINT64_MAX, 1) == std::nullopt);
  CHECK(CheckedAdd<int32_t>(INT32_MIN, -1) == std::nullopt);
  CHECK(CheckedMul<uint64_t>(1ull << 32, 1ull << 31) == 1ull << 63);
  CHECK(CheckedMul<uint64_t>(1ull << 32, 1ull << 32) == std::nullopt);
  CHECK(CheckedMul<uint32_t>(65536, 65535) == 4294901760u);
  CHECK(CheckedMul<uint32_t>(65536, 65536) == std::nullopt);
  CHECK(CheckedMul<uint64_t>(0, UINT64_MAX) == 0u);
}

TEST_CASE("all 8-bit sums and products agree with wide arithmetic", "[base]") {
  for (unsigned a = 0; a < 256; ++a) {
    for (unsigned b = 0; b < 256; ++b) {
      const auto sum = CheckedAdd(static_cast<uint8_t>(a), static_cast<uint8_t>(b));
      const auto product = CheckedMul(static_cast<uint8_t>(a), static_cast<uint8_t>(b));
      REQUIRE(sum.has_value() == (a + b < 256));
      REQUIRE(product.has_value() == (a * b < 256));
      if (sum) REQUIRE(*sum == a + b);
      if (product) REQUIRE(*product == a * b);
    }
  }
}

TEST_CASE("a product of many factors is refused where it overflows, also before a zero", "[base]") {
  CHECK(CheckedProduct({}) == 1u);
  CHECK(CheckedProduct({7}) == 7u);
  CHECK(CheckedProduct({1ull << 20, 1ull << 20, 1ull << 20}) == 1ull << 60);
  CHECK(CheckedProduct({1ull << 20, 1ull << 20, 1ull << 20, 16}) == std::nullopt);
  CHECK(CheckedProduct({1ull << 40, 1ull << 40, 0}) == std::nullopt);
  CHECK(CheckedProduct({0, 1ull << 40, 1ull << 40}) == 0u);
}

TEST_CASE("a range fits only if it ends inside", "[base]") {
  CHECK(RangeFits(0, 0, 0));
  CHECK(RangeFits(10, 0, 10));
  CHECK(RangeFits(3, 7, 10));
  CHECK_FALSE(RangeFits(4, 7, 10));
  CHECK_FALSE(RangeFits(11, 0, 10));
  CHECK_FALSE(RangeFits(UINT64_MAX, 2, 10));
  CHECK_FALSE(RangeFits(5, UINT64_MAX - 3, UINT64_MAX));
  CHECK(RangeFits(5, UINT64_MAX - 5, UINT64_MAX));
}

}  // namespace
}  // namespace dsopt
