// tokenizer_gguf.cc - the vocabulary in a GGUF file's metadata.
#include <optional>
#include <unordered_map>

#include "import/gguf_reader.h"
#include "import/tokenizer_import.h"
#include "import/tokenizer_json_read.h"

namespace dsopt {
namespace {

// What the tokenizer needs of the metadata; absent arrays are empty. Points into the header.
struct Vocabulary {
  explicit Vocabulary(const GgufHeader& header) : keys(header, "tokenizer.ggml") {
    static const std::vector<std::string> kNoTexts;
    static const std::vector<double> kNoNumbers;
    const auto texts = [&](const char* key) {
      const GgufValue* value = keys.Find(key);
      return value != nullptr && value->kind == GgufKind::kStrings ? &value->texts : &kNoTexts;
    };
    const auto numbers = [&](const char* key) {
      const GgufValue* value = keys.Find(key);
      return value != nullptr && value->kind == GgufKind::kNumbers ? &value->numbers : &kNoNumbers;
    };
    tokens = texts("tokens");
    merges = texts("merges");
    scores = numbers("scores");
    types = numbers("token_type");
  }
  GgufKeys keys;
  const std::vector<std::string>*tokens, *merges;
  const std::vector<double>*scores, *types;
};

// -1 for an absent id and for those that writers put where there is none.
int32_t IdOf(const Vocabulary& data, const char* name) {
  const GgufValue* value = data.keys.Find(name);
  if (value == nullptr || value->kind != GgufKind::kInteger || value->integer < 0) return -1;
  return static_cast<uint64_t>(value->integer) < data.tokens->size() ? static_cast<int32_t>(value->integer)
                                                                     : -1;
}

Result<PreTokenizer> PreTokenizerByName(const GgufKeys& keys) {
  ASSIGN_OR_RETURN(const std::string name, keys.String("pre", ""));
  if (name == "gpt-2") return PreTokenizer::kGpt2;
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") return PreTokenizer::kLlama3;
  if (name == "deepseek-llm") return PreTokenizer::kDeepseekLlm;
  if (name == "deepseek-coder") return PreTokenizer::kDeepseekCoder;
  if (name == "deepseek-v3") return PreTokenizer::kDeepseekV3;
  if (name == "qwen2" || name == "deepseek-r1-qwen") return PreTokenizer::kQwen2;
  return keys.Unsupported("pre", "gpt-2, llama-bpe, deepseek-llm, deepseek-coder, deepseek-v3 or qwen2");
}

// Types 1..6: normal, unknown, control, user-defined, unused, byte.
Status ApplyTypes(const Vocabulary& data, bool byte_level, TokenizerSpec* spec) {
  if (!data.types->empty() && data.types->size() != data.tokens->size()) {
    return Error(DSOPT_E_CORRUPT, "gguf: %zu token types, expected %zu", data.types->size(),
                 data.tokens->size());
  }
  spec->piece_flags.assign(spec->pieces.size(), 0);
  for (size_t id = 0; id < data.types->size(); ++id) {
    const double type = (*data.types)[id];
    uint8_t& flags = spec->piece_flags[id];
    if (type == 2) flags = kPieceUnknown | kPieceControl;
    if (type == 3) flags = kPieceControl;
    if (type == 5) flags = kPieceUnused;
    if (type == 6) flags = kPieceByte;
    if ((type == 2 || type == 3 || type == 4) && !spec->pieces[id].empty()) {
      AddedToken token;
      token.id = static_cast<uint32_t>(id);
      token.special = type != 4;
      spec->added.push_back(token);
    } else if (byte_level) {
      if (std::optional<std::string> bytes = DecodePrintableBytes(spec->pieces[id])) {
        spec->pieces[id] = std::move(*bytes);
      }
    }
  }
  return {};
}

Status ApplyMerges(const Vocabulary& data, TokenizerSpec* spec) {
  std::unordered_map<std::string_view, uint32_t> ids;
  ids.reserve(data.tokens->size());
  for (uint32_t id = 0; id < data.tokens->size(); ++id) ids.emplace((*data.tokens)[id], id);
  spec->merges.reserve(data.merges->size());
  for (const std::string& merge : *data.merges) {
    const std::string_view text = merge;
    const size_t space = text.find(' ', 1);
    const auto a = space == std::string_view::npos ? ids.end() : ids.find(text.substr(0, space));
    const auto b = space == std::string_view::npos ? ids.end() : ids.find(text.substr(space + 1));
    if (a == ids.end() || b == ids.end()) {
      return Error(DSOPT_E_CORRUPT, "gguf: merge %zu '%.80s' does not name two tokens", spec->merges.size(),
                   merge.c_str());
    }
    spec->merges.emplace_back(a->second, b->second);
  }
  return {};
}

// The ids that the file names, and control tokens that end a turn by what they are called: many files name only
// one of the two that their template uses.
void ApplyEndTokens(const Vocabulary& data, TokenizerSpec* spec) {
  static constexpr std::string_view kEnds[] = {
      "<|eot_id|>", "<|eom_id|>",    "<|end_of_text|>",       "<|endoftext|>", "<|im_end|>",
      "<|end|>",    "<end_of_turn>", "<｜end▁of▁sentence｜>", "<|EOT|>",       "<EOT>"};
  for (const char* name : {"eot_token_id", "eom_token_id"}) {
    if (const int32_t id = IdOf(data, name); id >= 0) spec->end_tokens.push_back(id);
  }
  for (const AddedToken& token : spec->added) {
    for (std::string_view end : kEnds) {
      if (token.special && spec->pieces[token.id] == end)
        spec->end_tokens.push_back(static_cast<int32_t>(token.id));
    }
  }
  FinishEndTokens(spec);
}

Status ApplyByteLevel(const Vocabulary& data, TokenizerSpec* spec) {
  spec->kind = TokenizerKind::kByteBpe;
  ASSIGN_OR_RETURN(spec->pre_tokenizer, PreTokenizerByName(data.keys));
  spec->nfc = spec->pre_tokenizer == PreTokenizer::kQwen2;
  spec->ignore_merges = spec->pre_tokenizer == PreTokenizer::kLlama3;
  ASSIGN_OR_RETURN(spec->add_prefix_space, data.keys.Bool("add_space_prefix", false));
  return ApplyMerges(data, spec);
}

Status ApplyScores(const Vocabulary& data, TokenizerSpec* spec) {
  spec->kind = TokenizerKind::kScoreBpe;
  spec->scores.assign(data.scores->begin(), data.scores->end());
  spec->byte_fallback = spec->escape_spaces = spec->fuse_unknown = true;
  ASSIGN_OR_RETURN(spec->add_dummy_prefix, data.keys.Bool("add_space_prefix", true));
  spec->strip_leading_space = spec->add_dummy_prefix;
  ASSIGN_OR_RETURN(spec->collapse_spaces, data.keys.Bool("remove_extra_whitespaces", false));
  return {};
}

}  // namespace

Result<TokenizerSpec> ImportGgufVocab(const GgufHeader& header) {
  const Vocabulary data(header);
  ASSIGN_OR_RETURN(const std::string model, data.keys.String("model", ""));
  const bool byte_level = model == "gpt2";
  if (!byte_level && model != "llama") return data.keys.Unsupported("model", "'llama' or 'gpt2'");
  TokenizerSpec spec;
  spec.pieces = *data.tokens;
  spec.bos = IdOf(data, "bos_token_id");
  spec.eos = IdOf(data, "eos_token_id");
  spec.unk = IdOf(data, "unknown_token_id");
  spec.pad = IdOf(data, "padding_token_id");
  RETURN_IF_ERROR(ApplyTypes(data, byte_level, &spec));
  RETURN_IF_ERROR(byte_level ? ApplyByteLevel(data, &spec) : ApplyScores(data, &spec));
  // Files from before the key was written: these two kinds always begin with bos.
  const bool begins = !byte_level || spec.pre_tokenizer == PreTokenizer::kLlama3;
  ASSIGN_OR_RETURN(const bool add_bos, data.keys.Bool("add_bos_token", begins));
  ASSIGN_OR_RETURN(const bool add_eos, data.keys.Bool("add_eos_token", false));
  if (add_bos && spec.bos >= 0) spec.prefix = {spec.bos};
  if (add_eos && spec.eos >= 0) spec.suffix = {spec.eos};
  ApplyEndTokens(data, &spec);
  return spec;
}

Result<std::string> ImportGgufChatTemplate(const GgufHeader& header) {
  const GgufKeys keys(header, "tokenizer");
  if (keys.Find("chat_template") == nullptr) return Error(DSOPT_E_NOT_FOUND, "gguf: no chat template");
  return keys.String("chat_template", "");
}

}  // namespace dsopt
