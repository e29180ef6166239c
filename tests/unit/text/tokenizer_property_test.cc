// Small tokenizers made here: what holds for every spec, and the time of long inputs.
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdio>
#include <random>

#include "base/utf8.h"
#include "import/tokenizer_import.h"
#include "tests/unit/text/helpers.h"

namespace dsopt {
namespace {

// All bytes, and some merges.
TokenizerSpec ByteSpec(PreTokenizer pre_tokenizer) {
  TokenizerSpec spec;
  spec.kind = TokenizerKind::kByteBpe;
  spec.pre_tokenizer = pre_tokenizer;
  for (int b = 0; b < 256; ++b) spec.pieces.emplace_back(1, static_cast<char>(b));
  const auto merge = [&](uint32_t a, uint32_t b) {
    spec.pieces.push_back(spec.pieces[a] + spec.pieces[b]);
    spec.merges.emplace_back(a, b);
    return static_cast<uint32_t>(spec.pieces.size() - 1);
  };
  const uint32_t aa = merge('a', 'a');
  const uint32_t aaaa = merge(aa, aa);
  merge(aaaa, aaaa);
  const uint32_t spaces = merge(' ', ' ');
  merge(spaces, spaces);
  merge(' ', 'a');
  merge(0xF0, 0x9F);
  return spec;
}

// sentencepiece-like: bytes, a few characters and words with scores.
TokenizerSpec ScoreSpec(TokenizerKind kind) {
  TokenizerSpec spec;
  spec.kind = kind;
  spec.pieces = {"<unk>"};
  spec.piece_flags = {kPieceUnknown | kPieceControl};
  spec.scores = {0};
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", b);
    spec.pieces.emplace_back(name);
    spec.piece_flags.push_back(kPieceByte);
    spec.scores.push_back(0);
  }
  float score = -1;
  for (const char* piece : {"\u2581", "a", "b", "aa", "\u2581a", "ab", "aaaa", "\u2581\u2581", "aab"}) {
    spec.pieces.emplace_back(piece);
    spec.piece_flags.push_back(0);
    spec.scores.push_back(score--);
  }
  spec.unk = 0;
  spec.byte_fallback = spec.fuse_unknown = spec.escape_spaces = true;
  spec.add_dummy_prefix = spec.strip_leading_space = true;
  return spec;
}

std::string RandomText(std::mt19937* random, size_t characters) {
  static constexpr uint32_t kCommon[] = {' ', '\n', 'a',   'b',    '\'',    's',   '7',
                                         '.', 0xE9, 0x301, 0x4E2D, 0x1F600, 0x3000};
  std::string out;
  for (size_t i = 0; i < characters; ++i) {
    auto cp = static_cast<uint32_t>((*random)() % 0x110000);
    if ((*random)() % 4 != 0) cp = kCommon[(*random)() % std::size(kCommon)];
    if (cp >= 0xD800 && cp < 0xE000) cp = 'x';
    AppendUtf8(cp, &out);
  }
  return out;
}

double Seconds(const Tokenizer& tokenizer, const std::string& text) {
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = Encode(tokenizer, text);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(Decode(tokenizer, ids) == text);
  return seconds;
}

constexpr PreTokenizer kAllPreTokenizers[] = {PreTokenizer::kNone,           PreTokenizer::kGpt2,
                                              PreTokenizer::kLlama3,         PreTokenizer::kDeepseekLlm,
                                              PreTokenizer::kDeepseekCoder,  PreTokenizer::kQwen2,
                                              PreTokenizer::kMetaspaceSplit, PreTokenizer::kDeepseekV3};

}  // namespace

TEST_CASE("any text comes back from byte-complete tokenizers of every pre-tokenizer", "[text]") {
  std::mt19937 random(5);
  std::vector<std::unique_ptr<const Tokenizer>> all;
  for (const PreTokenizer pre : kAllPreTokenizers) all.push_back(MakeTokenizer(ByteSpec(pre)));
  all.push_back(MakeTokenizer(ScoreSpec(TokenizerKind::kScoreBpe)));
  all.push_back(MakeTokenizer(ScoreSpec(TokenizerKind::kUnigram)));
  for (int round = 0; round < 300; ++round) {
    const std::string text = RandomText(&random, random() % 120);
    for (const auto& tokenizer : all) REQUIRE(Decode(*tokenizer, Encode(*tokenizer, text)) == text);
  }
}

TEST_CASE("a megabyte of one repeated character takes well under the time of a quadratic merge", "[text]") {
  for (const char* unit : {"a", " ", "\xF0\x9F\x98\x80", "\n", "ab", "0", "'", "\xCC\x81"}) {
    std::string text;
    while (text.size() < 1000000) text += unit;
    for (const PreTokenizer pre : kAllPreTokenizers) {
      CAPTURE(unit, static_cast<int>(pre));
      CHECK(Seconds(*MakeTokenizer(ByteSpec(pre)), text) < 20.0);
    }
    CHECK(Seconds(*MakeTokenizer(ScoreSpec(TokenizerKind::kScoreBpe)), text) < 20.0);
    CHECK(Seconds(*MakeTokenizer(ScoreSpec(TokenizerKind::kUnigram)), text) < 20.0);
  }
}

TEST_CASE("combining marks in falling order are normalized without quadratic time", "[text]") {
  TokenizerSpec spec = ByteSpec(PreTokenizer::kNone);
  spec.nfc = true;
  const auto tokenizer = MakeTokenizer(std::move(spec));
  std::string text = "e";
  for (int i = 0; i < 100000; ++i) AppendUtf8(0x0301, &text);  // class 230
  for (int i = 0; i < 100000; ++i) AppendUtf8(0x0316, &text);  // class 220: all go before
  const auto start = std::chrono::steady_clock::now();
  const std::string back = Decode(*tokenizer, Encode(*tokenizer, text));
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 20.0);
  CHECK(back.substr(0, 4) == "\xC3\xA9\xCC\x96");
}

TEST_CASE("the best score is merged first, the leftmost of equals", "[text]") {
  const auto tokenizer = MakeTokenizer(ScoreSpec(TokenizerKind::kScoreBpe));
  // "▁aab": "aa" (-4) wins over "▁a" (-5) and "ab" (-6); then "aab" (-9).
  CHECK(Encode(*tokenizer, "aab") == Ids{257, 265});
  // "▁aaa": the left pair of "aaa"; "▁" stays alone.
  CHECK(Encode(*tokenizer, "aaa") == Ids{257, 260, 258});
  CHECK(Encode(*tokenizer, "\xC3\xA9") == Ids{257, 1 + 0xC3, 1 + 0xA9});
  CHECK(Encode(*tokenizer, "").empty());
}

TEST_CASE("unigram takes the segmentation with the largest sum", "[text]") {
  const auto tokenizer = MakeTokenizer(ScoreSpec(TokenizerKind::kUnigram));
  // "▁aab": ▁ + aab = -10, ▁a + ab = -11, ▁ + aa + b = -8
  CHECK(Encode(*tokenizer, "aab") == Ids{257, 260, 259});
}

TEST_CASE("invalid UTF-8 is refused at its offset and leaves the tokens as they were", "[text]") {
  const auto tokenizer = MakeTokenizer(ByteSpec(PreTokenizer::kGpt2));
  Ids ids = {7};
  const Status status = tokenizer->Encode("ab\xFF", 0, &ids);
  CHECK(status.code() == DSOPT_E_INVALID_ARGUMENT);
  CHECK(std::string(status.message()).find("byte 2") != std::string::npos);
  CHECK(ids == Ids{7});
  std::string text = "x";
  CHECK(tokenizer->Decode(Ids{1, 100000}, 0, &text).code() == DSOPT_E_INVALID_ARGUMENT);
  CHECK(text == "x");
  CHECK(tokenizer->TokenBytes(-1).empty());
  CHECK(tokenizer->TokenBytes(1 << 30).empty());
}

TEST_CASE("a spec that does not fit together is refused", "[text]") {
  const auto refused = [](void (*edit)(TokenizerSpec*)) {
    TokenizerSpec spec = ByteSpec(PreTokenizer::kGpt2);
    edit(&spec);
    return Tokenizer::Create(std::move(spec)).status().code();
  };
  CHECK(refused([](TokenizerSpec*) {}) == DSOPT_OK);
  CHECK(refused([](TokenizerSpec* s) { s->kind = TokenizerKind::kNone; }) == DSOPT_E_UNSUPPORTED);
  CHECK(refused([](TokenizerSpec* s) { s->kind = static_cast<TokenizerKind>(9); }) == DSOPT_E_UNSUPPORTED);
  CHECK(refused([](TokenizerSpec* s) { s->pre_tokenizer = static_cast<PreTokenizer>(99); }) ==
        DSOPT_E_UNSUPPORTED);
  CHECK(refused([](TokenizerSpec* s) { s->pieces.clear(); }) == DSOPT_E_CORRUPT);
  CHECK(refused([](TokenizerSpec* s) { s->piece_flags.resize(3); }) == DSOPT_E_CORRUPT);
  CHECK(refused([](TokenizerSpec* s) { s->merges.emplace_back(0, 1u << 30); }) == DSOPT_E_CORRUPT);
  CHECK(refused([](TokenizerSpec* s) { s->merges.emplace_back(1, 2); }) == DSOPT_E_CORRUPT);
  CHECK(refused([](TokenizerSpec* s) { s->bos = 1 << 20; }) == DSOPT_E_CORRUPT);
  CHECK(refused([](TokenizerSpec* s) { s->end_tokens = {-5}; }) == DSOPT_E_CORRUPT);
  CHECK(refused([](TokenizerSpec* s) { s->prefix = {1 << 20}; }) == DSOPT_E_CORRUPT);
  CHECK(refused([](TokenizerSpec* s) { s->added.resize(2); }) == DSOPT_E_CORRUPT);
  CHECK(refused([](TokenizerSpec* s) { s->replacements.emplace_back("", "x"); }) == DSOPT_E_CORRUPT);
  CHECK(refused([](TokenizerSpec* s) { s->kind = TokenizerKind::kUnigram; }) == DSOPT_E_CORRUPT);
}

}  // namespace dsopt
