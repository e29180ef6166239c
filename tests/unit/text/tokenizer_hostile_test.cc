// Importers answer malformed and unknown input with a status that names it.
#include <catch2/catch.hpp>
#include <random>

#include "format/source.h"
#include "import/gguf_reader.h"
#include "import/tokenizer_import.h"
#include "tests/unit/text/helpers.h"

namespace dsopt {
namespace {

dsopt_code JsonCode(const std::string& text) { return ImportTokenizerJson(text, "", "").status().code(); }

std::string Model(const std::string& rest) {
  return R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]})" + rest + "}";
}

dsopt_code GgufCode(const std::string& bytes) {
  const auto source = MakeMemorySource({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  const Result<GgufHeader> header = ReadGgufHeader(*source, false);
  return header.ok() ? ImportGgufVocab(*header).status().code() : header.status().code();
}

}  // namespace

TEST_CASE("tokenizer.json with unknown parts is unsupported and says which", "[text]") {
  CHECK(JsonCode(Model("")) == DSOPT_OK);
  for (
      const char* rest :
      {R"(,"normalizer":{"type":"Lowercase"})", R"(,"pre_tokenizer":{"type":"Whitespace"})",
       R"(,"decoder":{"type":"WordPiece"})", R"(,"post_processor":{"type":"RobertaProcessing"})",
       R"(,"normalizer":{"type":"Replace","pattern":{"Regex":" +"},"content":" "})",
       R"(,"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"NFC"}]})",
       R"(,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"x+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})"}) {
    CAPTURE(rest);
    CHECK(JsonCode(Model(rest)) == DSOPT_E_UNSUPPORTED);
  }
  CHECK(JsonCode(R"({"model":{"type":"WordPiece"}})") == DSOPT_E_UNSUPPORTED);
  const Status status = ImportTokenizerJson(Model(R"(,"normalizer":{"type":"Lowercase"})"), "", "").status();
  CHECK(std::string(status.message()).find("Lowercase") != std::string::npos);
}

TEST_CASE("malformed tokenizer.json is corrupt", "[text]") {
  for (const char* text :
       {"", "[]", "{", "{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}",
        R"({"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}})",
        R"({"model":{"type":"BPE","vocab":{"a":16000000},"merges":[]}})",
        R"({"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}})",
        R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a c"]}})",
        R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}})",
        R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"added_tokens":[{"id":0,"content":"z"}]})",
        R"({"model":{"type":"Unigram","vocab":[["a"]]}})"}) {
    CAPTURE(text);
    CHECK(JsonCode(text) == DSOPT_E_CORRUPT);
  }
  CHECK(JsonCode(std::string(100000, '[')) == DSOPT_E_CORRUPT);
  // A merge whose result is no piece is found when the tables are built.
  auto spec = ImportTokenizerJson(R"({"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"]}})", "", "");
  REQUIRE(spec.ok());
  CHECK(Tokenizer::Create(*std::move(spec)).status().code() == DSOPT_E_CORRUPT);
}

TEST_CASE("malformed rank files, models and GGUF files are refused", "[text]") {
  CHECK(ImportTiktoken("", "llama3").status().code() == DSOPT_E_CORRUPT);
  CHECK(ImportTiktoken("IQ== 0\nIg== 2\n", "llama3").status().code() == DSOPT_E_CORRUPT);
  CHECK(ImportTiktoken("IQ=! 0\n", "llama3").status().code() == DSOPT_E_CORRUPT);
  CHECK(ImportTiktoken("IQ== 0\n", "other").status().code() == DSOPT_E_UNSUPPORTED);
  CHECK(ImportTiktoken("IQ== 0\n", "llama3").ok());
  CHECK(ImportSentencePiece("").status().code() == DSOPT_E_CORRUPT);
  CHECK(ImportSentencePiece("\x0A\xFF\xFF\xFF\xFF\x0F").status().code() == DSOPT_E_CORRUPT);
  CHECK(GgufCode("GGUF") == DSOPT_E_CORRUPT);
  CHECK(GgufCode(std::string("GGUF\x01\0\0\0", 8) + std::string(16, '\0')) ==
        DSOPT_E_UNSUPPORTED);  // version 1
  CHECK(GgufCode(std::string("GGUF\x03\0\0\0", 8) + std::string(8, '\0') + std::string(8, '\xFF')) ==
        DSOPT_E_CORRUPT);
}

TEST_CASE("published tokenizers cut off or damaged anywhere never crash an importer", "[text]") {
  const auto data = DataFolder();
  if (!data) return;
  std::mt19937 random(11);
  const std::string model = ReadFile(*data / "checkpoints" / "stories260k" / "tok512.model");
  const std::string gguf =
      ReadFile(*data / "checkpoints" / "stories260k" / "stories260K.gguf").substr(0, 20000);
  size_t refused = 0;
  for (int i = 0; i < 400; ++i) {
    std::string bytes = model.substr(0, i % 2 == 0 ? random() % model.size() : model.size());
    if (i % 2 == 1) bytes[random() % bytes.size()] = static_cast<char>(random());
    auto spec = ImportSentencePiece(bytes);
    if (!spec.ok())
      ++refused;
    else
      (void)Tokenizer::Create(*std::move(spec)).ok();
    bytes = gguf.substr(0, i % 2 == 0 ? random() % gguf.size() : gguf.size());
    for (int k = 0; i % 2 == 1 && k < 3; ++k) bytes[random() % 2000] = static_cast<char>(random());
    refused += GgufCode(bytes) == DSOPT_OK ? 0 : 1;
  }
  CHECK(refused > 100);
}

}  // namespace dsopt
