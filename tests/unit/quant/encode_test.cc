// Floats to codes and back: errors, groups, odd sizes, bands, threads, values that are not finite.
#include "quant/encode.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "base/float_types.h"

namespace dsopt {
namespace {

const Coding kCodings[] = {
    {DSOPT_ENCODING_INT8, 0, 0, false, DSOPT_F32},    {DSOPT_ENCODING_INT8, 1, 48, false, DSOPT_F16},
    {DSOPT_ENCODING_INT8, 0, 64, true, DSOPT_F32},    {DSOPT_ENCODING_FP8, 0, 0, false, DSOPT_F32},
    {DSOPT_ENCODING_FP8, 128, 128, false, DSOPT_F32}, {DSOPT_ENCODING_INT4, 0, 32, false, DSOPT_F16},
    {DSOPT_ENCODING_INT4, 1, 64, true, DSOPT_F16},    {DSOPT_ENCODING_INT4, 0, 128, false, DSOPT_F32},
    {DSOPT_ENCODING_INT4, 0, 32, true, DSOPT_F32}};

std::vector<float> RandomValues(uint64_t count, uint32_t seed, float mean = 0.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, 0.02f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

struct Round {
  CodedRows coded;
  std::vector<float> decoded;
};

Round RoundTrip(const Coding& coding, const std::vector<float>& values, uint64_t rows, uint64_t cols,
                const EncodeOptions& options = {}) {
  Round round;
  EncodeRows(coding, values.data(), rows, cols, options, &round.coded);
  round.decoded.assign(values.size(), NAN);
  const float* offsets = coding.has_offset ? round.coded.offsets.data() : nullptr;
  DecodeRows(coding, round.coded.codes.data(), round.coded.scales.data(), offsets, rows, cols,
             round.decoded.data());
  return round;
}

double SquaredError(const std::vector<float>& a, const std::vector<float>& b, const float* importance,
                    uint64_t cols) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double error = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += error * error * (importance == nullptr ? 1.0 : static_cast<double>(importance[i % cols]));
  }
  return sum;
}

uint64_t GroupOf(const Coding& coding, uint64_t row, uint64_t col, uint64_t cols) {
  const uint64_t group_cols = coding.group_cols == 0 ? cols : coding.group_cols;
  return row / std::max(coding.group_rows, 1u) * GroupsAcross(coding, cols) + col / group_cols;
}

TEST_CASE(
    "rounding to nearest is at most half a step off, in groups of every kind and sizes that do not fit them",
    "[quant]") {
  for (const Coding& coding : kCodings) {
    for (const auto& [rows, cols] : {std::pair<uint64_t, uint64_t>{1, 2}, {3, 66}, {130, 300}, {257, 128}}) {
      CAPTURE(EncodingName(coding.encoding), coding.group_cols, coding.has_offset, rows, cols);
      const std::vector<float> values = RandomValues(rows * cols, 7, 0.01f);
      const Round round = RoundTrip(coding, values, rows, cols, {.search = false});
      REQUIRE(round.coded.codes.size() == CodeBytes(coding, rows * cols));
      REQUIRE(round.coded.scales.size() == GroupsDown(coding, rows) * GroupsAcross(coding, cols));
      REQUIRE(round.coded.offsets.size() == (coding.has_offset ? round.coded.scales.size() : 0));
      for (uint64_t i = 0; i < values.size(); ++i) {
        const float scale = round.coded.scales[GroupOf(coding, i / cols, i % cols, cols)];
        const float error = std::fabs(round.decoded[i] - values[i]);
        // fp8: a step is a sixteenth of the value, or 2^-9. Scales rounded to f16 may cover a little less.
        const float step =
            coding.encoding == DSOPT_ENCODING_FP8 ? std::max(std::fabs(values[i]) / 8, scale * 0x1p-9f) : scale;
        const float slack =
            coding.scale_type == DSOPT_F16 ? scale * 0.01f + std::fabs(values[i]) * 0x1p-10f : 1e-6f;
        REQUIRE(error <= step / 2 + slack);
      }
    }
  }
}

TEST_CASE("scales and offsets are exact in the type they are stored in", "[quant]") {
  for (const Coding& coding : kCodings) {
    if (coding.scale_type != DSOPT_F16) continue;
    const Round round = RoundTrip(coding, RandomValues(4 * 256, 9), 4, 256);
    for (const std::vector<float>* list : {&round.coded.scales, &round.coded.offsets}) {
      for (float value : *list) REQUIRE(HalfToFloat(FloatToHalf(value)) == value);
    }
  }
}

TEST_CASE("the search of int4 scales is never worse than covering, and better where it may weigh columns",
          "[quant]") {
  constexpr uint64_t kRows = 64, kCols = 256;
  std::vector<float> importance(kCols);
  std::mt19937 random(1);
  for (float& weight : importance) weight = random() % 16 == 0 ? 100.0f : 1.0f;
  const std::vector<float> values = RandomValues(kRows * kCols, 11, 0.005f);
  for (const Coding& coding : kCodings) {
    if (coding.encoding != DSOPT_ENCODING_INT4) continue;
    CAPTURE(coding.group_cols, coding.has_offset, coding.scale_type);
    const auto error = [&](bool search, const float* weights, const float* measured_by) {
      return SquaredError(RoundTrip(coding, values, kRows, kCols, {search, weights, 1}).decoded, values,
                          measured_by, kCols);
    };
    const double covered = error(false, nullptr, nullptr), searched = error(true, nullptr, nullptr);
    CHECK(searched < 0.97 * covered);
    CHECK(error(true, importance.data(), importance.data()) < 0.9 * error(true, nullptr, importance.data()));
  }
}

TEST_CASE("bands of a matrix and several threads give the codes of the whole", "[quant]") {
  constexpr uint64_t kRows = 300, kCols = 200, kBand = 128;
  const std::vector<float> values = RandomValues(kRows * kCols, 13);
  for (const Coding& coding : kCodings) {
    CodedRows whole, threaded, bands;
    EncodeRows(coding, values.data(), kRows, kCols, {}, &whole);
    EncodeRows(coding, values.data(), kRows, kCols, {.threads = 3}, &threaded);
    CHECK(threaded.codes == whole.codes);
    CHECK(threaded.scales == whole.scales);
    CHECK(threaded.offsets == whole.offsets);
    for (uint64_t first = 0; first < kRows; first += kBand) {
      CodedRows band;
      EncodeRows(coding, values.data() + first * kCols, std::min(kBand, kRows - first), kCols, {}, &band);
      bands.codes.insert(bands.codes.end(), band.codes.begin(), band.codes.end());
      bands.scales.insert(bands.scales.end(), band.scales.begin(), band.scales.end());
      bands.offsets.insert(bands.offsets.end(), band.offsets.begin(), band.offsets.end());
    }
    CHECK(bands.codes == whole.codes);
    CHECK(bands.scales == whole.scales);
    CHECK(bands.offsets == whole.offsets);
  }
}

TEST_CASE("zeros stay zero, what is not finite counts as zero, and huge values do not overflow", "[quant]") {
  for (const Coding& coding : kCodings) {
    CAPTURE(EncodingName(coding.encoding), coding.group_cols, coding.has_offset);
    const std::vector<float> zeros(256, 0.0f);
    CHECK(RoundTrip(coding, zeros, 2, 128).decoded == zeros);
    std::vector<float> odd = RandomValues(256, 17);
    std::vector<float> repaired = odd;
    odd[3] = NAN;
    odd[130] = INFINITY;
    odd[131] = -INFINITY;
    repaired[3] = repaired[130] = repaired[131] = 0.0f;
    CHECK(RoundTrip(coding, odd, 2, 128).decoded == RoundTrip(coding, repaired, 2, 128).decoded);
    std::vector<float> huge(256, 3e38f);
    huge[1] = -3e38f;
    for (float value : RoundTrip(coding, huge, 2, 128).decoded) REQUIRE(std::isfinite(value));
  }
}

TEST_CASE("a coded tensor gets its type and size, and names the tensors it needs", "[quant]") {
  TensorSpec tensor;
  tensor.name = "w";
  tensor.dtype = DSOPT_BF16;
  tensor.shape = {3, 40, 96};
  SetCoding({DSOPT_ENCODING_INT4, 1, 64, true, DSOPT_F16}, &tensor);
  CHECK(tensor.dtype == DSOPT_U8);
  CHECK(tensor.raw_bytes == 3 * 40 * 96 / 2);
  const std::vector<TensorSpec> companions = CompanionTensors(tensor, DSOPT_F16);
  REQUIRE(companions.size() == 2);
  CHECK(companions[0].name == "w.scales");
  CHECK(companions[1].name == "w.offsets");
  CHECK(companions[0].shape == std::vector<uint64_t>{3, 40, 2});
  CHECK(companions[1].raw_bytes == 3 * 40 * 2 * 2);
  SetCoding({DSOPT_ENCODING_LOSSLESS12}, &tensor);
  CHECK(tensor.dtype == DSOPT_BF16);
  CHECK(CompanionTensors(tensor, DSOPT_F16).empty());
}

}  // namespace
}  // namespace dsopt
