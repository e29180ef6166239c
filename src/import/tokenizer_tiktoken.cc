// tokenizer_tiktoken.cc - rank files of tiktoken ("IQ== 0" lines). A file holds only the mergeable pieces; what
// else a family has comes from its published definition.
#include <array>
#include <charconv>

#include "import/tokenizer_import.h"

namespace dsopt {
namespace {

constexpr uint32_t kMaxRanks = 1u << 20;

bool DecodeBase64(std::string_view text, std::string* out) {
  static constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (text.empty() || text.size() % 4 != 0) return false;
  size_t padding = 0;
  while (padding < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
    ++padding;
  }
  out->clear();
  uint32_t bits = 0, count = 0;
  for (const char c : text) {
    const size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) return false;
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out->push_back(static_cast<char>(bits >> count & 0xFF));
    }
  }
  return !out->empty();
}

// Ranks are 0, 1, 2, ... in order.
Status ReadRanks(std::string_view bytes, TokenizerSpec* spec) {
  std::string piece;
  for (size_t line = 1; !bytes.empty(); ++line) {
    const size_t newline = bytes.find('\n');
    std::string_view text = bytes.substr(0, newline);
    bytes.remove_prefix(newline == std::string_view::npos ? bytes.size() : newline + 1);
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (text.empty()) continue;
    const size_t space = text.find(' ');
    uint32_t rank = 0;
    const char* end = text.data() + text.size();
    if (space == std::string_view::npos || !DecodeBase64(text.substr(0, space), &piece) ||
        std::from_chars(text.data() + space + 1, end, rank).ptr != end || space + 1 == text.size()) {
      return Error(DSOPT_E_CORRUPT, "tokenizer.model: line %zu is no base64 piece and rank", line);
    }
    if (rank != spec->pieces.size() || rank >= kMaxRanks) {
      return Error(DSOPT_E_CORRUPT, "tokenizer.model: line %zu has rank %u, expected %zu and less than %u",
                   line, rank, spec->pieces.size(), kMaxRanks);
    }
    spec->pieces.push_back(piece);
  }
  if (spec->pieces.empty()) return Error(DSOPT_E_CORRUPT, "tokenizer.model: no ranks");
  return {};
}

// The 256 special tokens of Llama 3 follow the ranks. From 3.1 on four of the reserved ones have a use and
// name.
void AddLlama3Special(TokenizerSpec* spec) {
  std::vector<std::string> names = {"<|begin_of_text|>",
                                    "<|end_of_text|>",
                                    "<|reserved_special_token_0|>",
                                    "<|reserved_special_token_1|>",
                                    "<|finetune_right_pad_id|>",
                                    "<|reserved_special_token_2|>",
                                    "<|start_header_id|>",
                                    "<|end_header_id|>",
                                    "<|eom_id|>",
                                    "<|eot_id|>",
                                    "<|python_tag|>"};
  for (int i = 3; names.size() < 256; ++i)
    names.push_back("<|reserved_special_token_" + std::to_string(i) + "|>");
  const auto base = static_cast<uint32_t>(spec->pieces.size());
  spec->piece_flags.assign(spec->pieces.size(), 0);
  for (uint32_t i = 0; i < names.size(); ++i) {
    spec->pieces.push_back(std::move(names[i]));
    spec->piece_flags.push_back(kPieceControl);
    AddedToken token;
    token.id = base + i;
    token.special = true;
    spec->added.push_back(token);
  }
  const auto id = [base](uint32_t offset) { return static_cast<int32_t>(base + offset); };
  spec->bos = id(0);
  spec->eos = id(1);
  spec->end_tokens = {id(1), id(8), id(9)};
  spec->prefix = {spec->bos};
}

}  // namespace

Result<TokenizerSpec> ImportTiktoken(std::string_view bytes, std::string_view family) {
  if (family != "llama3") {
    return Error(DSOPT_E_UNSUPPORTED, "tokenizer.model: tiktoken family '%.*s', expected 'llama3'",
                 static_cast<int>(family.size()), family.data());
  }
  TokenizerSpec spec;
  spec.kind = TokenizerKind::kByteBpe;
  spec.pre_tokenizer = PreTokenizer::kLlama3;
  spec.merges_by_id = true;
  spec.ignore_merges = true;
  RETURN_IF_ERROR(ReadRanks(bytes, &spec));
  AddLlama3Special(&spec);
  return spec;
}

}  // namespace dsopt
