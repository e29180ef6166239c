// logits_compare.h - how far one model's logits are from another's, row by row and summed up. Arithmetic only:
// runs no model and prints nothing.
#ifndef DSOPT_TOOLS_LOGITS_COMPARE_H_
#define DSOPT_TOOLS_LOGITS_COMPARE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dsopt::tools {

// One position: the distributions of both models over the next token. "reference" is the model compared
// against.
struct RowDifference {
  double nll = 0, reference_nll = 0;  // -log p(next token)
  double kl = 0;  // sum of r log(r / m) over the vocabulary, in nats; r: reference, m: model
  double top_probability = 0, reference_top_probability = 0;  // of the reference's most probable token
  double largest_error = 0;                                   // max |logit - reference logit|
  bool top1 = false;   // the same most probable token; the lowest id wins a tie
  double top5 = 0;     // share of the reference's five most probable tokens among the model's five
  bool finite = true;  // false: some logit of either is infinite or NaN, and the rest says nothing
};

// [thread-compatible] Keeps its scratch between rows.
class RowComparer {
 public:
  // Both spans have the same size; next < size.
  RowDifference Compare(std::span<const float> logits, std::span<const float> reference, size_t next);

 private:
  std::vector<double> weights_;  // exp(reference - its maximum)
};

// Bins of a histogram of KL: below 1e-10, half decades up to 10, and the rest.
inline constexpr size_t kKlBins = 24;
// Upper end of a bin in nats; infinity for the last.
double KlBinEnd(size_t bin);

// Sums over rows. [thread-compatible]
class DifferenceSum {
 public:
  void Add(const RowDifference& row);
  uint64_t rows() const { return rows_; }
  double perplexity() const;
  double reference_perplexity() const;
  double change_percent() const;  // of the perplexity
  double mean_kl() const;
  double worst_kl() const { return worst_kl_; }
  uint64_t worst_row() const { return worst_row_; }  // of those added, from 0
  double top1() const;                               // share of rows
  double top5() const;                               // mean share
  double largest_error() const { return largest_error_; }
  const std::array<uint64_t, kKlBins>& kl_histogram() const { return histogram_; }

 private:
  double PerRow(double sum) const { return rows_ == 0 ? 0 : sum / static_cast<double>(rows_); }
  uint64_t rows_ = 0, top1_ = 0, worst_row_ = 0;
  double nll_ = 0, reference_nll_ = 0, kl_ = 0, worst_kl_ = -1, top5_ = 0, largest_error_ = 0;
  std::array<uint64_t, kKlBins> histogram_ = {};
};

struct Point {
  double x = 0, y = 0;
};

// At most `limit` of the points added, evenly spread over their order: what a plot can show.
// [thread-compatible]
class PointSample {
 public:
  explicit PointSample(size_t limit) : limit_(limit) {}
  void Add(Point point);
  const std::vector<Point>& points() const { return points_; }

 private:
  size_t limit_;
  uint64_t stride_ = 1, added_ = 0;
  std::vector<Point> points_;
};

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_LOGITS_COMPARE_H_
