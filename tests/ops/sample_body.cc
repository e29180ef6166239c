// sample_body.cc - tokens against the float64 sampler of tests/kernels, log probabilities against a plain
// softmax.
#include <algorithm>
#include <cmath>

#include "ops_bodies.h"
#include "ops_reference.h"
#include "sampling_reference.h"

namespace dsopt::ops_test {
namespace {

using kernel_test::ExpectedToken;
using kernel_test::Lists;
using kernel_test::SampleReference;

dsopt_sampling RandomParams(Random* random) {
  const auto unit = [&] { return static_cast<float>((*random)() % 10000) / 10000.0f; };
  const auto maybe = [&](float value) { return (*random)() % 3 == 0 ? value : 0.0f; };
  auto s = Sized<dsopt_sampling>();
  s.temperature = (*random)() % 6 == 0 ? 0.0f : 0.2f + 2.0f * unit();
  s.top_k = (*random)() % 3 == 0 ? 1 + static_cast<uint32_t>((*random)() % 100) : 0;
  s.top_p = maybe(0.05f + 0.9f * unit());
  s.min_p = maybe(0.3f * unit());
  s.typical_p = maybe(0.05f + 0.9f * unit());
  s.top_n_sigma = maybe(0.5f + 2.0f * unit());
  s.repeat_penalty = maybe(1.0f + unit());
  s.presence_penalty = maybe(unit());
  s.frequency_penalty = maybe(unit() - 0.5f);
  s.seed = (*random)();
  return s;
}

dsopt_sample_row RowOf(const dsopt_sampling& s, uint64_t counter) {
  dsopt_sample_row r = {};
  r.temperature = s.temperature;
  r.top_k = s.top_k;
  r.top_p = s.top_p;
  r.min_p = s.min_p;
  r.typical_p = s.typical_p;
  r.top_n_sigma = s.top_n_sigma;
  r.repeat_penalty = s.repeat_penalty;
  r.presence_penalty = s.presence_penalty;
  r.frequency_penalty = s.frequency_penalty;
  r.seed = s.seed;
  r.counter = counter;
  return r;
}

struct SampleCase {
  int64_t rows, vocab, pad, history;  // 0: none
  dsopt_dtype type;
  bool one_for_all, counters, logprobs;
};

void CheckOne(Device* device, Random* random, const SampleCase& c) {
  CAPTURE(c.rows, c.vocab, c.pad, c.history, c.type, c.one_for_all, c.counters, c.logprobs);
  const size_t rows = static_cast<size_t>(c.rows), vocab = static_cast<size_t>(c.vocab);
  Tensor logits(device, c.type, {c.rows, c.vocab}, c.pad);
  Tensor tokens(device, DSOPT_I32, {c.rows}), logprobs(device, DSOPT_F32, {c.rows});
  const int64_t length = std::max<int64_t>(c.history, 1);
  Tensor history(device, DSOPT_I32, {c.rows, length}), counts(device, DSOPT_I32, {c.rows, length});
  logits.Normal(random, 3.0);
  std::vector<dsopt_sampling> params;
  for (size_t i = 0; i < (c.one_for_all ? 1 : rows); ++i) params.push_back(RandomParams(random));
  std::vector<uint64_t> counters(rows);
  for (uint64_t& counter : counters) counter = (*random)();
  std::vector<double> ids, times;
  for (size_t r = 0; r < rows; ++r) {
    std::vector<int32_t> distinct(vocab);
    for (size_t i = 0; i < vocab; ++i) distinct[i] = static_cast<int32_t>(i);
    std::shuffle(distinct.begin(), distinct.end(), *random);
    for (size_t i = 0; i < static_cast<size_t>(length); ++i) {
      ids.push_back(i < vocab && (*random)() % 4 != 0 ? distinct[i] : -1);
      times.push_back(static_cast<double>((*random)() % 5));
    }
  }
  history.Set(ids);
  counts.Set(times);
  Array<uint64_t> counter_array(device, counters);
  auto args = Sized<dsopt_sample_args>();
  args.params_count = static_cast<uint32_t>(params.size());
  args.logits = logits;
  args.params = params.data();
  args.tokens = tokens;
  if (c.counters) args.counters = counter_array;
  if (c.history > 0) args.history = history, args.history_counts = counts;
  if (c.logprobs) args.logprobs = logprobs;
  const Values given = logits.values;
  Run(device, DSOPT_OP_SAMPLE, &args);

  logits.Read();
  REQUIRE(logits.values == given);
  tokens.Read();
  logprobs.Read();
  uint32_t borderline = 0;
  for (size_t r = 0; r < rows; ++r) {
    const dsopt_sampling& s = params[c.one_for_all ? 0 : r];
    dsopt_sample_row row = RowOf(s, c.counters ? counters[r] : r);
    Lists lists;
    for (size_t i = r * static_cast<size_t>(length); i < (r + 1) * static_cast<size_t>(length) && c.history > 0;
         ++i) {
      if (ids[i] < 0) continue;
      lists.history_tokens.push_back(static_cast<int32_t>(ids[i]));
      lists.history_counts.push_back(static_cast<uint32_t>(times[i]));
      ++row.history_count;
    }
    const std::vector<float> values(&given[r * vocab], &given[r * vocab] + vocab);
    const ExpectedToken expected = SampleReference(values, row, lists);
    const size_t token = static_cast<size_t>(tokens.values[r]);
    REQUIRE(token < vocab);
    double peak = -INFINITY, total = 0.0;
    for (const float v : values) peak = std::max(peak, static_cast<double>(v));
    for (const float v : values) total += std::exp(static_cast<double>(v) - peak);
    if (c.logprobs) {
      const double logprob = static_cast<double>(values[token]) - peak - std::log(total);
      REQUIRE(std::fabs(logprobs.values[r] - logprob) < 1e-4);
    }
    borderline += expected.borderline ? 1 : 0;
    if (expected.borderline) continue;
    CAPTURE(r, s.temperature, s.top_k, s.top_p, s.min_p, s.typical_p, s.top_n_sigma, s.repeat_penalty,
            s.presence_penalty, s.frequency_penalty, s.seed, row.counter);
    REQUIRE(token == static_cast<size_t>(expected.token));
  }
  if (c.type == DSOPT_F32) CHECK(borderline <= rows / 3 + 2);  // bf16 logits have many equals
}

}  // namespace

void CheckSample(Device* device) {
  Random random(Seed() + 7);
  INFO("seed " << Seed());
  for (const SampleCase& c : {SampleCase{1, 1, 0, 0, DSOPT_F32, true, false, true},
                              SampleCase{60, 1007, 0, 0, DSOPT_F32, false, true, true},
                              SampleCase{60, 1007, 0, 40, DSOPT_F32, false, true, true},
                              SampleCase{40, 333, 3, 7, DSOPT_F32, false, false, false},
                              SampleCase{40, 500, 0, 20, DSOPT_BF16, false, true, true},
                              SampleCase{33, 6000, 8, 1000, DSOPT_F32, true, true, true}}) {
    CheckOne(device, &random, c);
  }
}

}  // namespace dsopt::ops_test
