// sentencepiece_fuzz.cc - any bytes as a sentencepiece model; what imports must encode and decode.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "import/tokenizer_import.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 1 << 20) return 0;
  auto spec = dsopt::ImportSentencePiece({reinterpret_cast<const char*>(data), size});
  if (!spec.ok()) {
    if (spec.status().message().empty()) std::abort();
    return 0;
  }
  auto tokenizer = dsopt::Tokenizer::Create(*std::move(spec));
  if (!tokenizer.ok()) return 0;
  for (const std::string_view text : {"Once upon a  time, </s> ",
                                      "\xC3\xA9\xE4\xB8\xAD \xE2\x96\x81"
                                      "aab\n"}) {
    std::vector<int32_t> tokens;
    std::string back;
    if (!(*tokenizer)->Encode(text, DSOPT_TOKENIZE_ADD_BOS | DSOPT_TOKENIZE_PARSE_SPECIAL, &tokens).ok())
      std::abort();
    if (!(*tokenizer)->Decode(tokens, DSOPT_DETOKENIZE_SKIP_SPECIAL, &back).ok()) std::abort();
  }
  return 0;
}
