// session_harness.h - a tiny model on the fake device, and short ways to drive a session.
#ifndef DSOPT_TESTS_UNIT_RUNTIME_SESSION_HARNESS_H_
#define DSOPT_TESTS_UNIT_RUNTIME_SESSION_HARNESS_H_

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "runtime/session.h"
#include "tests/tiny_model.h"
#include "tests/unit/runtime/fake_backend.h"

namespace dsopt::testing {

// Resets the fake, then opens runtime, model and session. Checks the fake's rules at the end.
struct Harness {
  explicit Harness(SessionOptions options = {}, FakeDevice fake = {}) {
    g_fake = std::move(fake);
    static const std::vector<uint8_t> bytes = TinyModelBytes();
    BackendOptions backend = {};
    backend.allocator = DefaultAllocator();
    backend.scan = false;
    auto runtime = Runtime::Create(backend);
    REQUIRE(runtime.ok());
    auto opened = LoadedModel::Open(*runtime, MakeMemorySource(bytes), OpenOptions());
    INFO(std::string(opened.status().message()));
    REQUIRE(opened.ok());
    model = *opened;
    auto created = Session::Create(model, options);
    INFO(std::string(created.status().message()));
    REQUIRE(created.ok());
    session = *created;
  }
  ~Harness() { CHECK(g_fake.violations == std::vector<std::string>()); }

  // The session keeps its streams; tests use plain pointers.
  Stream* NewStream(const std::vector<dsopt_token>& prompt = {}) {
    auto stream = session->CreateStream();
    REQUIRE(stream.ok());
    if (!prompt.empty()) REQUIRE((*stream)->AppendTokens(prompt).ok());
    return stream->get();
  }
  Status Generate(Stream* stream, uint32_t max_tokens, Generation generation = {}) {
    generation.max_tokens = max_tokens;
    generation.ignore_eos = true;
    return session->Generate(stream, std::move(generation));
  }
  // Polls until nothing generates.
  void Finish() {
    for (int i = 0; i < 100000; ++i) {
      if (session->Poll(1000).active_streams == 0) return;
    }
    FAIL("the session does not come to an end");
  }

  std::shared_ptr<LoadedModel> model;
  std::shared_ptr<Session> session;
};

inline std::vector<dsopt_token> Tokens(const Stream& stream) {
  return {stream.tokens().begin(), stream.tokens().end()};
}

// A prompt of `count` tokens that depends on `seed`.
inline std::vector<dsopt_token> Prompt(uint32_t count, uint32_t seed = 0) {
  std::vector<dsopt_token> tokens;
  for (uint32_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<dsopt_token>((i * 31 + seed * 7 + 3) % 256));
  return tokens;
}

// Every token from `first` on is the one the fake model gives for the tokens before it.
inline void CheckTokens(const Stream& stream, size_t first) {
  const std::vector<dsopt_token> tokens = Tokens(stream);
  for (size_t i = first; i < tokens.size(); ++i) {
    CAPTURE(i, first, tokens.size());
    REQUIRE(tokens[i] == FakeNextToken({tokens.data(), i}, kTinyVocab));
  }
}

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_UNIT_RUNTIME_SESSION_HARNESS_H_
