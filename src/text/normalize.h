// normalize.h - what a tokenizer does to text before cutting it: Unicode forms, replacements, spaces.
#ifndef DSOPT_TEXT_NORMALIZE_H_
#define DSOPT_TEXT_NORMALIZE_H_

#include <string>
#include <string_view>

#include "base/status.h"
#include "spec/tokenizer_spec.h"

namespace dsopt {

inline constexpr std::string_view kEscapedSpace = "\xE2\x96\x81";  // U+2581

// True if Normalize and AddMetaspacePrefix can change nothing for any text.
bool IsIdentityNormalizer(const TokenizerSpec& spec);

// text is valid UTF-8. `first`: the section is the start of the whole text. O(n log n).
Result<std::string> Normalize(const TokenizerSpec& spec, std::string_view text, bool first);

// The dummy prefix of spec.prefix_unless_space: it comes after normalized added tokens were cut out.
void AddMetaspacePrefix(const TokenizerSpec& spec, bool first, std::string* text);

}  // namespace dsopt
#endif  // DSOPT_TEXT_NORMALIZE_H_
