// added_tokens.h - finds added tokens ("<|eot|>") in text, leftmost and longest first. Not for: merging.
#ifndef DSOPT_TEXT_ADDED_TOKENS_H_
#define DSOPT_TEXT_ADDED_TOKENS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "spec/tokenizer_spec.h"
#include "text/byte_trie.h"

namespace dsopt {

// A stretch of text that is one added token (token >= 0) or ordinary text (token < 0).
struct Section {
  std::string_view text;
  int32_t token = -1;
};

// [thread-compatible]; concurrent Split is fine. Keeps pointers into the spec.
class AddedTokenMatcher {
 public:
  // Takes the added tokens whose `normalized` equals the argument; those are matched as Normalize() leaves
  // them.
  Status Init(const TokenizerSpec& spec, bool normalized);
  // Appends the sections of text, none of them empty. Control tokens match only with parse_special.
  void Split(std::string_view text, bool parse_special, std::vector<Section>* sections) const;
  bool empty(bool parse_special) const { return parse_special ? all_.empty() : plain_.empty(); }

 private:
  const AddedToken* Longest(const ByteTrie& trie, std::string_view text, size_t pos, size_t* length) const;

  const TokenizerSpec* spec_ = nullptr;
  ByteTrie all_, plain_;  // values: index into spec.added
};

}  // namespace dsopt
#endif  // DSOPT_TEXT_ADDED_TOKENS_H_
