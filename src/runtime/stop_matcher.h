// stop_matcher.h - finds stop strings in text that arrives in pieces. Text that may be the beginning of a stop
// string is held back until that is decided; a stop string itself never comes out.
#ifndef DSOPT_RUNTIME_STOP_MATCHER_H_
#define DSOPT_RUNTIME_STOP_MATCHER_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dsopt {

// One Knuth-Morris-Pratt automaton per stop string: time is bytes x strings, whatever the text.
// [thread-compatible]
class StopMatcher {
 public:
  StopMatcher() = default;
  // Empty strings are ignored. piece_bytes: the longest text that Append will bring; it then never allocates.
  StopMatcher(std::span<const std::string> stops, size_t piece_bytes);

  // Appends to *out what is decided. True: a stop string is complete; *out received the text before the one
  // that ended first (the longest of those that end at the same byte), and what follows it is discarded.
  bool Append(std::string_view text, std::string* out);
  // End of text: what was held back is text after all.
  void Flush(std::string* out);
  size_t held_bytes() const { return held_.size(); }

 private:
  struct Pattern {
    std::string text;
    std::vector<uint32_t> fallback;  // longest proper border of each prefix
    uint32_t matched = 0;
  };
  static void Step(Pattern* pattern, char c);

  std::vector<Pattern> patterns_;
  std::string held_;
};

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_STOP_MATCHER_H_
