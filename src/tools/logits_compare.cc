#include "tools/logits_compare.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dsopt::tools {
namespace {

constexpr size_t kTop = 5;
constexpr double kFirstBinExponent = -10;  // log10 of the end of the first bin

struct Top {
  std::array<size_t, kTop> ids = {};
  size_t count = 0;
};

// Ids of the largest logits, largest first; the lower id comes first among equals.
Top LargestIds(std::span<const float> logits) {
  Top top;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (top.count == kTop && !(logits[id] > logits[top.ids[kTop - 1]])) continue;
    size_t at = top.count < kTop ? top.count++ : kTop - 1;
    for (; at > 0 && logits[id] > logits[top.ids[at - 1]]; --at) top.ids[at] = top.ids[at - 1];
    top.ids[at] = id;
  }
  return top;
}

}  // namespace

RowDifference RowComparer::Compare(std::span<const float> logits, std::span<const float> reference,
                                   size_t next) {
  RowDifference row;
  const Top top = LargestIds(logits), reference_top = LargestIds(reference);
  const double max = static_cast<double>(logits[top.ids[0]]);
  const double reference_max = static_cast<double>(reference[reference_top.ids[0]]);
  weights_.resize(reference.size());
  double sum = 0, reference_sum = 0, weighted = 0;
  for (size_t id = 0; id < logits.size(); ++id) {
    const double a = static_cast<double>(logits[id]), b = static_cast<double>(reference[id]);
    row.finite &= std::isfinite(a) && std::isfinite(b);
    row.largest_error = std::max(row.largest_error, std::fabs(a - b));
    sum += std::exp(a - max);
    weights_[id] = std::exp(b - reference_max);
    reference_sum += weights_[id];
    weighted += weights_[id] * ((b - reference_max) - (a - max));
  }
  const double log_sum = std::log(sum), reference_log_sum = std::log(reference_sum);
  row.nll = log_sum - (static_cast<double>(logits[next]) - max);
  row.reference_nll = reference_log_sum - (static_cast<double>(reference[next]) - reference_max);
  row.kl = std::max(0.0, weighted / reference_sum + log_sum - reference_log_sum);  // rounding can bring -1e-17
  row.reference_top_probability = 1 / reference_sum;
  row.top_probability = std::exp(static_cast<double>(logits[reference_top.ids[0]]) - max) / sum;
  row.top1 = top.ids[0] == reference_top.ids[0];
  size_t shared = 0;
  for (size_t i = 0; i < top.count; ++i) {
    const auto end = reference_top.ids.begin() + static_cast<std::ptrdiff_t>(reference_top.count);
    shared += std::find(reference_top.ids.begin(), end, top.ids[i]) != end ? 1 : 0;
  }
  row.top5 = static_cast<double>(shared) / static_cast<double>(top.count);
  return row;
}

double KlBinEnd(size_t bin) {
  if (bin + 1 >= kKlBins) return std::numeric_limits<double>::infinity();
  return std::pow(10.0, kFirstBinExponent + static_cast<double>(bin) / 2);
}

void DifferenceSum::Add(const RowDifference& row) {
  if (row.kl > worst_kl_) {
    worst_kl_ = row.kl;
    worst_row_ = rows_;
  }
  ++rows_;
  nll_ += row.nll;
  reference_nll_ += row.reference_nll;
  kl_ += row.kl;
  top1_ += row.top1 ? 1 : 0;
  top5_ += row.top5;
  largest_error_ = std::max(largest_error_, row.largest_error);
  size_t bin = 0;
  while (bin + 1 < kKlBins && row.kl >= KlBinEnd(bin)) ++bin;
  ++histogram_[bin];
}

double DifferenceSum::perplexity() const { return std::exp(PerRow(nll_)); }
double DifferenceSum::reference_perplexity() const { return std::exp(PerRow(reference_nll_)); }
double DifferenceSum::change_percent() const { return (perplexity() / reference_perplexity() - 1) * 100; }
double DifferenceSum::mean_kl() const { return PerRow(kl_); }
double DifferenceSum::top1() const { return PerRow(static_cast<double>(top1_)); }
double DifferenceSum::top5() const { return PerRow(top5_); }

void PointSample::Add(Point point) {
  if (added_++ % stride_ != 0) return;
  if (points_.size() == limit_) {  // every second one stays
    for (size_t i = 0; 2 * i < points_.size(); ++i) points_[i] = points_[2 * i];
    points_.resize((points_.size() + 1) / 2);
    stride_ *= 2;
    if ((added_ - 1) % stride_ != 0) return;
  }
  points_.push_back(point);
}

}  // namespace dsopt::tools
