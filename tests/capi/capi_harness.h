// capi_harness.h - a tiny model behind the C API and short ways to drive it. Includes no internal header of the
// runtime: what the tests see is what a host sees.
#ifndef DSOPT_TESTS_CAPI_CAPI_HARNESS_H_
#define DSOPT_TESTS_CAPI_CAPI_HARNESS_H_

#include <catch2/catch.hpp>
#include <map>
#include <mutex>
#include <memory>
#include <string>
#include <vector>

#include "dsopt/dsopt.h"
#include "tests/tiny_model.h"

namespace dsopt::testing {

struct ReleaseHandle {
  void operator()(dsopt_runtime* h) const { dsopt_runtime_release(h); }
  void operator()(dsopt_model* h) const { dsopt_model_release(h); }
  void operator()(dsopt_session* h) const { dsopt_session_release(h); }
  void operator()(dsopt_stream* h) const { dsopt_stream_release(h); }
};
using RuntimePtr = std::unique_ptr<dsopt_runtime, ReleaseHandle>;
using ModelPtr = std::unique_ptr<dsopt_model, ReleaseHandle>;
using SessionPtr = std::unique_ptr<dsopt_session, ReleaseHandle>;
using StreamPtr = std::unique_ptr<dsopt_stream, ReleaseHandle>;

template <typename T>
T Sized() {
  T value = {};
  value.struct_size = sizeof value;
  return value;
}

// Fails the test with the library's message.
#define REQUIRE_OK(call)                        \
  do {                                          \
    const dsopt_status status_of_call = (call); \
    INFO(dsopt_last_error());                   \
    REQUIRE(status_of_call == DSOPT_OK);        \
  } while (0)

// The call fails with this code and says why.
#define CHECK_FAILS(code_expected, call)          \
  do {                                            \
    const dsopt_status status_of_call = (call);   \
    INFO(dsopt_last_error());                     \
    CHECK(status_of_call == (code_expected));     \
    CHECK(std::string(dsopt_last_error()) != ""); \
  } while (0)

// [thread-safe]
inline const std::vector<uint8_t>& ModelBytes(TinyFamily family = TinyFamily::kLlama) {
  static std::mutex mutex;
  static std::map<TinyFamily, std::vector<uint8_t>> cache;
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<uint8_t>& bytes = cache[family];
  if (bytes.empty()) {
    TinyOptions options;
    options.family = family;
    bytes = TinyModelBytes(options);
  }
  return bytes;
}

inline RuntimePtr NewRuntime(uint32_t threads = 1) {
  auto options = Sized<dsopt_runtime_options>();
  options.cpu_threads = threads;
  options.disable_backend_scan = 1;
  dsopt_runtime* runtime = nullptr;
  REQUIRE_OK(dsopt_runtime_create(&options, &runtime));
  return RuntimePtr(runtime);
}

inline ModelPtr OpenModel(dsopt_runtime* runtime, const std::vector<uint8_t>& bytes = ModelBytes(),
                          uint32_t flags = 0) {
  auto options = Sized<dsopt_model_options>();
  options.device = "cpu";
  options.flags = flags;
  dsopt_model* model = nullptr;
  REQUIRE_OK(dsopt_model_open_memory(runtime, bytes.data(), bytes.size(), &options, &model));
  return ModelPtr(model);
}

inline SessionPtr NewSession(dsopt_model* model, uint32_t max_streams = 1, uint32_t max_tokens = 0,
                             uint32_t prefill_chunk = 0) {
  auto options = Sized<dsopt_session_options>();
  options.max_streams = max_streams;
  options.max_tokens = max_tokens;
  options.prefill_chunk = prefill_chunk;
  dsopt_session* session = nullptr;
  REQUIRE_OK(dsopt_session_create(model, &options, &session));
  return SessionPtr(session);
}

inline StreamPtr NewStream(dsopt_session* session, const std::string& prompt = "") {
  dsopt_stream* stream = nullptr;
  REQUIRE_OK(dsopt_stream_create(session, &stream));
  if (!prompt.empty()) {
    REQUIRE_OK(dsopt_stream_append_text(stream, prompt.data(), prompt.size(), DSOPT_TOKENIZE_ADD_BOS));
  }
  return StreamPtr(stream);
}

inline dsopt_generate_options Options(uint32_t max_tokens) {
  auto options = Sized<dsopt_generate_options>();
  options.max_tokens = max_tokens;
  options.flags = DSOPT_GENERATE_IGNORE_EOS;
  return options;
}

// Everything a generation produced.
struct Output {
  std::string text;
  std::vector<dsopt_token> tokens;
  std::vector<std::string> pieces;
  dsopt_finish finish = DSOPT_FINISH_NONE;
  int32_t status = DSOPT_OK;
};

// Reads all events of a stream; polls with budget_us while there are none.
inline Output ReadAll(dsopt_session* session, dsopt_stream* stream, uint64_t budget_us = 100000) {
  Output output;
  for (int idle = 0; idle < 200000 && output.finish == DSOPT_FINISH_NONE;) {
    auto event = Sized<dsopt_event>();
    const dsopt_status status = dsopt_stream_read(stream, &event);
    REQUIRE(status >= 0);
    if (status == DSOPT_PENDING) {
      REQUIRE(dsopt_session_poll(session, budget_us, nullptr) >= 0);
      ++idle;
      continue;
    }
    output.text.append(event.text, event.text_len);
    output.tokens.insert(output.tokens.end(), event.tokens, event.tokens + event.token_count);
    if (event.text_len > 0) output.pieces.emplace_back(event.text, event.text_len);
    output.finish = event.finish;
    output.status = event.status;
  }
  REQUIRE(output.finish != DSOPT_FINISH_NONE);
  return output;
}

inline Output Generate(dsopt_session* session, dsopt_stream* stream, const dsopt_generate_options& options,
                       uint64_t budget_us = 100000) {
  REQUIRE_OK(dsopt_stream_generate(stream, &options));
  return ReadAll(session, stream, budget_us);
}
inline Output Generate(dsopt_session* session, dsopt_stream* stream, uint32_t max_tokens) {
  return Generate(session, stream, Options(max_tokens));
}

inline std::vector<uint8_t> Save(dsopt_stream* stream) {
  size_t bytes = 0;
  CHECK(dsopt_stream_save(stream, nullptr, 0, &bytes) == DSOPT_E_BUFFER_TOO_SMALL);
  std::vector<uint8_t> buffer(bytes);
  REQUIRE_OK(dsopt_stream_save(stream, buffer.data(), buffer.size(), &bytes));
  return buffer;
}

// Bans every token for which keep is false.
template <typename Keep>
std::vector<dsopt_logit_bias> BanUnless(Keep keep) {
  std::vector<dsopt_logit_bias> bias;
  for (int32_t token = 0; token < static_cast<int32_t>(kTinyVocab); ++token) {
    if (!keep(token)) bias.push_back({token, -__builtin_inff()});
  }
  return bias;
}
inline std::vector<dsopt_logit_bias> OnlyLetters() {
  return BanUnless([](int32_t token) { return token >= 'a' && token <= 'h'; });
}

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_CAPI_CAPI_HARNESS_H_
