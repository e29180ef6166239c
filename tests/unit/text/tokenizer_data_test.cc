// Published tokenizers give the ids that their reference implementations give. data/reference_ids.json was made
// with the PyPI packages tokenizers 0.23.3 and sentencepiece 0.2.3 on texts written or drawn for it.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "import/tokenizer_import.h"
#include "tests/unit/text/helpers.h"

namespace dsopt {
namespace {

using Json = nlohmann::json;

std::vector<std::string> Cases(const std::string& text) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> out;
  size_t begin = 0;
  for (size_t end = text.find(separator); end != std::string::npos; end = text.find(separator, begin)) {
    out.push_back(text.substr(begin, end - begin));
    begin = end + separator.size();
  }
  return out;
}

void CheckCases(const Tokenizer& tokenizer, const std::filesystem::path& folder) {
  const std::vector<std::string> texts = Cases(ReadFile(folder / "cases.inp"));
  const std::vector<std::string> ids = Lines(ReadFile(folder / "cases.out"));
  REQUIRE(texts.size() == 46);
  REQUIRE(ids.size() == texts.size());
  for (size_t k = 0; k < texts.size(); ++k) {
    std::istringstream line(ids[k]);
    Ids expected;
    for (int32_t id; line >> id;) expected.push_back(id);
    CAPTURE(folder.filename().string(), k, texts[k]);
    CHECK(Encode(tokenizer, texts[k]) == expected);
  }
}

}  // namespace

TEST_CASE("llama-3, llama-2, deepseek-llm and gpt-2 tokenize the llama.cpp cases as published", "[text]") {
  const auto data = DataFolder();
  if (!data) return;
  const auto folder = *data / "tokenizers";
  CheckCases(*MakeTokenizer(ImportTokenizer(folder / "llama-3")), folder / "llama-3");
  CheckCases(*MakeTokenizer(ImportTokenizer(folder / "llama-2-spm")), folder / "llama-2-spm");
  CheckCases(*GgufTokenizer(folder / "llama-2-spm" / "vocab.gguf"), folder / "llama-2-spm");
  CheckCases(*GgufTokenizer(folder / "deepseek-llm" / "vocab.gguf"), folder / "deepseek-llm");
  CheckCases(*GgufTokenizer(folder / "gpt-2" / "vocab.gguf"), folder / "gpt-2");
}

TEST_CASE("gpt-2's tokenizer.json tokenizes the cases as published once its added runs of spaces are gone",
          "[text]") {
  const auto data = DataFolder();
  if (!data) return;
  const auto folder = *data / "tokenizers" / "gpt-2";
  Result<TokenizerSpec> spec = ImportTokenizer(folder);
  REQUIRE(spec.ok());
  // The file is the variant with 37 added tokens for indentation, which the published cases do not know.
  std::erase_if(spec->added, [](const AddedToken& token) { return !token.special; });
  CheckCases(*MakeTokenizer(std::move(spec)), folder);
}

TEST_CASE("tokenizers agree with the reference packages on varied text", "[text]") {
  const auto data = DataFolder();
  if (!data) return;
  const Json reference = Json::parse(
      ReadFile(std::filesystem::path(DSOPT_SOURCE_DIR) / "tests/unit/text/data/reference_ids.json"));
  for (const Json& set : reference["sets"]) {
    const std::string name = set["name"], file = set["file"];
    std::string bytes = ReadFile(*data / file);
    if (set.contains("pre_tokenizer")) {
      Json edited = Json::parse(bytes);
      edited["pre_tokenizer"] = set["pre_tokenizer"];
      edited["normalizer"] = set["normalizer"];
      bytes = edited.dump();
    }
    const bool sentencepiece = set.value("plain", false);
    const auto tokenizer =
        MakeTokenizer(sentencepiece ? ImportSentencePiece(bytes) : ImportTokenizerJson(bytes, "", ""));
    for (size_t i = 0; i < reference["texts"].size(); ++i) {
      const std::string text = reference["texts"][i];
      CAPTURE(name, i, text);
      CHECK(Encode(*tokenizer, text, sentencepiece ? 0 : DSOPT_TOKENIZE_PARSE_SPECIAL) ==
            set["ids"][i].get<Ids>());
    }
  }
}

TEST_CASE("the checkpoints' prompts and texts have the ids of their golden files", "[text]") {
  const auto data = DataFolder();
  if (!data) return;
  for (const char* name : {"llama-12m", "mistral-10m", "mixtral-13m", "deepseek-v2-14m"}) {
    const auto folder = *data / "checkpoints" / name;
    const auto tokenizer = MakeTokenizer(ImportTokenizer(folder));
    const Json golden = Json::parse(ReadFile(folder / "golden.json"));
    for (const Json& prompt : golden["prompts"]) {
      CAPTURE(name, prompt["text"].get<std::string>());
      CHECK(Encode(*tokenizer, prompt["text"].get<std::string>(), DSOPT_TOKENIZE_ADD_BOS) ==
            prompt["ids"].get<Ids>());
      CHECK(Decode(*tokenizer, prompt["greedy_ids"].get<Ids>()) == prompt["greedy_text"].get<std::string>());
    }
    for (const auto& [file, entry] : golden["perplexity"].items()) {
      const Ids first = entry["first_ids"];
      Ids ids = Encode(*tokenizer, ReadFile(*data / "text" / file));
      ids.resize(first.size());
      CAPTURE(name, file);
      CHECK(ids == first);
    }
  }
}

TEST_CASE("tinystories and stories260k have the ids of their golden files", "[text]") {
  const auto data = DataFolder();
  if (!data) return;
  const auto folder = *data / "checkpoints";
  const Json golden = Json::parse(ReadFile(folder / "tinystories-656k" / "golden.json"));
  const auto tiny = MakeTokenizer(ImportTokenizer(folder / "tinystories-656k"));
  CHECK(Encode(*tiny, golden["story_text"].get<std::string>(), DSOPT_TOKENIZE_ADD_BOS) ==
        golden["story_ids"].get<Ids>());
  CHECK(tiny->IsEnd(2));
  const Json stories = Json::parse(ReadFile(folder / "stories260k" / "golden.json"));
  const auto gguf = GgufTokenizer(folder / "stories260k" / "stories260K.gguf");
  const Ids expected = stories["ids"];
  CHECK(Decode(*gguf, expected, DSOPT_DETOKENIZE_SKIP_SPECIAL) == stories["text"].get<std::string>());
  Ids ids = Encode(*gguf, stories["text"].get<std::string>(), DSOPT_TOKENIZE_ADD_BOS);
  ids.resize(20);
  CHECK(ids == Ids(expected.begin(), expected.begin() + 20));
}

TEST_CASE("decoding what was encoded gives the text back in nearly all scripts", "[text]") {
  const auto data = DataFolder();
  if (!data) return;
  const std::vector<std::string> lines = Lines(ReadFile(*data / "text" / "udhr2_all.txt"));
  REQUIRE(lines.size() > 80000);
  const auto folder = *data / "tokenizers";
  std::vector<std::unique_ptr<const Tokenizer>> all;
  for (const char* name : {"llama-3", "llama-2-spm", "mistral-v1", "gpt-2", "minimind"}) {
    all.push_back(MakeTokenizer(ImportTokenizer(folder / name)));
  }
  all.push_back(GgufTokenizer(folder / "deepseek-llm" / "vocab.gguf"));
  all.push_back(MakeTokenizer(ImportTokenizer(*data / "checkpoints" / "llama-12m")));
  all.push_back(MakeTokenizer(ImportTokenizer(*data / "checkpoints" / "mistral-10m")));
  for (size_t k = 0; k < all.size(); ++k) {
    size_t different = 0;
    for (const std::string& line : lines) {
      Ids ids;
      std::string back;
      const bool ok = all[k]->Encode(line, 0, &ids).ok() && all[k]->Decode(ids, 0, &back).ok() && back == line;
      if (!ok && different++ == 0) UNSCOPED_INFO("tokenizer " << k << ", line " << line);
    }
    CHECK(different == 0);
  }
}

TEST_CASE("control tokens come from text only when the caller asks for them", "[text]") {
  const auto data = DataFolder();
  if (!data) return;
  const auto llama3 = MakeTokenizer(ImportTokenizer(*data / "tokenizers" / "llama-3"));
  CHECK(llama3->vocab_size() == 128256);
  CHECK(llama3->spec().bos == 128000);
  CHECK(llama3->IsEnd(128009));
  CHECK(llama3->TokenBytes(128006) == "<|start_header_id|>");
  CHECK(llama3->TokenBytes(128011) == "<|reserved_special_token_3|>");
  CHECK(llama3->TokenBytes(128255) == "<|reserved_special_token_247|>");
  CHECK(Encode(*llama3, "<|eot_id|>", DSOPT_TOKENIZE_PARSE_SPECIAL) == Ids{128009});
  const Ids plain = Encode(*llama3, "<|eot_id|>");
  CHECK(plain.size() > 1);
  for (const int32_t id : plain) CHECK_FALSE(llama3->IsControl(id));
  CHECK(Decode(*llama3, plain) == "<|eot_id|>");
  const Ids framed = Encode(*llama3, "a<|eot_id|>", DSOPT_TOKENIZE_PARSE_SPECIAL | DSOPT_TOKENIZE_ADD_BOS);
  CHECK(framed.front() == 128000);
  CHECK(Decode(*llama3, framed, DSOPT_DETOKENIZE_SKIP_SPECIAL) == "a");
}

}  // namespace dsopt
