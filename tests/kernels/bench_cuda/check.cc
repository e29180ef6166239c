// check.cc - the fast paths of a shape against its f32 ones.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "bench.h"

namespace dsopt::bench {

// Two layers of a shape: prefill, decode alone (persistent where there is one), decode beside another sequence,
// all against the f32 program; one step a hundred times; and decoding far into caches of the same random pages, steps
// of many rows there a hundred times as well.
bool Check(const Shape& shape, const Encoding& encoding) {
  Model model(shape, encoding);
  model.Build(2);
  constexpr uint32_t kPrompt = 150, kSteps = 12;
  Program exact(&model, DSOPT_PRECISION_REFERENCE, DSOPT_F32, 1, 256, 192, 192);
  Program fast(&model, DSOPT_PRECISION_FAST, DSOPT_BF16, 2, 256, 320, 192);
  Program pair(&model, DSOPT_PRECISION_FAST, DSOPT_BF16, 2, 256, 320, 192);
  const std::vector<int32_t> tokens = Tokens(256, shape.vocab, 3);
  double prefill = 0, chunk = 0, single = 0, beside = 0, between = 0;
  exact.Run(1, 0, kPrompt, tokens, kPrompt);
  fast.Run(1, 0, kPrompt, tokens, kPrompt);
  std::vector<double> rows_of_prefill;
  for (uint32_t i = 0; i < kPrompt; ++i)
    rows_of_prefill.push_back(RelativeError(fast.Logits(i), exact.Logits(i)));
  prefill = *std::max_element(rows_of_prefill.begin(), rows_of_prefill.end());
  for (uint32_t at = 0; at < kPrompt;) {  // chunks that take the kernels for few rows
    const uint32_t rows = std::min(kPrompt - at, at == 0 ? 40u : at < 60 ? 7u : at < 100 ? 15u : 29u);
    std::vector<int32_t> both(tokens.begin() + at, tokens.begin() + at + rows);
    both.insert(both.end(), tokens.begin() + at, tokens.begin() + at + rows);
    pair.Run(2, at, rows, both, rows);
    for (uint32_t i = 0; i < rows; ++i)
      chunk = std::max(chunk, RelativeError(pair.Logits(i), exact.Logits(at + i)));
    at += rows;
  }
  for (uint32_t i = 0; i < kSteps; ++i) {
    const std::vector<int32_t> one = {tokens[kPrompt + i]}, two = {one[0], one[0]};
    exact.Run(1, kPrompt + i, 1, one, 1);
    fast.Run(1, kPrompt + i, 1, one, 1);
    pair.Run(2, kPrompt + i, 1, two, 2);
    const std::vector<float> e = exact.Logits(0), f = fast.Logits(0), p = pair.Logits(1);
    single = std::max(single, RelativeError(f, e));
    beside = std::max(beside, RelativeError(p, e));
    between = std::max(between, RelativeError(f, p));
  }
  // The last step again and again: sums are added in one order, so it has the same bits every time. What only now
  // and then goes wrong shows here.
  constexpr uint32_t kAgain = 100;
  uint32_t other = 0, steps = kAgain;
  const std::vector<float> last = fast.Logits(0);
  for (uint32_t i = 0; i < kAgain; ++i) {
    fast.Run(1, kPrompt + kSteps - 1, 1, {tokens[kPrompt + kSteps - 1]}, 1);
    const std::vector<float> now = fast.Logits(0);
    other += std::memcmp(now.data(), last.data(), last.size() * sizeof(float)) != 0 ? 1 : 0;
  }
  // A step from an empty cache.
  const std::vector<int32_t> one = {tokens[5]};
  exact.Run(1, 0, 1, one, 1);
  fast.Run(1, 0, 1, one, 1);
  const double empty = RelativeError(fast.Logits(0), exact.Logits(0));
  double far = 0;
  {
    constexpr uint32_t kFar = 5003;
    Program exact_far(&model, DSOPT_PRECISION_REFERENCE, DSOPT_BF16, 1, kFar + 1, 1, 1);
    Program one_far(&model, DSOPT_PRECISION_FAST, DSOPT_BF16, 1, kFar + 1, 1, 1);
    Program three_far(&model, DSOPT_PRECISION_FAST, DSOPT_BF16, 3, kFar + 1, 3, 3);
    Program many_far(&model, DSOPT_PRECISION_FAST, DSOPT_BF16, 29, kFar + 1, 29, 29);
    for (Program* program : {&exact_far, &one_far, &three_far, &many_far}) program->FillCache();
    const std::vector<int32_t> three(3, one[0]), many(29, one[0]);
    for (const uint32_t position : {uint32_t{700}, kFar}) {
      exact_far.Run(1, position, 1, one, 1);
      one_far.Run(1, position, 1, one, 1);
      three_far.Run(3, position, 1, three, 3);
      const std::vector<float> e = exact_far.Logits(0);
      far = std::max({far, RelativeError(one_far.Logits(0), e), RelativeError(three_far.Logits(0), e),
                      RelativeError(three_far.Logits(2), e)});
      for (const uint32_t rows : {uint32_t{12}, uint32_t{29}}) {
        many_far.Run(rows, position, 1, many, rows);
        for (const uint32_t row : {uint32_t{0}, rows / 2, rows - 1})
          far = std::max(far, RelativeError(many_far.Logits(row), e));
        if (position != kFar) continue;
        const std::vector<float> first = many_far.Logits(rows - 1);
        for (uint32_t i = 0; i < kAgain; ++i, ++steps) {
          many_far.Run(rows, position, 1, many, rows);
          const std::vector<float> now = many_far.Logits(rows - 1);
          other += std::memcmp(now.data(), first.data(), first.size() * sizeof(float)) != 0 ? 1 : 0;
        }
      }
    }
  }
  // Where a router's choice is a near tie, bf16 and f32 may choose differently: then the median row decides.
  const double worst = shape.experts != 0 ? Median(rows_of_prefill)
                                          : std::max({prefill, chunk, single, beside, between, empty, far});
  std::printf(
      "check %-18s prefill %.1e chunks %.1e decode %.1e pair %.1e decode-pair %.1e empty %.1e far %.1e  median "
      "%.1e "
      "other bits %u of %u %s\n",
      shape.name, prefill, chunk, single, beside, between, empty, far, Median(rows_of_prefill), other, steps,
      worst < 1e-2 && other == 0 ? "ok" : "WRONG");
  std::fflush(stdout);
  return worst < 1e-2 && other == 0;
}

namespace {

// Errors of a few decode steps of one row from `context` on: against two rows of two sequences that hold the
// same, and against f32 arithmetic over the same codes (exact may be null).
struct StepErrors {
  double pair, exact;
};
StepErrors ErrorsOfSteps(Program* one, Program* two, Program* exact, uint32_t context, uint32_t vocab) {
  constexpr uint32_t kSteps = 4;
  for (Program* program : {one, two, exact})
    if (program != nullptr) program->FillCache(context);
  const std::vector<int32_t> tokens = Tokens(kSteps, vocab, context + 1);
  std::vector<double> pair_errors, exact_errors = {0};
  for (uint32_t i = 0; i < kSteps; ++i) {
    one->Run(1, context + i, 1, {tokens[i]}, 1);
    two->Run(2, context + i, 1, {tokens[i], tokens[i]}, 2);
    pair_errors.push_back(RelativeError(one->Logits(0), two->Logits(1)));
    if (exact == nullptr) continue;
    exact->Run(1, context + i, 1, {tokens[i]}, 1);
    exact_errors.push_back(RelativeError(one->Logits(0), exact->Logits(0)));
  }
  // Where a router's choice is a near tie, programs may choose differently.
  const bool routed = one->model->shape.experts != 0;
  const auto of = [&](const std::vector<double>& e) {
    return routed ? Median(e) : *std::max_element(e.begin(), e.end());
  };
  return {of(pair_errors), of(exact_errors)};
}

}  // namespace

// Two layers over caches filled here: every page of its own, NaN behind what is known. One row is what a
// persistent kernel takes, where there is one. Within a few tokens of the start most of what attention sees are
// the steps' own tokens, whose codes may differ where a value lies between two. A window is for attention with
// heads of its own.
bool CheckCache(const Shape& shape, const Encoding& encoding, dsopt_dtype kv) {
  constexpr uint32_t kLongest = 131072, kExact = 8192;
  Model model(shape, encoding);
  model.Build(2);
  bool right = true;
  for (const uint32_t window : {0u, 100u}) {
    if (window != 0 && shape.q_heads == 0) continue;
    for (dsopt_block& b : model.blocks)
      if (b.kind == DSOPT_BLOCK_ATTENTION) b.u.attention.window = window;
    Program one(&model, DSOPT_PRECISION_FAST, kv, 1, kLongest, 16, 1);
    Program two(&model, DSOPT_PRECISION_FAST, kv, 2, kLongest, 16, 2);
    Program exact(&model, DSOPT_PRECISION_REFERENCE, kv, 1, kExact, 16, 1);
    std::printf("check %s, cache %s, window %u:", shape.name, CacheName(kv), window);
    bool all = true;
    // Latent attention goes in tiles from 2049 keys on, and back: of 66 pages every CTA has one, of 67 some
    // two.
    for (const uint32_t context :
         {0u, 1u, 14u, 16u, 61u, 64u, 100u, 777u, 1023u, 2047u, 4096u, 4223u, 20011u, kLongest - 5, 300u}) {
      const StepErrors e =
          ErrorsOfSteps(&one, &two, context + 4 < kExact ? &exact : nullptr, context, shape.vocab);
      const double bound = kv == DSOPT_BF16 || context >= 61 ? 1e-2 : kv == DSOPT_I4 ? 8e-2 : 4e-2;
      const bool good = e.pair < bound && e.exact < bound;
      std::printf("  %u %.1e %.1e%s", context, e.pair, e.exact, good ? "" : " WRONG");
      all &= good;
    }
    std::printf("  %s\n", all ? "ok" : "WRONG");
    std::fflush(stdout);
    right &= all;
  }
  return right;
}

}  // namespace dsopt::bench
