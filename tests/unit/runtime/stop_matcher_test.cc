#include "runtime/stop_matcher.h"

#include <catch2/catch.hpp>

namespace dsopt {
namespace {

// Text and result of feeding `text` in pieces of `step` bytes.
struct Outcome {
  std::string text;
  bool stopped = false;
};
Outcome Feed(const std::vector<std::string>& stops, std::string_view text, size_t step) {
  StopMatcher matcher(stops, 64);
  Outcome outcome;
  while (!text.empty() && !outcome.stopped) {
    const std::string_view piece = text.substr(0, step);
    text.remove_prefix(piece.size());
    outcome.stopped = matcher.Append(piece, &outcome.text);
  }
  if (!outcome.stopped) matcher.Flush(&outcome.text);
  return outcome;
}

// The definition: the stop string whose end comes first, the longest of those.
Outcome Reference(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

TEST_CASE("a stop string across pieces ends the text before it", "[stop]") {
  for (size_t step : {1u, 2u, 3u, 100u}) {
    CAPTURE(step);
    const Outcome outcome = Feed({"\nUser:"}, "hello\nUser: hi", step);
    CHECK(outcome.stopped);
    CHECK(outcome.text == "hello");
  }
}

TEST_CASE("text that only looks like the beginning of a stop string comes out", "[stop]") {
  StopMatcher matcher(std::vector<std::string>{"abcd"}, 16);
  std::string out;
  CHECK(!matcher.Append("xab", &out));
  CHECK(out == "x");
  CHECK(!matcher.Append("c", &out));
  CHECK(out == "x");
  CHECK(!matcher.Append("e", &out));
  CHECK(out == "xabce");
  CHECK(!matcher.Append("ab", &out));
  matcher.Flush(&out);
  CHECK(out == "xabceab");
}

TEST_CASE("stop strings with borders match as the definition says for all short texts", "[stop]") {
  const std::vector<std::vector<std::string>> sets = {
      {"aab"}, {"abab", "ba"}, {"aa", "aaa"}, {"abc", "bcd", "c"}, {"aaab", "ab"}, {"b", "abb"}};
  for (const auto& stops : sets) {
    for (uint32_t code = 0; code < 4096; ++code) {  // all texts of six letters of {a, b, c, d}
      std::string text;
      for (uint32_t i = 0; i < 6; ++i) text += static_cast<char>('a' + (code >> (2 * i) & 3));
      const Outcome expected = Reference(stops, text);
      for (size_t step : {1u, 2u, 6u}) {
        const Outcome outcome = Feed(stops, text, step);
        if (outcome.text != expected.text || outcome.stopped != expected.stopped) {
          CAPTURE(stops, text, step, outcome.text, expected.text);
          FAIL("differs from the definition");
        }
      }
    }
  }
}

TEST_CASE("without stop strings text passes through", "[stop]") {
  const Outcome outcome = Feed({}, "anything", 3);
  CHECK(outcome.text == "anything");
  CHECK(!outcome.stopped);
}

}  // namespace
}  // namespace dsopt
