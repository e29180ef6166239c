#include "runtime/scheduler.h"

#include <catch2/catch.hpp>

namespace dsopt {
namespace {

std::vector<BatchSlice> Choose(const std::vector<StreamDemand>& demands, BatchLimits limits) {
  std::vector<uint32_t> scratch;
  std::vector<BatchSlice> slices;
  ChooseBatch(demands, limits, &scratch, &slices);
  return slices;
}

TEST_CASE("streams ready to decode come first and prompts share what is left", "[scheduler]") {
  const auto slices =
      Choose({{100, false, 0, 0}, {1, false, 0, 1}, {50, false, 0, 2}, {1, false, 0, 3}}, {64, 8, 8});
  REQUIRE(slices.size() == 3);
  CHECK(slices[0].stream == 1);
  CHECK(slices[1].stream == 3);
  CHECK(slices[2].stream == 0);
  CHECK(slices[2].rows == 62);
  CHECK(slices[2].logit_rows == 0);
}

TEST_CASE("a prompt that ends in the batch wants one row of logits", "[scheduler]") {
  const auto slices = Choose({{10, false, 0, 0}, {30, false, 0, 1}}, {32, 8, 8});
  REQUIRE(slices.size() == 2);
  CHECK(slices[0].rows == 10);
  CHECK(slices[0].logit_rows == 1);
  CHECK(slices[1].rows == 22);
  CHECK(slices[1].logit_rows == 0);
}

TEST_CASE("a higher priority takes part first, equal ones by age", "[scheduler]") {
  const auto slices = Choose({{1, false, 0, 1}, {1, false, 5, 9}, {1, false, 0, 0}}, {8, 2, 8});
  REQUIRE(slices.size() == 2);
  CHECK(slices[0].stream == 1);
  CHECK(slices[1].stream == 2);
}

TEST_CASE("a scored prompt is cut to the rows that can have logits", "[scheduler]") {
  const auto slices = Choose({{100, true, 0, 0}, {1, false, 0, 1}}, {64, 4, 16});
  REQUIRE(slices.size() == 2);
  CHECK(slices[0].stream == 1);
  CHECK(slices[1].rows == 15);
  CHECK(slices[1].logit_rows == 15);
}

TEST_CASE("a prompt does not end in a batch that has no logit row left for it", "[scheduler]") {
  const auto slices = Choose({{1, false, 0, 0}, {8, false, 0, 1}}, {64, 4, 1});
  REQUIRE(slices.size() == 2);
  CHECK(slices[1].rows == 7);
  CHECK(slices[1].logit_rows == 0);
}

TEST_CASE("limits hold and every batch makes progress for any mix of demands", "[scheduler]") {
  uint64_t state = 7;
  const auto next = [&](int) { return (state = state * 6364136223846793005u + 1442695040888963407u) >> 33; };
  for (int round = 0; round < 5000; ++round) {
    std::vector<StreamDemand> demands;
    const uint64_t count = 1 + next(0) % 12;
    for (uint64_t i = 0; i < count; ++i) {
      demands.push_back({static_cast<uint32_t>(1 + next(0) % (next(0) % 3 == 0 ? 1 : 300)), next(0) % 4 == 0,
                         static_cast<int32_t>(next(0) % 3), i});
    }
    const BatchLimits limits = {static_cast<uint32_t>(1 + next(0) % 64), static_cast<uint32_t>(1 + next(0) % 8),
                                static_cast<uint32_t>(1 + next(0) % 16)};
    CAPTURE(round, limits.rows, limits.seqs, limits.logit_rows);
    uint32_t rows = 0, logit_rows = 0;
    const auto slices = Choose(demands, limits);
    REQUIRE(!slices.empty());
    REQUIRE(slices.size() <= limits.seqs);
    for (const BatchSlice& slice : slices) {
      REQUIRE(slice.rows >= 1);
      REQUIRE(slice.rows <= demands[slice.stream].rows);
      if (slice.rows == demands[slice.stream].rows) REQUIRE(slice.logit_rows >= 1);
      REQUIRE(slice.logit_rows <= slice.rows);
      rows += slice.rows;
      logit_rows += slice.logit_rows;
    }
    REQUIRE(rows <= limits.rows);
    REQUIRE(logit_rows <= limits.logit_rows);
  }
}

}  // namespace
}  // namespace dsopt
