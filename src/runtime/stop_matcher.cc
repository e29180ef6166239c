#include "runtime/stop_matcher.h"

#include <algorithm>

namespace dsopt {

StopMatcher::StopMatcher(std::span<const std::string> stops, size_t piece_bytes) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    if (stop.empty()) continue;
    Pattern pattern;
    pattern.text = stop;
    pattern.fallback.assign(stop.size(), 0);
    for (size_t i = 1, border = 0; i < stop.size(); ++i) {
      while (border > 0 && stop[i] != stop[border]) border = pattern.fallback[border - 1];
      if (stop[i] == stop[border]) ++border;
      pattern.fallback[i] = static_cast<uint32_t>(border);
    }
    longest = std::max(longest, stop.size());
    patterns_.push_back(std::move(pattern));
  }
  held_.reserve(longest + piece_bytes);
}

void StopMatcher::Step(Pattern* pattern, char c) {
  uint32_t& matched = pattern->matched;
  while (matched > 0 && pattern->text[matched] != c) matched = pattern->fallback[matched - 1];
  if (pattern->text[matched] == c) ++matched;
}

bool StopMatcher::Append(std::string_view text, std::string* out) {
  if (patterns_.empty()) {
    out->append(text);
    return false;
  }
  for (char c : text) {
    held_.push_back(c);
    size_t complete = 0;
    for (Pattern& pattern : patterns_) {
      Step(&pattern, c);
      if (pattern.matched == pattern.text.size()) complete = std::max(complete, pattern.text.size());
    }
    if (complete > 0) {
      out->append(held_, 0, held_.size() - complete);
      held_.clear();
      return true;
    }
  }
  size_t undecided = 0;
  for (const Pattern& pattern : patterns_) undecided = std::max<size_t>(undecided, pattern.matched);
  const size_t decided = held_.size() - undecided;
  out->append(held_, 0, decided);
  held_.erase(0, decided);
  return false;
}

void StopMatcher::Flush(std::string* out) {
  out->append(held_);
  held_.clear();
  for (Pattern& pattern : patterns_) pattern.matched = 0;
}

}  // namespace dsopt
