// Streams: fork, rewind, save, load, seeds, logprobs, logits, limits.
#include <algorithm>
#include <cmath>

#include "tests/capi/capi_harness.h"

namespace dsopt::testing {
namespace {

std::vector<dsopt_token> TokensOf(dsopt_stream* stream) {
  std::vector<dsopt_token> tokens(dsopt_stream_token_count(stream));
  size_t count = 0;
  REQUIRE_OK(dsopt_stream_get_tokens(stream, 0, tokens.data(), tokens.size(), &count));
  REQUIRE(count == tokens.size());
  return tokens;
}

TinyFamily AnyFamily() { return GENERATE(from_range(std::begin(kTinyFamilies), std::end(kTinyFamilies))); }

TEST_CASE("a forked stream continues exactly like its parent", "[capi]") {
  const TinyFamily family = AnyFamily();
  CAPTURE(static_cast<int>(family));
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(family));
  SessionPtr session = NewSession(model.get(), 4);
  StreamPtr parent = NewStream(session.get(), std::string(100, 'x') + " tell me");
  Generate(session.get(), parent.get(), 10);
  dsopt_stream* raw = nullptr;
  REQUIRE_OK(dsopt_stream_fork(parent.get(), &raw));
  StreamPtr fork(raw);
  CHECK(TokensOf(fork.get()) == TokensOf(parent.get()));
  const Output a = Generate(session.get(), parent.get(), 60);
  const Output b = Generate(session.get(), fork.get(), 60);
  CHECK(a.tokens == b.tokens);
  // and after diverging neither disturbs the other
  REQUIRE_OK(dsopt_stream_rewind(fork.get(), 105));
  REQUIRE_OK(dsopt_stream_append_text(fork.get(), "else", DSOPT_NTS, 0));
  Generate(session.get(), fork.get(), 20);
  REQUIRE_OK(dsopt_stream_rewind(parent.get(), TokensOf(parent.get()).size() - 60));
  CHECK(Generate(session.get(), parent.get(), 60).tokens == a.tokens);
}

TEST_CASE("rewinding and generating again gives the same tokens", "[capi]") {
  const TinyFamily family = AnyFamily();
  CAPTURE(static_cast<int>(family));
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(family));
  SessionPtr session = NewSession(model.get());
  StreamPtr stream = NewStream(session.get(), "What is it?");
  const size_t prompt = dsopt_stream_token_count(stream.get());
  const Output first = Generate(session.get(), stream.get(), 80);
  for (size_t keep : {80u, 79u, 51u, 1u, 0u}) {
    CAPTURE(keep);
    REQUIRE_OK(dsopt_stream_rewind(stream.get(), prompt + keep));
    if (keep < 80) Generate(session.get(), stream.get(), static_cast<uint32_t>(80 - keep));
    const auto tokens = TokensOf(stream.get());
    CHECK(
        std::equal(first.tokens.begin(), first.tokens.end(), tokens.begin() + static_cast<ptrdiff_t>(prompt)));
  }
}

TEST_CASE("a saved stream continues the same in another session and another runtime", "[capi]") {
  const TinyFamily family = AnyFamily();
  CAPTURE(static_cast<int>(family));
  std::vector<uint8_t> saved;
  std::vector<dsopt_token> expected, tokens;
  {
    RuntimePtr runtime = NewRuntime();
    ModelPtr model = OpenModel(runtime.get(), ModelBytes(family));
    SessionPtr session = NewSession(model.get());
    StreamPtr stream = NewStream(session.get(), std::string(70, 'q') + " and then");
    Generate(session.get(), stream.get(), 10);
    saved = Save(stream.get());
    tokens = TokensOf(stream.get());
    expected = Generate(session.get(), stream.get(), 50).tokens;
  }
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(family));
  SessionPtr session = NewSession(model.get(), 3, 500, 16);
  StreamPtr stream = NewStream(session.get(), "something else first");
  REQUIRE_OK(dsopt_stream_load(stream.get(), saved.data(), saved.size()));
  CHECK(TokensOf(stream.get()) == tokens);
  CHECK(Generate(session.get(), stream.get(), 50).tokens == expected);
  const ModelPtr other = OpenModel(
      runtime.get(), ModelBytes(family == TinyFamily::kLlama ? TinyFamily::kMixtral : TinyFamily::kLlama));
  SessionPtr foreign = NewSession(other.get());
  StreamPtr target = NewStream(foreign.get(), "abc");
  CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_stream_load(target.get(), saved.data(), saved.size()));
  CHECK(dsopt_stream_token_count(target.get()) == 4);
}

TEST_CASE("the same seed gives the same tokens, another one others", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  const auto run = [&](uint64_t seed, bool split) {
    SessionPtr session = NewSession(model.get(), 2);
    StreamPtr stream = NewStream(session.get(), "Roll the dice");
    auto sampling = Sized<dsopt_sampling>();
    sampling.temperature = 1.5f;
    sampling.seed = seed;
    auto options = Options(split ? 20 : 40);
    options.sampling = &sampling;
    Output output = Generate(session.get(), stream.get(), options);
    if (split) {
      const Output rest = Generate(session.get(), stream.get(), options);
      output.tokens.insert(output.tokens.end(), rest.tokens.begin(), rest.tokens.end());
    }
    return output.tokens;
  };
  const auto first = run(42, false);
  CHECK(first.size() == 40);
  CHECK(run(42, false) == first);
  CHECK(run(42, true) == first);  // by position, not by call
  CHECK(run(43, false) != first);
  CHECK(run(0, false) != run(0, false));  // from the OS
}

TEST_CASE("log probabilities, their most probable tokens and logits agree", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  StreamPtr stream = NewStream(session.get(), "Agree");
  auto options = Options(1);
  options.logprobs = 1;
  options.top_logprobs = 5;
  REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
  while (dsopt_session_poll(session.get(), 1000, nullptr) == DSOPT_PENDING) {
  }
  auto event = Sized<dsopt_event>();
  REQUIRE_OK(dsopt_stream_read(stream.get(), &event));
  REQUIRE(event.token_count == 1);
  REQUIRE(event.top_count == 5);
  CHECK(event.top_tokens[0] == event.tokens[0]);  // greedy
  CHECK(event.top_logprobs[0] == Approx(event.logprobs[0]));
  CHECK(event.top_logprobs[0] >= event.top_logprobs[4]);
  std::vector<float> logits(kTinyVocab);
  size_t count = 0;
  CHECK_FAILS(DSOPT_E_BUFFER_TOO_SMALL, dsopt_stream_get_logits(stream.get(), nullptr, 0, &count));
  REQUIRE(count == kTinyVocab);
  REQUIRE_OK(dsopt_stream_get_logits(stream.get(), logits.data(), logits.size(), &count));
  double sum = 0;
  for (float logit : logits) sum += std::exp(static_cast<double>(logit));
  CHECK(static_cast<double>(logits[static_cast<size_t>(event.tokens[0])]) - std::log(sum) ==
        Approx(static_cast<double>(event.logprobs[0])).margin(1e-3));
  float logprob = 0;
  REQUIRE_OK(dsopt_stream_get_logprobs(stream.get(), 6, &logprob, 1, &count));
  CHECK(logprob == event.logprobs[0]);
}

TEST_CASE("scoring a text gives what generating it reported", "[capi]") {
  const TinyFamily family = AnyFamily();
  CAPTURE(static_cast<int>(family));
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(family));
  SessionPtr session = NewSession(model.get(), 2, 2048);
  StreamPtr stream = NewStream(session.get(), "Score");
  Generate(session.get(), stream.get(), 90);
  const auto tokens = TokensOf(stream.get());
  std::vector<float> sampled(tokens.size()), scored(tokens.size());
  size_t count = 0;
  REQUIRE_OK(dsopt_stream_get_logprobs(stream.get(), 0, sampled.data(), sampled.size(), &count));
  StreamPtr scorer = NewStream(session.get());
  REQUIRE_OK(dsopt_stream_append_tokens(scorer.get(), tokens.data(), tokens.size()));
  auto options = Options(0);
  options.flags = DSOPT_GENERATE_SCORE | DSOPT_GENERATE_PREFILL_ONLY;
  const Output output = Generate(session.get(), scorer.get(), options);
  CHECK(output.finish == DSOPT_FINISH_LENGTH);
  CHECK(output.tokens.empty());
  REQUIRE_OK(dsopt_stream_get_logprobs(scorer.get(), 0, scored.data(), scored.size(), &count));
  REQUIRE(count == tokens.size());
  CHECK(std::isnan(sampled[3]));
  CHECK(std::isnan(scored[0]));
  for (size_t i = 1; i < 6; ++i) CHECK(!std::isnan(scored[i]));
  for (size_t i = 6; i < tokens.size(); ++i) {
    CAPTURE(i);
    REQUIRE(scored[i] == Approx(sampled[i]).margin(1e-3));
  }
}

TEST_CASE("end tokens end a generation, stop tokens too, and add no text", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  StreamPtr stream = NewStream(session.get(), "End");
  const auto only_eos = BanUnless([](int32_t token) { return token == kTinyEndOfTurn; });
  auto options = Options(5);
  options.flags = 0;
  options.bias = only_eos.data();
  options.bias_count = only_eos.size();
  Output output = Generate(session.get(), stream.get(), options);
  CHECK(output.finish == DSOPT_FINISH_EOS);
  CHECK(output.tokens == std::vector<dsopt_token>{kTinyEndOfTurn});
  CHECK(output.text.empty());
  options.flags = DSOPT_GENERATE_IGNORE_EOS;
  output = Generate(session.get(), stream.get(), options);
  CHECK(output.finish == DSOPT_FINISH_LENGTH);
  CHECK(output.tokens.size() == 5);
  const auto only_a = BanUnless([](int32_t token) { return token == 'a'; });
  const dsopt_token stop = 'a';
  options.bias = only_a.data();
  options.bias_count = only_a.size();
  options.stop_tokens = &stop;
  options.stop_token_count = 1;
  output = Generate(session.get(), stream.get(), options);
  CHECK(output.finish == DSOPT_FINISH_EOS);
  CHECK(output.tokens.size() == 1);
  CHECK(output.text.empty());
}

TEST_CASE("penalties see the window and change greedy tokens", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  const auto letters = OnlyLetters();
  auto sampling = Sized<dsopt_sampling>();
  sampling.presence_penalty = 1000;
  sampling.penalty_window = 8;
  auto options = Options(8);
  options.sampling = &sampling;
  options.bias = letters.data();
  options.bias_count = letters.size();
  StreamPtr stream = NewStream(session.get(), "zzzzzzzzzzzz");
  auto tokens = Generate(session.get(), stream.get(), options).tokens;
  std::sort(tokens.begin(), tokens.end());
  CHECK(tokens == std::vector<dsopt_token>{'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'});
}

TEST_CASE("running out of cache is an error event with a message, and the stream can go on later", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get(), 2, 128);
  StreamPtr holder = NewStream(session.get(), std::string(60, 'h'));
  Generate(session.get(), holder.get(), 1);
  StreamPtr stream = NewStream(session.get(), std::string(60, 's'));
  const Output output = Generate(session.get(), stream.get(), 30);
  CHECK(output.finish == DSOPT_FINISH_ERROR);
  CHECK(output.status == DSOPT_E_DEVICE_MEMORY);
  char text[200] = "";
  size_t length = 0;
  CHECK_FAILS(DSOPT_E_DEVICE_MEMORY, dsopt_stream_error(stream.get(), text, sizeof text, &length));
  CHECK(std::string(text).find("no free page") != std::string::npos);
  CHECK(length == std::string(text).size());
  CHECK(dsopt_stream_error(stream.get(), text, 5, nullptr) == DSOPT_E_DEVICE_MEMORY);
  CHECK(std::string(text).size() == 4);
  holder.reset();
  CHECK(Generate(session.get(), stream.get(), 30).finish == DSOPT_FINISH_LENGTH);
  REQUIRE_OK(dsopt_stream_error(stream.get(), nullptr, 0, nullptr));
}

TEST_CASE("a reference session works and agrees with itself across chunk sizes", "[capi]") {
  const TinyFamily family = AnyFamily();
  CAPTURE(static_cast<int>(family));
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(family));
  std::vector<dsopt_token> expected;
  for (uint32_t chunk : {1u, 7u, 64u, 200u}) {
    CAPTURE(chunk);
    auto options = Sized<dsopt_session_options>();
    options.precision = DSOPT_PRECISION_REFERENCE;
    options.prefill_chunk = chunk;
    dsopt_session* raw = nullptr;
    REQUIRE_OK(dsopt_session_create(model.get(), &options, &raw));
    SessionPtr session(raw);
    StreamPtr stream = NewStream(session.get(), std::string(150, 'r'));
    const auto tokens = Generate(session.get(), stream.get(), 30).tokens;
    if (expected.empty()) expected = tokens;
    CHECK(tokens == expected);
  }
}

TEST_CASE("a cap in bytes decides how many tokens a session gets, and the plan says so before", "[capi]") {
  const RuntimePtr runtime = NewRuntime();
  const ModelPtr model = OpenModel(runtime.get());
  auto options = Sized<dsopt_session_options>();
  auto plan = Sized<dsopt_session_memory>(), capped = Sized<dsopt_session_memory>();
  REQUIRE_OK(dsopt_session_plan(model.get(), &options, &plan));
  CHECK(plan.page_tokens == 64);
  CHECK(plan.tokens == plan.wanted_tokens);
  CHECK(plan.cache_bytes == plan.wanted_cache_bytes);
  CHECK(plan.device_free_bytes > 0);
  REQUIRE(plan.tokens >= 3 * 64);
  const uint64_t page_bytes = plan.cache_bytes / (plan.tokens / 64);
  dsopt_session* session = nullptr;
  const auto measured = [&](const dsopt_session_memory& expected) {
    REQUIRE_OK(dsopt_session_create(model.get(), &options, &session));
    const SessionPtr owner(session);
    auto stats = Sized<dsopt_session_stats>();
    REQUIRE_OK(dsopt_session_get_stats(session, &stats));
    CHECK(stats.kv_tokens_total == expected.tokens);
    CHECK(stats.device_bytes == expected.cache_bytes + expected.workspace_bytes);
    CHECK(stats.host_bytes == expected.host_bytes);
    REQUIRE_OK(dsopt_session_set_cache_limit(session, page_bytes));
    REQUIRE_OK(dsopt_session_get_stats(session, &stats));
    CHECK(stats.kv_tokens_total == 64);
  };
  measured(plan);
  options.max_cache_bytes = 2 * page_bytes + 5;
  REQUIRE_OK(dsopt_session_plan(model.get(), &options, &capped));
  CHECK(capped.wanted_tokens == plan.wanted_tokens);
  CHECK(capped.wanted_cache_bytes == plan.wanted_cache_bytes);
  CHECK(capped.tokens == 128);
  CHECK(capped.cache_bytes == 2 * page_bytes);
  measured(capped);
  options.max_tokens = 129;  // three pages
  REQUIRE_OK(dsopt_session_plan(model.get(), &options, &capped));
  CHECK(capped.wanted_tokens == 192);
  CHECK(capped.tokens == 128);
  CHECK_FAILS(DSOPT_E_DEVICE_MEMORY, dsopt_session_create(model.get(), &options, &session));
  options.max_tokens = 128;
  measured(capped);
  options.max_tokens = 0;
  options.max_cache_bytes = page_bytes - 1;
  REQUIRE_OK(dsopt_session_plan(model.get(), &options, &capped));
  CHECK(capped.tokens == 0);
  CHECK_FAILS(DSOPT_E_DEVICE_MEMORY, dsopt_session_create(model.get(), &options, &session));
  options.max_tokens = 0xFFFFFFFF;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_session_plan(model.get(), &options, &capped));
}

TEST_CASE("a cap on weights and session leaves the cache what is left, on the CPU without a host's share",
          "[capi]") {
  const RuntimePtr runtime = NewRuntime();
  const ModelPtr model = OpenModel(runtime.get());
  auto info = Sized<dsopt_model_info>();
  REQUIRE_OK(dsopt_model_get_info(model.get(), &info));
  auto options = Sized<dsopt_session_options>();
  auto plan = Sized<dsopt_session_memory>(), whole = Sized<dsopt_session_memory>();
  options.max_tokens = 4 * 64;
  REQUIRE_OK(dsopt_session_plan(model.get(), &options, &whole));
  options.max_device_bytes = info.weight_bytes + whole.workspace_bytes + whole.cache_bytes;
  options.max_host_cache_bytes = UINT64_MAX;
  dsopt_session* session = nullptr;
  REQUIRE_OK(dsopt_session_create(model.get(), &options, &session));
  const SessionPtr owner(session);
  auto stats = Sized<dsopt_session_stats>();
  REQUIRE_OK(dsopt_session_get_stats(session, &stats));
  CHECK(stats.kv_tokens_total == 4 * 64);
  CHECK(stats.kv_host_tokens_total == 0);
  options.max_device_bytes -= 1;
  REQUIRE_OK(dsopt_session_plan(model.get(), &options, &plan));
  CHECK(plan.wanted_tokens == 4 * 64);
  CHECK(plan.tokens == 3 * 64);
  CHECK(plan.cache_bytes == whole.cache_bytes / 4 * 3);
  CHECK(plan.host_tokens == 0);
  CHECK(plan.host_cache_bytes == 0);
  CHECK_FAILS(DSOPT_E_DEVICE_MEMORY, dsopt_session_create(model.get(), &options, &session));
  options.max_tokens = 0;
  options.max_device_bytes = info.weight_bytes;
  REQUIRE_OK(dsopt_session_plan(model.get(), &options, &plan));
  CHECK(plan.tokens == 0);
  CHECK_FAILS(DSOPT_E_DEVICE_MEMORY, dsopt_session_create(model.get(), &options, &session));
}

TEST_CASE("every cache type generates, saves and loads, and takes the bytes it promises", "[capi]") {
  const RuntimePtr runtime = NewRuntime();
  const ModelPtr model = OpenModel(runtime.get());
  uint64_t bf16_bytes = 0;
  for (const dsopt_dtype type : {DSOPT_BF16, DSOPT_F8_E4M3, DSOPT_I8, DSOPT_I4}) {
    CAPTURE(type);
    auto options = Sized<dsopt_session_options>();
    options.kv_dtype = type;
    options.max_streams = 2;
    auto plan = Sized<dsopt_session_memory>();
    REQUIRE_OK(dsopt_session_plan(model.get(), &options, &plan));
    if (type == DSOPT_BF16) bf16_bytes = plan.cache_bytes;
    CHECK((type == DSOPT_BF16) == (plan.cache_bytes == bf16_bytes));
    CHECK(plan.cache_bytes <= bf16_bytes);
    dsopt_session* handle = nullptr;
    REQUIRE_OK(dsopt_session_create(model.get(), &options, &handle));
    const SessionPtr session(handle);
    const StreamPtr first = NewStream(handle, std::string(70, 'h')), second = NewStream(handle);
    CHECK(Generate(handle, first.get(), 5).finish == DSOPT_FINISH_LENGTH);
    const std::vector<uint8_t> saved = Save(first.get());
    REQUIRE_OK(dsopt_stream_load(second.get(), saved.data(), saved.size()));
    const Output continued = Generate(handle, first.get(), 8);
    CHECK(continued.tokens.size() == 8);
    CHECK(Generate(handle, second.get(), 8).tokens == continued.tokens);
  }
}

TEST_CASE("statistics count tokens, pages and memory", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get(), 2, 640);
  StreamPtr stream = NewStream(session.get(), std::string(99, 's'));
  Generate(session.get(), stream.get(), 11);
  auto stats = Sized<dsopt_session_stats>();
  REQUIRE_OK(dsopt_session_get_stats(session.get(), &stats));
  CHECK(stats.kv_tokens_total == 640);
  CHECK(stats.kv_tokens_used == 128);
  CHECK(stats.prefill_tokens == 100);
  CHECK(stats.decode_tokens == 10);
  CHECK(stats.batches >= 11);
  CHECK(stats.device_bytes > 0);
  stream.reset();
  REQUIRE_OK(dsopt_session_get_stats(session.get(), &stats));
  CHECK(stats.kv_tokens_used == 0);
  REQUIRE_OK(dsopt_session_trim(session.get()));
}

}  // namespace
}  // namespace dsopt::testing
