// tokenizer_json_fuzz.cc - any bytes as tokenizer.json, and as a GGUF file, a rank file. What imports is made
// into a tokenizer, and what that encodes must decode.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "format/source.h"
#include "import/gguf_reader.h"
#include "import/tokenizer_import.h"
#include "text/tokenizer.h"

namespace {

void Use(dsopt::Result<dsopt::TokenizerSpec> spec) {
  if (!spec.ok()) {
    if (spec.status().message().empty()) std::abort();
    return;
  }
  auto tokenizer = dsopt::Tokenizer::Create(*std::move(spec));
  if (!tokenizer.ok()) return;
  for (const std::string_view text : {"Hello  world's 123 <s>\n",
                                      "\xC3\xA9\xE4\xB8\xAD \xE2\x96\x81"
                                      "aab",
                                      ""}) {
    std::vector<int32_t> tokens;
    std::string back;
    if (!(*tokenizer)->Encode(text, DSOPT_TOKENIZE_ADD_BOS | DSOPT_TOKENIZE_PARSE_SPECIAL, &tokens).ok())
      std::abort();
    if (!(*tokenizer)->Decode(tokens, 0, &back).ok()) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 1 << 20) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with("GGUF")) {
    const auto source = dsopt::MakeMemorySource({data, size});
    const dsopt::Result<dsopt::GgufHeader> header = dsopt::ReadGgufHeader(*source, false);
    if (!header.ok()) return 0;
    Use(dsopt::ImportGgufVocab(*header));
    (void)dsopt::ImportGgufChatTemplate(*header).ok();
  } else if (text.starts_with("{")) {
    Use(dsopt::ImportTokenizerJson(text, "", ""));
    (void)dsopt::ImportTokenizerJson(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})", text, text)
        .ok();
  } else {
    Use(dsopt::ImportTiktoken(text, "llama3"));
  }
  return 0;
}
