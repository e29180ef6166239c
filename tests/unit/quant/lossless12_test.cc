// Counting what the 12-bit form of a matrix takes.
#include "quant/lossless12.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <vector>

#include "base/float_types.h"

namespace dsopt {
namespace {

std::vector<uint16_t> Bits(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (float value : values) bits.push_back(FloatToBf16(value));
  return bits;
}

Lossless12Counter Count(const std::vector<float>& values, uint64_t cols) {
  Lossless12Counter counter;
  const std::vector<uint16_t> bits = Bits(values);
  for (uint64_t first = 0; first < bits.size(); first += cols) counter.AddRow(&bits[first], cols);
  return counter;
}

TEST_CASE("normally distributed weights take little more than 12 bits", "[quant]") {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values(1000 * 300);
  for (float& value : values) value = normal(random);
  const Lossless12Counter counter = Count(values, 300);
  CHECK(counter.weights() == values.size());
  CHECK(counter.escapes() > 0);
  CHECK(counter.escapes() < values.size() / 4000);
  CHECK(counter.BitsPerWeight() ==
        Approx(12.08 + 64.0 * static_cast<double>(counter.escapes()) / 3e5).epsilon(1e-4));
  CHECK(counter.WorthIt());
}

TEST_CASE("exactly what is 15 or more exponents below the largest of its 128 columns escapes", "[quant]") {
  std::vector<float> row(256, 1.0f);
  row[7] = std::ldexp(1.0f, -14);
  CHECK(Count(row, 256).escapes() == 0);
  row[7] = std::ldexp(1.0f, -15);
  row[9] = std::ldexp(-1.5f, -60);
  CHECK(Count(row, 256).escapes() == 2);
  row[7] = 0.0f;
  row[9] = 1e-40f;  // a subnormal bf16
  CHECK(Count(row, 256).escapes() == 0);
  row[200] = 1e9f;  // an outlier in the other run
  CHECK(Count(row, 256).escapes() == 127);
  CHECK(Count(std::vector<float>(256, 0.0f), 256).escapes() == 0);
}

TEST_CASE("a matrix whose exponents are all over the place is not worth it", "[quant]") {
  std::mt19937 random(6);
  std::vector<float> values(128 * 64);
  for (float& value : values) value = std::ldexp(1.0f, static_cast<int>(random() % 100) - 50);
  CHECK_FALSE(Count(values, 128).WorthIt());
  CHECK_FALSE(Lossless12Counter().WorthIt());
}

}  // namespace
}  // namespace dsopt
