// replay_body.cc - batches that a backend replays as one graph give the bits of batches launched piece by
// piece, whatever changes between them. Of backends that have graphs.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "bodies.h"
#include "sampling_reference.h"

namespace dsopt::kernel_test {
namespace {

constexpr uint32_t kSequences = 8;

// One program's life; what it computes depends on the seed alone.
class Player {
 public:
  Player(TestModel* model, const ProgramOptions& options, uint64_t seed)
      : random_(seed),
        program_(model, options, &random_),
        api_(model->device->api),
        vocab_(model->shape.vocab) {}

  void Play() {
    for (uint32_t s = 0; s < kSequences; ++s) {
      const size_t length = s == 0 ? 250 : 3 + 5 * s;
      for (size_t at = 0; at < length; at += 90) Run({{s, Tokens(std::min<size_t>(length - at, 90))}}, 1);
    }
    for (int i = 0; i < 12; ++i) Step(1, 1);  // the context of sequence 0 leaves its bucket
    for (const uint32_t size : {3u, 1u, 8u, 3u, 8u, 1u, 2u})
      for (int i = 0; i < 4; ++i) Step(size, size);
    for (size_t i = 0; i < 6; ++i) {
      program_.MovePage(0, i % program_.Pages(0).size());
      Step(2, 2);
    }
    // More states than there are graphs, in turns.
    for (int round = 0; round < 4; ++round)
      for (uint32_t size = 1; size < kSequences; ++size)
        for (uint32_t wanted = 1; wanted <= std::min(size, 3u); ++wanted) Step(size, wanted);
    for (int i = 0; i < 4; ++i) Run({{0, Tokens(2)}, {3, Tokens(3)}}, 2);
    for (int i = 0; i < 4; ++i) Step(8, 0);
    for (int i = 0; i < 4; ++i) Step(1, 1);
  }

  std::vector<float> numbers;  // log probabilities and logits
  std::vector<int32_t> tokens;
  uint32_t batches = 0, replayed = 0;

 private:
  std::vector<int32_t> Tokens(size_t count) {
    std::vector<int32_t> all(count);
    for (int32_t& token : all) token = static_cast<int32_t>(random_() % vocab_);
    return all;
  }

  // One token of each of the first `size` sequences.
  void Step(uint32_t size, uint32_t wanted) {
    std::vector<TestProgram::Part> parts;
    for (uint32_t s = 0; s < size; ++s) parts.push_back({s, Tokens(1)});
    Run(parts, wanted);
  }

  // Lists hold no token twice: the order of additions to it would not be the same every time.
  std::vector<int32_t> Distinct(size_t count) {
    std::vector<int32_t> all(vocab_);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
    std::shuffle(all.begin(), all.end(), random_);
    all.resize(std::min<size_t>(count, vocab_));
    return all;
  }

  dsopt_sample_row Sample(uint32_t row, Lists* lists) {
    dsopt_sample_row s = {};
    s.row = static_cast<int32_t>(row);
    if (random_() % 8 == 0) {
      s.mode = DSOPT_SCORE;
      s.target = static_cast<int32_t>(random_() % vocab_);
      return s;
    }
    s.temperature = random_() % 3 == 0 ? 0.0f : 0.8f;
    s.top_k = random_() % 2 == 0 ? 20 : 0;
    s.top_p = random_() % 2 == 0 ? 0.9f : 0.0f;
    s.top_logprobs = random_() % 3 == 0 ? 5 : 0;
    s.seed = random_();
    s.counter = random_();
    if (random_() % 2 == 0) {
      s.adjust_first = static_cast<uint32_t>(lists->adjust_tokens.size());
      for (const int32_t token : Distinct(1 + random_() % 8)) {
        lists->adjust_tokens.push_back(token);
        lists->adjust_bias.push_back(random_() % 4 == 0 ? -INFINITY : 1.5f);
      }
      s.adjust_count = static_cast<uint32_t>(lists->adjust_tokens.size()) - s.adjust_first;
    }
    if (random_() % 2 == 0) {
      s.history_first = static_cast<uint32_t>(lists->history_tokens.size());
      for (const int32_t token : Distinct(1 + random_() % 40)) {
        lists->history_tokens.push_back(token);
        lists->history_counts.push_back(1 + static_cast<uint32_t>(random_() % 4));
      }
      s.history_count = static_cast<uint32_t>(lists->history_tokens.size()) - s.history_first;
      s.repeat_penalty = 1.25f;
      s.frequency_penalty = 0.1f;
    }
    return s;
  }

  // Samples the last `wanted` rows. Some batches are cancelled first, before or after all of it was submitted.
  void Run(const std::vector<TestProgram::Part>& parts, uint32_t wanted) {
    dsopt_batch batch = program_.Prepare(parts);
    Lists lists;
    std::vector<dsopt_sample_row> sample;
    for (uint32_t i = 0; i < wanted; ++i) sample.push_back(Sample(batch.rows - wanted + i, &lists));
    batch.sample = sample.data();
    batch.logit_rows = wanted;
    batch.adjust_count = static_cast<uint32_t>(lists.adjust_tokens.size());
    batch.adjust_tokens = lists.adjust_tokens.data();
    batch.adjust_bias = lists.adjust_bias.data();
    batch.history_count = static_cast<uint32_t>(lists.history_tokens.size());
    batch.history_tokens = lists.history_tokens.data();
    batch.history_counts = lists.history_counts.data();
    const auto begin = [&] {
      const dsopt_status status = api_->program_begin(program_.handle, &batch);
      INFO(program_.model->device->host.TakeError());
      REQUIRE(status == DSOPT_OK);
    };
    if (random_() % 5 == 0) {
      begin();
      uint64_t wait_us = 0;
      REQUIRE(api_->program_advance(program_.handle, random_() % 2 == 0 ? 1 : UINT64_MAX, &wait_us) >= 0);
      REQUIRE(api_->program_cancel(program_.handle) == DSOPT_OK);
    }
    begin();
    program_.Finish(random_() % 3 == 0);
    dsopt_batch_result result = {};
    result.struct_size = sizeof(result);
    REQUIRE(api_->program_result(program_.handle, &result) == DSOPT_OK);
    REQUIRE(result.logit_rows == wanted);
    ++batches;
    replayed += result.replayed;
    tokens.insert(tokens.end(), result.tokens, result.tokens + wanted);
    tokens.insert(tokens.end(), result.top_tokens, result.top_tokens + wanted * DSOPT_MAX_TOP_LOGPROBS);
    numbers.insert(numbers.end(), result.logprobs, result.logprobs + wanted);
    numbers.insert(numbers.end(), result.top_logprobs, result.top_logprobs + wanted * DSOPT_MAX_TOP_LOGPROBS);
    for (uint32_t i = 0; i < wanted; ++i) {
      numbers.resize(numbers.size() + vocab_);
      float* logits = &numbers[numbers.size() - vocab_];
      REQUIRE(api_->program_read_logits(program_.handle, i, logits) == DSOPT_OK);
      CAPTURE(batches, i);
      REQUIRE(std::all_of(logits, logits + vocab_, [](float l) { return std::isfinite(l); }));
    }
  }

  Random random_;
  TestProgram program_;
  const dsopt_backend_api* const api_;
  const uint32_t vocab_;
};

}  // namespace

std::vector<ReplayCase> ReplayCases() {
  const ModelShape dense{"attention of 64 and mlp",
                         256,
                         520,
                         {Block(AttentionShape{8, 2, 64}), Block(MlpShape{344, DSOPT_ACT_GELU_TANH, true})}};
  const ModelShape attention{"attention of 128 with a window, and in groups of 16",
                             256,
                             97,
                             {Block(AttentionShape{8, 2, 128, 37}), Block(AttentionShape{16, 1, 128})}};
  const ModelShape latent{"latent attention 512 + 64", 128, 160, {Block(MlaShape{6, 48, 512, 32, 64, 40})}};
  const ModelShape many{
      "latent attention 512 + 64, 128 heads", 64, 96, {Block(MlaShape{128, 0, 512, 8, 64, 8})}};
  const ModelShape mixture{
      "mixtures", 256, 96, {Block(MoeShape{16, 4, 72, 136, 4, 2, false, 2.0f}), Block(MoeShape{8, 2, 264})}};
  ModelShape lossless = dense, int8 = dense, int4 = mixture;
  lossless.name += ", lossless12";
  lossless.coded.encoding = DSOPT_ENCODING_LOSSLESS12;
  int8.name += ", int8";
  int8.coded.encoding = DSOPT_ENCODING_INT8;
  int4.name += ", int4";
  int4.coded = {DSOPT_ENCODING_INT4, 0, 128, false, false};
  std::vector<ReplayCase> cases = {{dense},
                                   {dense, DSOPT_PRECISION_REFERENCE, DSOPT_F32},
                                   {attention},
                                   {attention, DSOPT_PRECISION_FAST, DSOPT_F8_E4M3},
                                   {attention, DSOPT_PRECISION_FAST, DSOPT_I8},
                                   {latent},
                                   {many},
                                   {mixture},
                                   {lossless},
                                   {int8},
                                   {int4},
                                   {dense, DSOPT_PRECISION_FAST, DSOPT_BF16, 40},
                                   {latent, DSOPT_PRECISION_FAST, DSOPT_BF16, 40}};
  for (ReplayCase& c : cases)
    if (c.host_pages != 0) c.shape.name += ", pages on the host";
  return cases;
}

void CheckReplay(const Target& target, const ReplayCase& what, const std::function<void()>& played) {
  Random random(Seed() + 14);
  INFO("seed " << Seed() << ", " << target.Name() << ", " << what.shape.name << ", type " << what.kv_dtype);
  TestDevice device(target);
  TestModel model(&device, what.shape, &random);
  ProgramOptions options;
  options.precision = what.precision;
  options.kv_dtype = what.kv_dtype;
  options.max_history = 512;
  options.max_adjust = 128;
  options.host_pages = what.host_pages;
  const uint64_t seed = random();
  Player replayed(&model, options, seed);
  replayed.Play();
  played();
  options.flags = DSOPT_PROGRAM_NO_REPLAY;
  Player launched(&model, options, seed);
  launched.Play();
  played();
  CHECK(launched.replayed == 0);
  CAPTURE(replayed.replayed, replayed.batches);
  CHECK(replayed.replayed > replayed.batches / 4);
  REQUIRE(replayed.tokens == launched.tokens);
  REQUIRE(replayed.numbers.size() == launched.numbers.size());
  for (size_t i = 0; i < replayed.numbers.size(); ++i) {
    CAPTURE(i, replayed.numbers[i], launched.numbers[i]);
    REQUIRE(std::memcmp(&replayed.numbers[i], &launched.numbers[i], 4) == 0);
  }
}

}  // namespace dsopt::kernel_test
