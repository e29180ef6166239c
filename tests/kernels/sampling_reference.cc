// sampling_reference.cc - see sampling_reference.h.
#include "sampling_reference.h"

#include <algorithm>
#include <cmath>

namespace dsopt::kernel_test {
namespace {

struct Candidate {
  int32_t id;
  double logit, weight;
};

// The first candidate in the present order at which the running weight reaches the target.
size_t Reach(const std::vector<Candidate>& c, double target, bool beyond, bool* borderline) {
  double total = 0.0, sum = 0.0;
  for (const Candidate& x : c) total += x.weight;
  for (size_t i = 0; i < c.size(); ++i) {
    sum += c[i].weight;
    if (std::fabs(sum - target) < 1e-5 * total && i + 1 < c.size()) *borderline = true;
    if (beyond ? sum > target : sum >= target) return i;
  }
  return c.size() - 1;
}

double Total(const std::vector<Candidate>& c) {
  double total = 0.0;
  for (const Candidate& x : c) total += x.weight;
  return total;
}

}  // namespace

ExpectedToken SampleReference(const std::vector<float>& logits, const dsopt_sample_row& s, const Lists& lists) {
  std::vector<double> l(logits.begin(), logits.end());
  for (uint32_t i = 0; i < s.adjust_count; ++i) {
    l[static_cast<size_t>(lists.adjust_tokens[s.adjust_first + i])] +=
        static_cast<double>(lists.adjust_bias[s.adjust_first + i]);
  }
  for (uint32_t i = 0; i < s.history_count; ++i) {
    double& x = l[static_cast<size_t>(lists.history_tokens[s.history_first + i])];
    const double repeat = s.repeat_penalty == 0.0f ? 1.0 : static_cast<double>(s.repeat_penalty);
    x = x > 0.0 ? x / repeat : x * repeat;
    x -= lists.history_counts[s.history_first + i] * static_cast<double>(s.frequency_penalty) +
         static_cast<double>(s.presence_penalty);
  }
  ExpectedToken result{0, false};
  const double max = *std::max_element(l.begin(), l.end());
  if (s.temperature == 0.0f) {
    result.token = static_cast<int32_t>(std::max_element(l.begin(), l.end()) - l.begin());
    for (size_t i = 0; i < l.size(); ++i) {
      if (static_cast<int32_t>(i) != result.token && l[i] > max - 1e-5) result.borderline = true;
    }
    return result;
  }
  std::vector<Candidate> c;
  double sum = 0.0, squares = 0.0, finite = 0.0;
  for (size_t i = 0; i < l.size(); ++i) {
    if (std::isfinite(l[i])) {
      sum += l[i];
      squares += l[i] * l[i];
      finite += 1.0;
      c.push_back({static_cast<int32_t>(i), l[i], std::exp((l[i] - max) / static_cast<double>(s.temperature))});
    }
  }
  if (c.empty()) return result;  // everything is banned: the lowest id
  const auto descending = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  std::sort(c.begin(), c.end(), descending);
  if (s.top_k != 0 && s.top_k < c.size()) {
    if (c[s.top_k - 1].logit - c[s.top_k].logit < 1e-5) result.borderline = true;
    c.resize(s.top_k);
  }
  if (s.top_n_sigma > 0.0f) {
    const double sigma = std::sqrt(squares / finite - sum / finite * sum / finite);
    const double limit = max - static_cast<double>(s.top_n_sigma) * sigma;
    for (const Candidate& x : c) result.borderline |= std::fabs(x.logit - limit) < 1e-5;
    std::erase_if(c, [&](const Candidate& x) { return x.logit < limit; });
  }
  if (s.typical_p > 0.0f && s.typical_p < 1.0f) {
    const double total = Total(c);
    double entropy = 0.0;
    for (const Candidate& x : c)
      entropy -= x.weight > 0.0 ? x.weight / total * std::log(x.weight / total) : 0.0;
    const auto distance = [&](const Candidate& x) { return std::fabs(-std::log(x.weight / total) - entropy); };
    std::sort(c.begin(), c.end(), [&](const Candidate& a, const Candidate& b) {
      return distance(a) != distance(b) ? distance(a) < distance(b) : a.id < b.id;
    });
    const size_t last = Reach(c, static_cast<double>(s.typical_p) * total, false, &result.borderline);
    if (last + 1 < c.size() && distance(c[last + 1]) - distance(c[last]) < 1e-4) result.borderline = true;
    c.resize(last + 1);
    std::sort(c.begin(), c.end(), descending);
  }
  if (s.top_p > 0.0f && s.top_p < 1.0f) {
    c.resize(Reach(c, static_cast<double>(s.top_p) * Total(c), false, &result.borderline) + 1);
  }
  if (s.min_p > 0.0f) {
    const double limit = static_cast<double>(s.min_p) * c[0].weight;
    for (const Candidate& x : c) result.borderline |= std::fabs(x.weight - limit) < 1e-5 * limit;
    std::erase_if(c, [&](const Candidate& x) { return x.weight < limit; });
  }
  const Philox bits =
      Philox::Run({static_cast<uint32_t>(s.counter), static_cast<uint32_t>(s.counter >> 32), 0, 0},
                  static_cast<uint32_t>(s.seed), static_cast<uint32_t>(s.seed >> 32));
  const double u = static_cast<double>(bits.c[0]) / 4294967296.0;
  result.token = c[Reach(c, u * Total(c), true, &result.borderline)].id;
  return result;
}

}  // namespace dsopt::kernel_test
