// tokenizer.h - text <-> tokens, exactly as the checkpoint's own tokenizer does it. No tensors, no files.
#ifndef DSOPT_TEXT_TOKENIZER_H_
#define DSOPT_TEXT_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "spec/tokenizer_spec.h"

namespace dsopt {

// Immutable after Create. [thread-safe]
class Tokenizer {
 public:
  // Checks the spec (ids in range, sizes consistent) and builds the lookup tables.
  static Result<std::unique_ptr<const Tokenizer>> Create(TokenizerSpec spec);
  virtual ~Tokenizer() = default;

  // Appends the tokens of text to *tokens. flags: DSOPT_TOKENIZE_*. text must be valid UTF-8
  // (DSOPT_E_INVALID_ARGUMENT names the byte offset). Time is O(n log n) in the text's length for any input.
  virtual Status Encode(std::string_view text, uint32_t flags, std::vector<int32_t>* tokens) const = 0;

  // The bytes that a token contributes to running text; for the very first token of a text, `first` drops the
  // dummy prefix space. Valid as long as the tokenizer. Empty for an id out of range.
  virtual std::string_view TokenBytes(int32_t token, bool first = false) const = 0;
  // Appends the bytes of all tokens; the first one is the start of a text. flags: DSOPT_DETOKENIZE_*.
  virtual Status Decode(std::span<const int32_t> tokens, uint32_t flags, std::string* out) const = 0;

  virtual bool IsControl(int32_t token) const = 0;     // a special token: not part of the text
  virtual bool IsEnd(int32_t token) const = 0;         // ends a generation
  virtual uint32_t vocab_size() const = 0;             // pieces, including added tokens
  virtual const TokenizerSpec& spec() const = 0;
};

}  // namespace dsopt
#endif  // DSOPT_TEXT_TOKENIZER_H_
