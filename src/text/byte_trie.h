// byte_trie.h - longest match of a set of byte strings at a position. Built once, then only read.
#ifndef DSOPT_TEXT_BYTE_TRIE_H_
#define DSOPT_TEXT_BYTE_TRIE_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/flat_map.h"

namespace dsopt {

// [thread-compatible]; concurrent reads are fine.
class ByteTrie {
 public:
  // The first value of equal keys stays. Empty keys are ignored.
  void Insert(std::string_view key, uint32_t value) {
    if (key.empty()) return;
    first_[static_cast<unsigned char>(key[0])] = true;
    uint32_t node = 0;
    for (const char c : key) {
      const uint64_t edge = uint64_t{node} << 8 | static_cast<unsigned char>(c);
      const uint32_t* child = edges_.Find(edge);
      if (child == nullptr) {
        values_.push_back(-1);
        node = static_cast<uint32_t>(values_.size() - 1);
        edges_.Insert(edge, node);
      } else {
        node = *child;
      }
    }
    if (values_[node] < 0) values_[node] = value;
  }
  bool empty() const { return values_.size() == 1; }
  bool CanStart(char c) const { return first_[static_cast<unsigned char>(c)]; }

  // Calls visit(length, value) for every key that text starts with at pos, shortest first.
  template <typename Visit>
  void Match(std::string_view text, size_t pos, Visit visit) const {
    uint32_t node = 0;
    for (size_t i = pos; i < text.size(); ++i) {
      const uint32_t* child = edges_.Find(uint64_t{node} << 8 | static_cast<unsigned char>(text[i]));
      if (child == nullptr) return;
      node = *child;
      if (values_[node] >= 0) visit(i + 1 - pos, static_cast<uint32_t>(values_[node]));
    }
  }

 private:
  FlatMap<uint32_t> edges_;
  std::vector<int64_t> values_ = {-1};  // by node; the root has none
  std::array<bool, 256> first_{};
};

}  // namespace dsopt
#endif  // DSOPT_TEXT_BYTE_TRIE_H_
