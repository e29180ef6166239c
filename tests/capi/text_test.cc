// Text of events: stop strings across token borders, whole characters, first spaces.
#include "tests/capi/capi_harness.h"

namespace dsopt::testing {
namespace {

bool IsUtf8(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const size_t length = byte < 0x80 ? 1 : byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t j = 1; j < length; ++j) {
      if ((static_cast<unsigned char>(text[i + j]) & 0xC0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

struct Fixture {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  std::vector<dsopt_logit_bias> bias = OnlyLetters();
  dsopt_sampling sampling = Sized<dsopt_sampling>();

  Output Run(std::vector<const char*> stops, uint32_t max_tokens = 60, uint64_t budget_us = 100000) {
    StreamPtr stream = NewStream(session.get(), "Letters");
    auto options = Options(max_tokens);
    sampling.temperature = 5;  // varied
    sampling.seed = 99;
    options.sampling = &sampling;
    options.bias = bias.data();
    options.bias_count = bias.size();
    options.stop = stops.data();
    options.stop_count = stops.size();
    return Generate(session.get(), stream.get(), options, budget_us);
  }
};

TEST_CASE("a stop string that spans tokens ends the text before it", "[capi]") {
  Fixture f;
  const std::string text = f.Run({}).text;
  REQUIRE(text.size() == 60);
  for (size_t first : {0u, 1u, 20u, 41u}) {
    for (size_t length : {1u, 2u, 7u}) {
      const std::string stop = text.substr(first, length);
      const size_t found = text.find(stop);  // it may come earlier
      CAPTURE(text, stop);
      const Output output = f.Run({"not there", stop.c_str()});
      CHECK(output.finish == DSOPT_FINISH_STOP);
      CHECK(output.text == text.substr(0, found));
      CHECK(output.tokens.size() == found + length);
    }
  }
}

TEST_CASE("text that could begin a stop string is held back and comes out at the end", "[capi]") {
  Fixture f;
  const std::string text = f.Run({}).text;
  const std::string longer = text.substr(50) + "zzz";  // begins at the end, never completes
  const Output output = f.Run({longer.c_str()}, 60, 1);
  CHECK(output.finish == DSOPT_FINISH_LENGTH);
  CHECK(output.text == text);
  REQUIRE(!output.pieces.empty());
  CHECK(output.pieces.back().size() >= 10);  // what was held back came in one piece
}

TEST_CASE("events hold whole characters, and what is no character becomes U+FFFD", "[capi]") {
  Fixture f;
  f.bias = BanUnless([](int32_t token) {
    return token == 'a' || token == 0xC3 || token == 0xA9 || token == 0xE2 || token == 0x82 || token == 0xAC;
  });
  const Output output = f.Run({}, 200, 1);
  REQUIRE(output.tokens.size() == 200);
  for (const std::string& piece : output.pieces) {
    CAPTURE(piece);
    CHECK(IsUtf8(piece));
  }
  std::string joined;
  for (const std::string& piece : output.pieces) joined += piece;
  CHECK(joined == output.text);
  CHECK(output.text.find("\xEF\xBF\xBD") != std::string::npos);
  CHECK(output.text.find("\xC3\xA9") != std::string::npos);
  // bytes that are characters survive as they are
  size_t letters = 0, letters_out = 0;
  for (dsopt_token token : output.tokens) letters += token == 'a' ? 1 : 0;
  for (char c : output.text) letters_out += c == 'a' ? 1 : 0;
  CHECK(letters == letters_out);
}

TEST_CASE("half a character at the end of a generation becomes U+FFFD", "[capi]") {
  Fixture f;
  f.bias = BanUnless([](int32_t token) { return token == 0xC3; });
  CHECK(f.Run({}, 1).text == "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace dsopt::testing
