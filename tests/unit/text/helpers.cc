#include "tests/unit/text/helpers.h"

#include <catch2/catch.hpp>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "format/source.h"
#include "import/gguf_reader.h"
#include "import/tokenizer_import.h"

namespace dsopt {

std::optional<std::filesystem::path> DataFolder() {
  const std::filesystem::path folder = std::filesystem::path(DSOPT_SOURCE_DIR) / ".." / "shared" / "data";
  if (std::filesystem::is_directory(folder)) return folder;
  std::printf("skipped: ../shared/data is absent\n");
  return std::nullopt;
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in.is_open()) FAIL("cannot open " << path);
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> out;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

std::unique_ptr<const Tokenizer> MakeTokenizer(Result<TokenizerSpec> spec) {
  INFO("import: " << std::string(spec.status().message()));
  REQUIRE(spec.ok());
  auto tokenizer = Tokenizer::Create(*std::move(spec));
  INFO("create: " << std::string(tokenizer.status().message()));
  REQUIRE(tokenizer.ok());
  return *std::move(tokenizer);
}

std::unique_ptr<const Tokenizer> GgufTokenizer(const std::filesystem::path& path) {
  const std::string bytes = ReadFile(path);
  const auto source = MakeMemorySource({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  const Result<GgufHeader> header = ReadGgufHeader(*source, false);
  INFO(std::string(header.status().message()));
  REQUIRE(header.ok());
  return MakeTokenizer(ImportGgufVocab(*header));
}

Ids Encode(const Tokenizer& tokenizer, std::string_view text, uint32_t flags) {
  Ids ids;
  const Status status = tokenizer.Encode(text, flags, &ids);
  INFO(std::string(status.message()));
  REQUIRE(status.ok());
  return ids;
}

std::string Decode(const Tokenizer& tokenizer, const Ids& ids, uint32_t flags) {
  std::string text;
  REQUIRE(tokenizer.Decode(ids, flags, &text).ok());
  return text;
}

}  // namespace dsopt
