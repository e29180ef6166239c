// The rules of VerifyTokenizer and VerifyTexts.
#include <catch2/catch.hpp>
#include <cmath>

#include "format/verify.h"
#include "tests/hostile/rules.h"

namespace dsopt::testing {
namespace {

const Rule kTokenizerRules[] = {
    {"tokenizer kind is known", [](auto& s) { s.tokenizer.kind = static_cast<TokenizerKind>(5); },
     "tokenizer kind is 5", DSOPT_E_VERSION},
    {"pre-tokenizer is known", [](auto& s) { s.tokenizer.pre_tokenizer = static_cast<PreTokenizer>(8); },
     "pre-tokenizer is 8", DSOPT_E_VERSION},
    {"there are pieces", [](auto& s) { s.tokenizer.pieces.clear(); }, "number of pieces is 0"},
    {"pieces <= vocab", [](auto& s) { s.config.vocab = 259; }, "number of pieces is 260, expected 1 to 259"},
    {"pieces are short together", [](auto& s) { s.tokenizer.pieces[0].assign(kMaxPieceBytes, 'a'); },
     "bytes of all pieces is"},
    {"one flag per piece", [](auto& s) { s.tokenizer.piece_flags.resize(7); }, "number of piece flags is 7"},
    {"unigram has scores", [](auto& s) { s.tokenizer.kind = TokenizerKind::kUnigram; },
     "number of scores is 0"},
    {"score BPE has scores", [](auto& s) { s.tokenizer.kind = TokenizerKind::kScoreBpe; },
     "number of scores is 0"},
    {"one score per piece", [](auto& s) { s.tokenizer.scores.resize(3); },
     "number of scores is 3, expected 260"},
    {"scores are finite", [](auto& s) { s.tokenizer.scores.assign(260, INFINITY); }, "a score is inf"},
    {"merges <= 2^22",
     [](auto& s) {
       s.tokenizer.merges.assign(kMaxMerges + 1, {1, 2});
     },
     "number of merges is 4194305"},
    {"left of a merge is a piece",
     [](auto& s) {
       s.tokenizer.merges.push_back({260, 1});
     },
     "merge 1 joins pieces 260"},
    {"right of a merge is a piece",
     [](auto& s) {
       s.tokenizer.merges.push_back({1, 5000});
     },
     "pieces 1 and 5000"},
    {"added token is a piece", [](auto& s) { s.tokenizer.added[1].id = 260; }, "added token 1 has id 260"},
    {"added tokens ascend", [](auto& s) { s.tokenizer.added[1].id = 257; }, "id 257, expected 258 to 259"},
    {"replacements <= 256",
     [](auto& s) {
       s.tokenizer.replacements.assign(257, {"a", "b"});
     },
     "number of replacements is 257"},
    {"replacement replaces something", [](auto& s) { s.tokenizer.replacements[0].first = ""; }, "has 0 bytes"},
    {"replaced text is UTF-8", [](auto& s) { s.tokenizer.replacements[0].first = "\xff"; }, "not valid UTF-8"},
    {"replacement is UTF-8", [](auto& s) { s.tokenizer.replacements[0].second = "\xed\xa0\x80"; },
     "not valid UTF-8"},
    {"replacement is short", [](auto& s) { s.tokenizer.replacements[0].second.assign(257, 'a'); },
     "length of a replacement is 257"},
    {"bos is a piece", [](auto& s) { s.tokenizer.bos = 260; }, "bos is token 260, expected -1 to 259"},
    {"eos is a piece or -1", [](auto& s) { s.tokenizer.eos = -2; }, "eos is token -2"},
    {"unk is a piece", [](auto& s) { s.tokenizer.unk = INT32_MAX; }, "unk is token 2147483647"},
    {"pad is a piece or -1", [](auto& s) { s.tokenizer.pad = INT32_MIN; }, "pad is token -2147483648"},
    {"end tokens are pieces",
     [](auto& s) {
       s.tokenizer.end_tokens = {3, -1};
     },
     "end tokens has token -1"},
    {"end tokens <= 1024", [](auto& s) { s.tokenizer.end_tokens.assign(1025, 1); },
     "number of end tokens is 1025"},
    {"prefix is of pieces", [](auto& s) { s.tokenizer.prefix = {260}; }, "prefix has token 260"},
    {"prefix <= 1024", [](auto& s) { s.tokenizer.prefix.assign(1025, 1); }, "length of prefix is 1025"},
    {"suffix is of pieces", [](auto& s) { s.tokenizer.suffix = {-7}; }, "suffix has token -7"},
    {"suffix <= 1024", [](auto& s) { s.tokenizer.suffix.assign(1025, 1); }, "length of suffix is 1025"},
};

const Rule kTextRules[] = {
    {"chat template is UTF-8", [](auto& s) { s.chat_template = "{{ \xc3 }}"; },
     "of chat template are not valid UTF-8"},
    {"chat template <= 1 MiB", [](auto& s) { s.chat_template.assign((1u << 20) + 1, 'x'); },
     "chat template is 1048577"},
    {"metadata <= 1024 entries",
     [](auto& s) {
       for (int i = 0; i < 1025; ++i) s.metadata["key " + std::to_string(i)] = "x";
     },
     "number of entries is"},
    {"metadata key is not empty", [](auto& s) { s.metadata[""] = "x"; }, "a key has 0 bytes"},
    {"metadata key is short", [](auto& s) { s.metadata[std::string(257, 'k')] = "x"; },
     "length of a key is 257"},
    {"metadata key is UTF-8", [](auto& s) { s.metadata["\x80"] = "x"; }, "of a key are not valid UTF-8"},
    {"metadata value is UTF-8", [](auto& s) { s.metadata["license"] = "\xf5"; }, "'license': the 1 bytes"},
    {"metadata value <= 64 KiB", [](auto& s) { s.metadata["license"].assign(65537, 'x'); },
     "of a value is 65537"},
};

}  // namespace

TEST_CASE("tokenizer rule:", "[hostile]") { CheckRules(kTokenizerRules); }
TEST_CASE("text rule:", "[hostile]") { CheckRules(kTextRules); }

}  // namespace dsopt::testing
