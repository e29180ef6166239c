// helpers.h - what the tests of text/ share: test data, tokenizers by folder, id lists.
#ifndef DSOPT_TESTS_UNIT_TEXT_HELPERS_H_
#define DSOPT_TESTS_UNIT_TEXT_HELPERS_H_

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace dsopt {

using Ids = std::vector<int32_t>;

// The shared test data, or nothing: then it has said that the test is skipped.
std::optional<std::filesystem::path> DataFolder();
std::string ReadFile(const std::filesystem::path& path);
std::vector<std::string> Lines(const std::string& text);

// Fails the test when the tokenizer cannot be made.
std::unique_ptr<const Tokenizer> MakeTokenizer(Result<TokenizerSpec> spec);
std::unique_ptr<const Tokenizer> GgufTokenizer(const std::filesystem::path& path);

Ids Encode(const Tokenizer& tokenizer, std::string_view text, uint32_t flags = 0);
std::string Decode(const Tokenizer& tokenizer, const Ids& ids, uint32_t flags = 0);

}  // namespace dsopt
#endif  // DSOPT_TESTS_UNIT_TEXT_HELPERS_H_
