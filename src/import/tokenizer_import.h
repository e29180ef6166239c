// tokenizer_import.h - reads the tokenizers of published checkpoints into a TokenizerSpec. Every reader takes
// hostile bytes: it answers DSOPT_E_CORRUPT for malformed input and DSOPT_E_UNSUPPORTED, naming the thing, for
// what text/ cannot execute exactly. Not for: running a tokenizer.
#ifndef DSOPT_IMPORT_TOKENIZER_IMPORT_H_
#define DSOPT_IMPORT_TOKENIZER_IMPORT_H_

#include <filesystem>
#include <string>
#include <string_view>

#include "base/status.h"
#include "spec/tokenizer_spec.h"

namespace dsopt {

struct GgufHeader;

// tokenizer.json of Hugging Face's tokenizers. The other two may be empty: tokenizer_config.json (bos, eos,
// ...) and generation_config.json (all end tokens).
Result<TokenizerSpec> ImportTokenizerJson(std::string_view json, std::string_view tokenizer_config,
                                          std::string_view generation_config);

// tokenizer.model of sentencepiece (a serialised ModelProto): BPE and unigram.
Result<TokenizerSpec> ImportSentencePiece(std::string_view bytes);

// Lines of base64 piece and rank. family: "llama3", whose special tokens and pre-tokenizer are not in the file.
Result<TokenizerSpec> ImportTiktoken(std::string_view bytes, std::string_view family);

// The vocabulary in the metadata of a GGUF file: tokenizer.ggml.model "llama" or "gpt2".
Result<TokenizerSpec> ImportGgufVocab(const GgufHeader& header);
// tokenizer.chat_template of the same; DSOPT_E_NOT_FOUND if there is none.
Result<std::string> ImportGgufChatTemplate(const GgufHeader& header);

// A checkpoint folder: tokenizer.json, else tokenizer.model; with tokenizer_config.json,
// special_tokens_map.json and generation_config.json where present. DSOPT_E_NOT_FOUND if it has no tokenizer.
Result<TokenizerSpec> ImportTokenizer(const std::filesystem::path& folder);
// chat_template.jinja, else "chat_template" of tokenizer_config.json. DSOPT_E_NOT_FOUND if neither is there.
Result<std::string> ImportChatTemplate(const std::filesystem::path& folder);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_TOKENIZER_IMPORT_H_
