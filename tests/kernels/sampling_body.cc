// sampling_body.cc - tokens and log probabilities against a sampler that sorts everything in float64.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "bodies.h"
#include "sampling_reference.h"

namespace dsopt::kernel_test {
namespace {

// A model that is nothing but an embedding and a head: one row gives one set of logits.
struct Sampler {
  Sampler(const Target& target, uint32_t vocab, uint32_t rows, Random* random)
      : device(target),
        model(&device, {"sampler", 64, vocab, {}, DSOPT_F32}, random),
        program(&model, Options(rows), random) {}
  static ProgramOptions Options(uint32_t rows) {
    ProgramOptions o;
    o.max_rows = rows;
    o.max_seqs = 1;
    o.max_pages_per_seq = rows / 64 + 1;
    o.page_count = o.max_pages_per_seq + 1;
    o.max_adjust = o.max_history = 64 * rows;
    return o;
  }
  // Entry i samples the last row. Logits are the same for all.
  void Run(const std::vector<int32_t>& tokens, std::vector<dsopt_sample_row>* rows, const Lists& lists) {
    TestProgram fresh(&model, Options(desc_rows()), &shuffle);
    RunIn(&fresh, tokens, rows, lists);
  }
  uint32_t desc_rows() const { return program.desc.max_rows; }
  void RunIn(TestProgram* p, const std::vector<int32_t>& tokens, std::vector<dsopt_sample_row>* rows,
             const Lists& lists) {
    dsopt_batch batch = p->Prepare({{0, tokens}});
    batch.sample = rows->data();
    batch.logit_rows = static_cast<uint32_t>(rows->size());
    batch.adjust_count = static_cast<uint32_t>(lists.adjust_tokens.size());
    batch.adjust_tokens = lists.adjust_tokens.data();
    batch.adjust_bias = lists.adjust_bias.data();
    batch.history_count = static_cast<uint32_t>(lists.history_tokens.size());
    batch.history_tokens = lists.history_tokens.data();
    batch.history_counts = lists.history_counts.data();
    const dsopt_status status = device.api->program_begin(p->handle, &batch);
    INFO(device.host.TakeError());
    REQUIRE(status == DSOPT_OK);
    p->Finish();
    dsopt_batch_result r = {};
    r.struct_size = sizeof(r);
    REQUIRE(device.api->program_result(p->handle, &r) == DSOPT_OK);
    REQUIRE(r.logit_rows == rows->size());
    tokens_out.assign(r.tokens, r.tokens + r.logit_rows);
    logprobs.assign(r.logprobs, r.logprobs + r.logit_rows);
    top_tokens.assign(r.top_tokens, r.top_tokens + r.logit_rows * DSOPT_MAX_TOP_LOGPROBS);
    top_logprobs.assign(r.top_logprobs, r.top_logprobs + r.logit_rows * DSOPT_MAX_TOP_LOGPROBS);
    logits.assign(r.logit_rows, std::vector<float>(model.shape.vocab));
    for (uint32_t i = 0; i < r.logit_rows; ++i) {
      REQUIRE(device.api->program_read_logits(p->handle, i, logits[i].data()) == DSOPT_OK);
    }
  }
  TestDevice device;
  TestModel model;
  TestProgram program;
  Random shuffle{7};
  std::vector<int32_t> tokens_out, top_tokens;
  std::vector<float> logprobs, top_logprobs;
  std::vector<std::vector<float>> logits;
};

dsopt_sample_row RandomRow(Random* random, uint32_t row, uint32_t vocab, Lists* lists) {
  const auto unit = [&] { return static_cast<float>((*random)() % 10000) / 10000.0f; };
  const auto maybe = [&](float value) { return (*random)() % 3 == 0 ? value : 0.0f; };
  dsopt_sample_row s = {};
  s.row = static_cast<int32_t>(row);
  s.temperature = (*random)() % 6 == 0 ? 0.0f : 0.2f + 2.0f * unit();
  s.top_k = (*random)() % 3 == 0 ? 1 + static_cast<uint32_t>((*random)() % 100) : 0;
  s.top_p = maybe(0.05f + unit());
  s.min_p = maybe(0.3f * unit());
  s.typical_p = maybe(0.05f + unit());
  s.top_n_sigma = maybe(0.5f + 2.0f * unit());
  s.seed = (*random)();
  s.counter = (*random)();
  if ((*random)() % 2 == 0) {
    s.adjust_first = static_cast<uint32_t>(lists->adjust_tokens.size());
    s.adjust_count = 1 + static_cast<uint32_t>((*random)() % 20);
    for (uint32_t i = 0; i < s.adjust_count; ++i) {
      lists->adjust_tokens.push_back(static_cast<int32_t>((*random)() % vocab));
      lists->adjust_bias.push_back((*random)() % 3 == 0 ? -INFINITY : 4.0f * unit() - 2.0f);
    }
  }
  if ((*random)() % 2 == 0) {
    s.history_first = static_cast<uint32_t>(lists->history_tokens.size());
    std::vector<int32_t> distinct(vocab);
    for (uint32_t i = 0; i < vocab; ++i) distinct[i] = static_cast<int32_t>(i);
    std::shuffle(distinct.begin(), distinct.end(), *random);
    s.history_count = std::min(vocab, 1 + static_cast<uint32_t>((*random)() % 30));
    for (uint32_t i = 0; i < s.history_count; ++i) {
      lists->history_tokens.push_back(distinct[i]);
      lists->history_counts.push_back(1 + static_cast<uint32_t>((*random)() % 5));
    }
    s.repeat_penalty = maybe(1.0f + unit());
    s.presence_penalty = maybe(unit());
    s.frequency_penalty = maybe(unit() - 0.5f);
  }
  return s;
}

}  // namespace

void CheckSamplingSteps(const Target& target) {
  // Known answers of the Random123 distribution: philox4x32 10 rounds.
  REQUIRE(Philox::Run({0, 0, 0, 0}, 0, 0).c[0] == 0x6627e8d5u);
  REQUIRE(Philox::Run({0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}, 0xffffffffu, 0xffffffffu).c[0] ==
          0x408f276du);
  Random random(Seed() + 3);
  INFO("seed " << Seed() << ", " << target.Name());
  for (const uint32_t vocab : {1007u, 3u, 5000u}) {
    constexpr uint32_t kRows = 64;
    Sampler sampler(target, vocab, kRows, &random);
    uint32_t borderline = 0;
    for (int repeat = 0; repeat < 8; ++repeat) {
      std::vector<int32_t> tokens(kRows);
      for (int32_t& t : tokens) t = static_cast<int32_t>(random() % vocab);
      Lists lists;
      std::vector<dsopt_sample_row> rows;
      for (uint32_t r = 0; r < kRows; ++r) rows.push_back(RandomRow(&random, r, vocab, &lists));
      sampler.Run(tokens, &rows, lists);
      for (uint32_t r = 0; r < kRows; ++r) {
        const ExpectedToken expected = SampleReference(sampler.logits[r], rows[r], lists);
        if (expected.borderline) {
          ++borderline;
          continue;
        }
        const dsopt_sample_row& s = rows[r];
        CAPTURE(vocab, r, s.temperature, s.top_k, s.top_p, s.min_p, s.typical_p, s.top_n_sigma,
                s.repeat_penalty, s.presence_penalty, s.frequency_penalty, s.adjust_count, s.history_count,
                s.seed, s.counter);
        REQUIRE(sampler.tokens_out[r] == expected.token);
      }
    }
    CHECK(borderline < 8 * kRows / 4);
  }
}

void CheckSamplingSpread(const Target& target) {
  Random random(Seed() + 4);
  INFO("seed " << Seed() << ", " << target.Name());
  constexpr uint32_t kVocab = 200, kRows = 256, kBatches = 80;
  Sampler sampler(target, kVocab, kRows, &random);
  std::vector<double> counts(kVocab, 0.0);
  const uint64_t seed = random();
  const std::vector<int32_t> tokens(kRows, 17);
  for (uint32_t batch = 0; batch < kBatches; ++batch) {
    std::vector<dsopt_sample_row> rows(kRows);
    for (uint32_t r = 0; r < kRows; ++r) {
      rows[r].row = static_cast<int32_t>(r);
      rows[r].temperature = 1.5f;
      rows[r].seed = seed;
      rows[r].counter = batch * kRows + r;
    }
    sampler.Run(tokens, &rows, {});
    for (const int32_t token : sampler.tokens_out) counts[static_cast<size_t>(token)] += 1.0;
  }
  double total = 0.0;
  std::vector<double> p(kVocab);
  for (uint32_t t = 0; t < kVocab; ++t)
    total += p[t] = std::exp(static_cast<double>(sampler.logits[0][t]) / 1.5);
  double chi = 0.0;
  for (uint32_t t = 0; t < kVocab; ++t) {
    const double expected = p[t] / total * kRows * kBatches;
    chi += (counts[t] - expected) * (counts[t] - expected) / expected;
  }
  const double freedom = kVocab - 1;
  CAPTURE(chi, freedom);
  CHECK(chi < freedom + 6.0 * std::sqrt(2.0 * freedom));  // six deviations
  CHECK(chi > freedom - 6.0 * std::sqrt(2.0 * freedom));
}

void CheckScoring(const Target& target) {
  Random random(Seed() + 5);
  INFO("seed " << Seed() << ", " << target.Name());
  for (const uint32_t vocab : {1007u, 7u}) {
    constexpr uint32_t kRows = 21;
    Sampler sampler(target, vocab, kRows, &random);
    std::vector<int32_t> tokens(kRows);
    for (int32_t& t : tokens) t = static_cast<int32_t>(random() % vocab);
    std::vector<dsopt_sample_row> rows(kRows);
    for (uint32_t r = 0; r < kRows; ++r) {
      rows[r].row = static_cast<int32_t>(r);
      rows[r].mode = r % 2 == 0 ? DSOPT_SCORE : DSOPT_SAMPLE;
      rows[r].target = static_cast<int32_t>(random() % vocab);
      rows[r].top_logprobs = r;
    }
    sampler.Run(tokens, &rows, {});
    for (uint32_t r = 0; r < kRows; ++r) {
      const std::vector<float>& l = sampler.logits[r];
      std::vector<std::pair<double, int32_t>> order;
      double total = 0.0;
      const double max = static_cast<double>(*std::max_element(l.begin(), l.end()));
      for (size_t t = 0; t < l.size(); ++t) {
        total += std::exp(static_cast<double>(l[t]) - max);
        order.emplace_back(-static_cast<double>(l[t]), static_cast<int32_t>(t));
      }
      std::sort(order.begin(), order.end());
      CAPTURE(vocab, r);
      const int32_t token = rows[r].mode == DSOPT_SCORE ? rows[r].target : order[0].second;
      REQUIRE(sampler.tokens_out[r] == token);
      const double expected = static_cast<double>(l[static_cast<size_t>(token)]) - max - std::log(total);
      REQUIRE(std::fabs(static_cast<double>(sampler.logprobs[r]) - expected) < 1e-5);
      for (uint32_t i = 0; i < DSOPT_MAX_TOP_LOGPROBS; ++i) {
        const int32_t top = sampler.top_tokens[r * DSOPT_MAX_TOP_LOGPROBS + i];
        if (i >= rows[r].top_logprobs || i >= vocab) {
          REQUIRE(top == -1);
          continue;
        }
        REQUIRE(top == order[i].second);
        const double value = -order[i].first - max - std::log(total);
        REQUIRE(std::fabs(static_cast<double>(sampler.top_logprobs[r * DSOPT_MAX_TOP_LOGPROBS + i]) - value) <
                1e-5);
      }
    }
  }
}

}  // namespace dsopt::kernel_test
