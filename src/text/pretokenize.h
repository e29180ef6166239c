// pretokenize.h - cuts text into the pieces that merges do not cross. Each named pre-tokenizer is the published
// regular expression of its family, written by hand as matchers: no regular expression engine.
#ifndef DSOPT_TEXT_PRETOKENIZE_H_
#define DSOPT_TEXT_PRETOKENIZE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "spec/tokenizer_spec.h"

namespace dsopt {

bool IsKnownPreTokenizer(PreTokenizer kind);

// *ends receives the end offset of each piece, in order; the pieces cover the text. text is valid UTF-8 of less
// than 4 GiB. Linear in the length of the text.
void PreTokenize(PreTokenizer kind, std::string_view text, std::vector<uint32_t>* ends);

// The expression of kDeepseekLlm's split into words, as tokenizer.json files spell it: for importers.
std::string DeepseekLetterPattern();

}  // namespace dsopt
#endif  // DSOPT_TEXT_PRETOKENIZE_H_
