// Rounding that makes up for its errors: how much less the products are off, singular and useless moments,
// sizes that fit no tile, group or block, threads.
#include "quant/compensate.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

namespace dsopt {
namespace {

using Floats = std::vector<float>;

const Coding kCodings[] = {{DSOPT_ENCODING_INT8, 0, 0, false, DSOPT_F32},
                           {DSOPT_ENCODING_INT8, 0, 48, true, DSOPT_F32},
                           {DSOPT_ENCODING_FP8, 0, 0, false, DSOPT_F32},
                           {DSOPT_ENCODING_INT4, 0, 32, false, DSOPT_F16},
                           {DSOPT_ENCODING_INT4, 0, 64, true, DSOPT_F16}};

Floats RandomValues(uint64_t count, uint32_t seed, float deviation = 0.02f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  Floats values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// [rows, cols] inputs of which most comes from a few causes that all columns share; sign turns half of them
// over.
Floats CorrelatedInputs(uint64_t rows, uint64_t cols, uint32_t seed, float sign = 1.0f) {
  const uint64_t causes = std::max<uint64_t>(cols / 8, 1);
  const Floats mix = RandomValues(causes * cols, 99, 1.0f);
  const Floats cause = RandomValues(rows * causes, seed, 1.0f);
  Floats inputs = RandomValues(rows * cols, seed + 1, 0.7f);
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint64_t c = 0; c < cols; ++c) {
      float sum = 0;
      for (uint64_t k = 0; k < causes; ++k) sum += cause[r * causes + k] * mix[k * cols + c];
      inputs[r * cols + c] = (inputs[r * cols + c] + sum) * (c % 2 == 0 ? 1.0f : sign);
    }
  }
  return inputs;
}

MomentBlock Moments(const Floats& inputs, uint64_t cols, uint64_t first, uint64_t count) {
  MomentBlock block{first, count, Floats(count * count)};
  for (uint64_t row = 0; row < inputs.size(); row += cols) {
    const float* x = &inputs[row + first];
    for (uint64_t i = 0; i < count; ++i) {
      for (uint64_t k = 0; k < count; ++k) block.sums[i * count + k] += x[i] * x[k];
    }
  }
  return block;
}

std::vector<Feedback> FeedbackOf(const Floats& inputs, uint64_t cols, uint64_t width = 0,
                                 uint32_t threads = 1) {
  std::vector<Feedback> all;
  if (width == 0) width = cols;
  for (uint64_t first = 0; first < cols; first += width) {
    std::optional<Feedback> own =
        Feedback::Create(Moments(inputs, cols, first, std::min(width, cols - first)), threads);
    REQUIRE(own.has_value());
    all.push_back(*std::move(own));
  }
  return all;
}

Floats Decode(const Coding& coding, const CodedRows& coded, uint64_t rows, uint64_t cols) {
  Floats values(rows * cols);
  DecodeRows(coding, coded.codes.data(), coded.scales.data(),
             coding.has_offset ? coded.offsets.data() : nullptr, rows, cols, values.data());
  return values;
}

// ||X (W - Q)^T||^2, of the rows [first, last) of W.
double ProductError(const Floats& inputs, const Floats& w, const Floats& q, uint64_t cols, uint64_t first,
                    uint64_t last) {
  double error = 0;
  for (uint64_t t = 0; t < inputs.size(); t += cols) {
    for (uint64_t r = first; r < last; ++r) {
      double sum = 0;
      for (uint64_t c = 0; c < cols; ++c) {
        sum += static_cast<double>(inputs[t + c]) *
               (static_cast<double>(w[r * cols + c]) - static_cast<double>(q[r * cols + c]));
      }
      error += sum * sum;
    }
  }
  return error;
}

bool Same(const CodedRows& a, const CodedRows& b) {
  return a.codes == b.codes && a.scales == b.scales && a.offsets == b.offsets;
}

TEST_CASE("products of correlated inputs are off by less than a third of what rounding to nearest leaves",
          "[quant]") {
  for (const Coding& coding : kCodings) {
    for (const auto& [rows, cols] : {std::pair<uint64_t, uint64_t>{1, 64}, {17, 66}, {35, 130}, {16, 256}}) {
      CAPTURE(EncodingName(coding.encoding), coding.group_cols, coding.has_offset, rows, cols);
      const Floats w = RandomValues(rows * cols, 3), seen = CorrelatedInputs(8 * cols, cols, 10);
      const Floats held_out = CorrelatedInputs(64, cols, 20), fresh = CorrelatedInputs(200, cols, 30);
      const std::vector<Feedback> feedback = FeedbackOf(seen, cols);
      CodedRows nearest, coded;
      EncodeRows(coding, w.data(), rows, cols, {}, &nearest);
      const CompensateResult result =
          EncodeCompensated(coding, w.data(), rows, cols, {}, {&feedback, held_out.data(), 64}, &coded);
      CHECK(coded.codes.size() == nearest.codes.size());
      CHECK(coded.scales.size() == nearest.scales.size());
      CHECK(result.rows_compensated > rows * 9 / 10);
      CHECK(result.error < result.nearest_error / 3);
      const Floats q = Decode(coding, coded, rows, cols), n = Decode(coding, nearest, rows, cols);
      const double error = ProductError(fresh, w, q, cols, 0, rows),
                   nearest_error = ProductError(fresh, w, n, cols, 0, rows);
      CAPTURE(error, nearest_error);
      CHECK(error < nearest_error / 3);
      // What is reported is the error of the codes that are there.
      CHECK(result.error == Approx(ProductError(held_out, w, q, cols, 0, rows)).epsilon(1e-2));
      CHECK(result.nearest_error == Approx(ProductError(held_out, w, n, cols, 0, rows)).epsilon(1e-2));
    }
  }
}

TEST_CASE("blocks of columns make up for errors each inside of itself", "[quant]") {
  constexpr uint64_t kRows = 20, kCols = 150;
  const Floats w = RandomValues(kRows * kCols, 3), seen = CorrelatedInputs(1000, kCols, 10),
               fresh = CorrelatedInputs(200, kCols, 30);
  for (const Coding& coding : kCodings) {
    CAPTURE(EncodingName(coding.encoding), coding.group_cols);
    const std::vector<Feedback> whole = FeedbackOf(seen, kCols), blocks = FeedbackOf(seen, kCols, 64);
    REQUIRE(blocks.size() == 3);
    const std::vector<Feedback> one(blocks.begin() + 1, blocks.begin() + 2);
    double errors[3];
    CodedRows coded;
    for (const std::vector<Feedback>* feedback : {&whole, &blocks, &one}) {
      EncodeCompensated(coding, w.data(), kRows, kCols, {}, {feedback, nullptr, 0}, &coded);
      errors[feedback == &whole    ? 0
             : feedback == &blocks ? 1
                                   : 2] =
          ProductError(fresh, w, Decode(coding, coded, kRows, kCols), kCols, 0, kRows);
    }
    CHECK(errors[0] < errors[1]);
    CHECK(errors[1] < errors[2]);
  }
}

TEST_CASE("a row keeps rounding to nearest where the other one is not better on held-out inputs", "[quant]") {
  constexpr uint64_t kRows = 40, kCols = 96;
  const Floats w = RandomValues(kRows * kCols, 3), held_out = CorrelatedInputs(100, kCols, 20);
  // Moments of inputs that are correlated the other way round do harm, those of similar inputs some good.
  const Floats other = CorrelatedInputs(800, kCols, 10, -1.0f);
  for (const Coding& coding : kCodings) {
    CAPTURE(EncodingName(coding.encoding), coding.group_cols);
    CodedRows nearest, coded, harmed;
    EncodeRows(coding, w.data(), kRows, kCols, {}, &nearest);
    const std::vector<Feedback> feedback = FeedbackOf(other, kCols);
    const CompensateResult result =
        EncodeCompensated(coding, w.data(), kRows, kCols, {}, {&feedback, held_out.data(), 100}, &coded);
    EncodeCompensated(coding, w.data(), kRows, kCols, {}, {&feedback, nullptr, 0}, &harmed);
    const Floats n = Decode(coding, nearest, kRows, kCols), q = Decode(coding, coded, kRows, kCols),
                 h = Decode(coding, harmed, kRows, kCols);
    CHECK(ProductError(held_out, w, h, kCols, 0, kRows) > ProductError(held_out, w, n, kCols, 0, kRows));
    CHECK(result.rows_compensated < kRows);
    uint64_t kept = 0;
    for (uint64_t r = 0; r < kRows; ++r) {
      const bool same = std::equal(&q[r * kCols], &q[r * kCols] + kCols, &n[r * kCols]);
      kept += same ? 1 : 0;
      REQUIRE(ProductError(held_out, w, q, kCols, r, r + 1) <=
              ProductError(held_out, w, n, kCols, r, r + 1) * (1 + 1e-4));
    }
    CHECK(kept == kRows - result.rows_compensated);
  }
}

TEST_CASE("moments of fewer inputs than columns work; useless ones give no feedback, which is no error",
          "[quant]") {
  constexpr uint64_t kRows = 9, kCols = 80;
  const Floats w = RandomValues(kRows * kCols, 3), few = CorrelatedInputs(5, kCols, 10);
  const std::vector<Feedback> feedback = FeedbackOf(few, kCols), none;
  for (const Coding& coding : kCodings) {
    CodedRows nearest, coded;
    EncodeRows(coding, w.data(), kRows, kCols, {}, &nearest);
    EncodeCompensated(coding, w.data(), kRows, kCols, {}, {&feedback, nullptr, 0}, &coded);
    CHECK(ProductError(few, w, Decode(coding, coded, kRows, kCols), kCols, 0, kRows) <
          ProductError(few, w, Decode(coding, nearest, kRows, kCols), kCols, 0, kRows) / 4);
    // Without any: at most another scale, and never worse than nearest.
    const CompensateResult result =
        EncodeCompensated(coding, w.data(), kRows, kCols, {}, {&none, few.data(), 5}, &coded);
    CHECK(result.error <= result.nearest_error);
    EncodeCompensated(coding, w.data(), kRows, kCols, {}, {}, &coded);
    CHECK(Same(coded, nearest));
  }
  CHECK_FALSE(Feedback::Create({0, 4, Floats(16, 0.0f)}, 1).has_value());
  CHECK_FALSE(Feedback::Create({0, 2, {1.0f, NAN, NAN, 1.0f}}, 1).has_value());
  CHECK_FALSE(Feedback::Create({0, 2, {INFINITY, 0.0f, 0.0f, 1.0f}}, 1).has_value());
  CHECK_FALSE(Feedback::Create({0, 2, {1.0f, 100.0f, 100.0f, 1.0f}}, 1).has_value());
  CHECK(Feedback::Create({0, 2, {1.0f, 5.0f, 5.0f, 1.0f}}, 1).has_value());  // damped tenfold more, thrice
  CHECK(Feedback::Create({0, 2, {1.0f, 0.0f, 0.0f, 0.0f}}, 1).has_value());  // a column that is always 0
}

TEST_CASE("codes do not depend on the number of threads", "[quant]") {
  constexpr uint64_t kRows = 70, kCols = 290;
  const Floats w = RandomValues(kRows * kCols, 3), seen = CorrelatedInputs(600, kCols, 10),
               held_out = CorrelatedInputs(50, kCols, 20);
  const std::vector<Feedback> feedback = FeedbackOf(seen, kCols);
  for (uint32_t threads : {2u, 3u, 16u}) {
    const std::vector<Feedback> other = FeedbackOf(seen, kCols, 0, threads);
    CHECK(other[0].order == feedback[0].order);
    CHECK(other[0].factors == feedback[0].factors);
    CHECK(other[0].ratios == feedback[0].ratios);
    for (const Coding& coding : kCodings) {
      CodedRows one, many;
      EncodeCompensated(coding, w.data(), kRows, kCols, {}, {&feedback, held_out.data(), 50}, &one);
      EncodeCompensated(coding, w.data(), kRows, kCols, {.threads = threads}, {&feedback, held_out.data(), 50},
                        &many);
      CAPTURE(EncodingName(coding.encoding), threads);
      CHECK(Same(one, many));
    }
  }
}

TEST_CASE("what is not finite counts as zero, zeros stay zero; groups of several rows are left to EncodeRows",
          "[quant]") {
  constexpr uint64_t kRows = 3, kCols = 64;
  const std::vector<Feedback> feedback = FeedbackOf(CorrelatedInputs(300, kCols, 10), kCols);
  Floats odd = RandomValues(kRows * kCols, 17), repaired = odd;
  odd[3] = NAN;
  odd[70] = INFINITY;
  repaired[3] = repaired[70] = 0.0f;
  const Floats zeros(kRows * kCols, 0.0f);
  for (const Coding& coding : kCodings) {
    CodedRows a, b;
    EncodeCompensated(coding, odd.data(), kRows, kCols, {}, {&feedback, nullptr, 0}, &a);
    EncodeCompensated(coding, repaired.data(), kRows, kCols, {}, {&feedback, nullptr, 0}, &b);
    CHECK(Same(a, b));
    EncodeCompensated(coding, zeros.data(), kRows, kCols, {}, {&feedback, nullptr, 0}, &a);
    CHECK(Decode(coding, a, kRows, kCols) == zeros);
  }
  const Coding blocks = {DSOPT_ENCODING_FP8, 2, 32, false, DSOPT_F32};
  CodedRows a, b;
  EncodeRows(blocks, repaired.data(), kRows, kCols, {}, &a);
  EncodeCompensated(blocks, repaired.data(), kRows, kCols, {}, {&feedback, nullptr, 0}, &b);
  CHECK(Same(a, b));
}

TEST_CASE("wide inputs have moments in equal blocks that begin where groups do", "[quant]") {
  for (uint64_t cols : {1, 130, 4096, 4098, 9000, 14336, 28672}) {
    CAPTURE(cols);
    uint64_t next = 0;
    const std::vector<MomentBlock> blocks = MakeMomentBlocks(cols);
    for (const MomentBlock& block : blocks) {
      CHECK(block.first == next);
      CHECK(block.first % 128 == 0);
      CHECK(block.cols > 0);
      CHECK(block.cols <= kMostBlock);
      CHECK(block.cols <= blocks[0].cols);
      CHECK(block.sums.size() == block.cols * block.cols);
      next += block.cols;
    }
    CHECK(next == cols);
    CHECK(blocks.size() == (cols + kMostBlock - 1) / kMostBlock);
  }
}

}  // namespace
}  // namespace dsopt
