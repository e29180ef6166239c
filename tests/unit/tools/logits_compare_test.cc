// The arithmetic of dsopt validate, on rows small enough to follow by hand.
#include "tools/logits_compare.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

namespace dsopt::tools {
namespace {

TEST_CASE("equal logits differ in nothing, whatever their offset", "[tools]") {
  RowComparer comparer;
  const std::vector<float> a = {1, 2, 3, -4, 0.5f, 7, 1};
  RowDifference same = comparer.Compare(a, a, 2);
  CHECK(same.kl == 0);
  CHECK(same.largest_error == 0);
  CHECK(same.top1);
  CHECK(same.top5 == 1);
  CHECK(same.nll == same.reference_nll);
  std::vector<float> shifted = a;
  for (float& x : shifted) x += 8;
  same = comparer.Compare(shifted, a, 2);
  CHECK(same.kl == Approx(0).margin(1e-15));
  CHECK(same.largest_error == 8);
  CHECK(same.nll == Approx(same.reference_nll));
}

TEST_CASE("divergence, likelihood and probabilities are those of the definition", "[tools]") {
  RowComparer comparer;
  // Reference probabilities 1/2, 1/4, 1/4; model 1/4, 1/2, 1/4.
  const float log2 = std::log(2.0f);
  const std::vector<float> reference = {log2, 0, 0}, model = {0, log2, 0};
  const RowDifference row = comparer.Compare(model, reference, 1);
  CHECK(row.nll == Approx(std::log(2.0)));
  CHECK(row.reference_nll == Approx(std::log(4.0)));
  CHECK(row.kl == Approx(0.5 * std::log(2.0) + 0.25 * std::log(0.5)));
  CHECK(row.reference_top_probability == Approx(0.5));
  CHECK(row.top_probability == Approx(0.25));
  CHECK_FALSE(row.top1);
  CHECK(row.top5 == 1);  // three tokens, all shared
  CHECK(row.finite);
}

TEST_CASE("of equal logits the lowest id is the most probable, and five are compared as a set", "[tools]") {
  RowComparer comparer;
  const std::vector<float> flat(8, 1.0f);
  std::vector<float> other = flat;
  other[0] = 2;
  CHECK(comparer.Compare(other, flat, 0).top1);
  other = {0, 0, 1, 1, 1, 1, 1, 0};  // its five are 2 .. 6, those of flat 0 .. 4
  const RowDifference row = comparer.Compare(other, flat, 0);
  CHECK_FALSE(row.top1);
  CHECK(row.top5 == Approx(0.6));
}

TEST_CASE("logits that are not finite are told", "[tools]") {
  RowComparer comparer;
  for (float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), std::nanf("")}) {
    CHECK_FALSE(comparer.Compare(std::vector<float>{0, bad, 1}, std::vector<float>{0, 0, 1}, 0).finite);
    CHECK_FALSE(comparer.Compare(std::vector<float>{0, 0, 1}, std::vector<float>{0, bad, 1}, 0).finite);
  }
}

TEST_CASE("sums keep the worst row, means and a histogram", "[tools]") {
  DifferenceSum sum;
  RowDifference row;
  row.nll = 1;
  row.reference_nll = 0.5;
  row.kl = 3e-4;
  row.top1 = true;
  row.top5 = 0.8;
  row.largest_error = 0.25;
  sum.Add(row);
  row.nll = 3;
  row.kl = 100;
  row.top1 = false;
  sum.Add(row);
  row.kl = 0;
  sum.Add(row);
  CHECK(sum.rows() == 3);
  CHECK(sum.perplexity() == Approx(std::exp(7.0 / 3)));
  CHECK(sum.reference_perplexity() == Approx(std::exp(0.5)));
  CHECK(sum.worst_kl() == 100);
  CHECK(sum.worst_row() == 1);
  CHECK(sum.mean_kl() == Approx(100.0003 / 3));
  CHECK(sum.top1() == Approx(1.0 / 3));
  CHECK(sum.top5() == Approx(0.8));
  CHECK(sum.largest_error() == 0.25);
  CHECK(sum.kl_histogram()[0] == 1);
  CHECK(sum.kl_histogram()[kKlBins - 1] == 1);
  uint64_t rows = 0;
  for (size_t bin = 0; bin < kKlBins; ++bin) {
    rows += sum.kl_histogram()[bin];
    if (sum.kl_histogram()[bin] == 1 && bin != 0 && bin + 1 != kKlBins) {
      CHECK(KlBinEnd(bin) > 3e-4);
      CHECK(KlBinEnd(bin - 1) <= 3e-4);
    }
  }
  CHECK(rows == 3);
}

TEST_CASE("a sample of points is evenly spread and bounded", "[tools]") {
  PointSample sample(100);
  for (int i = 0; i < 12345; ++i) sample.Add({static_cast<double>(i), 0});
  const std::vector<Point>& points = sample.points();
  REQUIRE(points.size() <= 100);
  REQUIRE(points.size() >= 50);
  for (size_t i = 1; i < points.size(); ++i) CHECK(points[i].x - points[i - 1].x == points[1].x - points[0].x);
  CHECK(points.back().x > 12000);
}

}  // namespace
}  // namespace dsopt::tools
