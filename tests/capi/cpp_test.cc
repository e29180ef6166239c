// dsopt.hpp: what it adds to the C API.
#include <catch2/catch.hpp>

#include "dsopt/dsopt.hpp"
#include "tests/tiny_model.h"

namespace {

const std::vector<uint8_t>& Bytes() {
  static const std::vector<uint8_t> bytes = dsopt::testing::TinyModelBytes();
  return bytes;
}

dsopt_runtime_options OneThread() {
  dsopt_runtime_options options = {};
  options.cpu_threads = 1;
  options.disable_backend_scan = 1;
  return options;
}

dsopt_session_options TwoStreams() {
  dsopt_session_options options = {};
  options.max_streams = 2;
  return options;
}

struct Fixture {
  dsopt::Runtime runtime{OneThread()};
  dsopt::Model model{runtime, std::as_bytes(std::span(Bytes()))};
  dsopt::Session session{model, TwoStreams()};
};

TEST_CASE("pieces are the text of a generation", "[cpp]") {
  Fixture f;
  dsopt::Stream stream = f.session.NewStream();
  stream.Append("Once upon a time", DSOPT_TOKENIZE_ADD_BOS);
  std::vector<dsopt_logit_bias> bias;
  for (int32_t token = 0; token < 272; ++token) {
    if (token < 'a' || token > 'z') bias.push_back({token, -__builtin_inff()});
  }
  stream.Generate({.max_tokens = 20, .bias = bias});
  std::string text;
  for (std::string_view piece : stream.Pieces()) text += piece;
  CHECK(text.size() == 20);
  CHECK(stream.finish() == DSOPT_FINISH_LENGTH);
  CHECK(f.model.Detokenize(stream.Tokens(17)) == text);
  CHECK(stream.Logprobs().size() == stream.TokenCount());
  CHECK(stream.Logits().size() == f.model.Info().vocab_size);
}

TEST_CASE("pieces of one stream come while another has events that nobody reads", "[cpp]") {
  Fixture f;
  dsopt::Stream quiet = f.session.NewStream(), stream = f.session.NewStream();
  quiet.Append("unread");
  stream.Append("read");
  quiet.Generate({.max_tokens = 5, .flags = DSOPT_GENERATE_IGNORE_EOS});
  stream.Generate({.max_tokens = 50, .flags = DSOPT_GENERATE_IGNORE_EOS});
  for (std::string_view piece : stream.Pieces()) CHECK(!piece.empty());
  CHECK(stream.TokenCount() == 54);
  for (std::string_view piece : stream.Pieces()) FAIL("no generation: " << piece);
  CHECK(quiet.Read());
}

TEST_CASE("a failed call throws its code and message", "[cpp]") {
  Fixture f;
  dsopt::Stream stream = f.session.NewStream();
  try {
    stream.Generate();
    FAIL("no exception");
  } catch (const dsopt::Error& error) {
    CHECK(error.code() == DSOPT_E_INVALID_STATE);
    CHECK(std::string(error.what()).find("DSOPT_E_INVALID_STATE: generate") == 0);
  }
  CHECK(!f.model.Metadata("absent"));
  CHECK(f.model.Metadata("license") == "none: random numbers");
}

TEST_CASE("an exception of a callback cancels the stream and comes out of the poll", "[cpp]") {
  Fixture f;
  dsopt::Stream stream = f.session.NewStream();
  stream.Append("abc");
  int events = 0;
  stream.Generate({.max_tokens = 50, .on_event = [&](const dsopt_event&) -> bool {
                     if (++events == 3) throw std::runtime_error("of the host");
                     return true;
                   }});
  const auto poll_to_end = [&] {
    while (!f.session.Poll(std::chrono::milliseconds(5)).finished) {
    }
  };
  CHECK_THROWS_WITH(poll_to_end(), "of the host");
  CHECK_NOTHROW(poll_to_end());
  CHECK(stream.TokenCount() < 53);
}

TEST_CASE("objects outlive their parents' handles, fork and save", "[cpp]") {
  std::optional<dsopt::Stream> stream;
  std::vector<dsopt_token> expected;
  {
    Fixture f;
    stream.emplace(f.session.NewStream());
    stream->Append("long live");
    dsopt::Stream fork = stream->Fork();
    fork.Generate({.max_tokens = 10, .flags = DSOPT_GENERATE_IGNORE_EOS});
    while (f.session.Wait(std::chrono::seconds(1)) == dsopt::WaitResult::kEvent && fork.Read()) {
    }
    expected = fork.Tokens();
    dsopt::Stream loaded = f.session.NewStream();
    loaded.Load(fork.Save());
    CHECK(loaded.Tokens() == expected);
  }
  stream->Generate({.max_tokens = 10, .flags = DSOPT_GENERATE_IGNORE_EOS});
  for (std::string_view piece : stream->Pieces()) (void)piece;
  CHECK(stream->Tokens() == expected);
}

}  // namespace
