// tokenizer_json.cc - tokenizer.json: vocabulary, merges and added tokens.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "import/tokenizer_import.h"
#include "import/tokenizer_json_read.h"

namespace dsopt {
namespace {

using Vocabulary = std::unordered_map<std::string_view, uint32_t>;

int32_t FindId(const Vocabulary& vocabulary, std::string_view text) {
  const auto it = vocabulary.find(text);
  return it == vocabulary.end() ? -1 : static_cast<int32_t>(it->second);
}

// Ids may leave gaps, but not so many that a small file asks for much memory.
Status GrowTo(uint32_t id, size_t entries, TokenizerSpec* spec) {
  if (id < spec->pieces.size()) return {};
  if (id >= entries * 2 + 65536) {
    return Error(DSOPT_E_CORRUPT, "tokenizer.json: id %u among %zu pieces", id, entries);
  }
  spec->pieces.resize(id + size_t{1});
  spec->piece_flags.resize(id + size_t{1}, 0);
  return {};
}

Status ReadBpeVocabulary(const Json& vocab, Vocabulary* ids, TokenizerSpec* spec) {
  if (!vocab.is_object()) return Error(DSOPT_E_CORRUPT, "tokenizer.json: model.vocab is no object");
  ids->reserve(vocab.size());
  std::vector<bool> taken;
  for (const auto& [piece, value] : vocab.items()) {
    const std::optional<uint32_t> id = AsId(value);
    if (!id) return Error(DSOPT_E_CORRUPT, "tokenizer.json: piece '%.80s' has no valid id", piece.c_str());
    RETURN_IF_ERROR(GrowTo(*id, vocab.size(), spec));
    taken.resize(spec->pieces.size(), false);
    if (taken[*id]) return Error(DSOPT_E_CORRUPT, "tokenizer.json: two pieces with id %u", *id);
    taken[*id] = true;
    spec->pieces[*id] = piece;
  }
  for (auto it = vocab.begin(); it != vocab.end(); ++it) ids->emplace(it.key(), *AsId(it.value()));
  return {};
}

Status ReadUnigramVocabulary(const Json& vocab, Vocabulary* ids, TokenizerSpec* spec) {
  if (!vocab.is_array()) return Error(DSOPT_E_CORRUPT, "tokenizer.json: model.vocab is no array");
  for (const Json& entry : vocab) {
    const std::string* piece =
        entry.is_array() && entry.size() == 2 ? entry[0].get_ptr<const std::string*>() : nullptr;
    if (piece == nullptr || !entry[1].is_number()) {
      return Error(DSOPT_E_CORRUPT, "tokenizer.json: vocabulary entry %zu is no [piece, score]",
                   spec->pieces.size());
    }
    ids->emplace(*piece, static_cast<uint32_t>(spec->pieces.size()));
    spec->pieces.push_back(*piece);
    spec->scores.push_back(entry[1].get<float>());
  }
  spec->piece_flags.assign(spec->pieces.size(), 0);
  return {};
}

// "a b" or ["a", "b"]
bool SplitMerge(const Json& merge, std::string_view* a, std::string_view* b) {
  if (const std::string* text = merge.get_ptr<const std::string*>()) {
    const size_t space = text->find(' ');
    if (space == std::string::npos) return false;
    *a = std::string_view(*text).substr(0, space);
    *b = std::string_view(*text).substr(space + 1);
    return true;
  }
  if (!merge.is_array() || merge.size() != 2) return false;
  const std::string* left = merge[0].get_ptr<const std::string*>();
  const std::string* right = merge[1].get_ptr<const std::string*>();
  if (left == nullptr || right == nullptr) return false;
  *a = *left;
  *b = *right;
  return true;
}

Status ReadMerges(const Json& merges, const Vocabulary& ids, TokenizerSpec* spec) {
  if (!merges.is_array()) return Error(DSOPT_E_CORRUPT, "tokenizer.json: model.merges is no array");
  spec->merges.reserve(merges.size());
  for (const Json& merge : merges) {
    std::string_view a, b;
    if (!SplitMerge(merge, &a, &b)) {
      return Error(DSOPT_E_CORRUPT, "tokenizer.json: merge %zu is no pair", spec->merges.size());
    }
    const int32_t left = FindId(ids, a), right = FindId(ids, b);
    if (left < 0 || right < 0) {
      const std::string_view missing = left < 0 ? a : b;
      return Error(DSOPT_E_CORRUPT, "tokenizer.json: merge %zu names '%.*s', which is no piece",
                   spec->merges.size(), static_cast<int>(std::min<size_t>(missing.size(), 80)), missing.data());
    }
    spec->merges.emplace_back(left, right);
  }
  return {};
}

Status ReadBpe(const Json& model, bool byte_level, Vocabulary* ids, TokenizerSpec* spec) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!StringMember(model, key).empty()) {
      return Error(DSOPT_E_UNSUPPORTED, "tokenizer.json: model.%s '%.80s' is not supported", key,
                   std::string(StringMember(model, key)).c_str());
    }
  }
  const Json& dropout = Member(model, "dropout");
  if (dropout.is_number() && dropout.get<double>() != 0.0) {
    return Error(DSOPT_E_UNSUPPORTED, "tokenizer.json: model.dropout %g is not supported",
                 dropout.get<double>());
  }
  spec->kind = byte_level ? TokenizerKind::kByteBpe : TokenizerKind::kCharBpe;
  spec->ignore_merges = BoolMember(model, "ignore_merges", false);
  spec->byte_fallback = BoolMember(model, "byte_fallback", false);
  spec->fuse_unknown = BoolMember(model, "fuse_unk", false);
  RETURN_IF_ERROR(ReadBpeVocabulary(Member(model, "vocab"), ids, spec));
  RETURN_IF_ERROR(ReadMerges(Member(model, "merges"), *ids, spec));
  const std::string_view unknown = StringMember(model, "unk_token");
  if (!unknown.empty()) {
    spec->unk = FindId(*ids, unknown);
    if (spec->unk < 0) {
      return Error(DSOPT_E_CORRUPT, "tokenizer.json: model.unk_token '%.80s' is no piece",
                   std::string(unknown).c_str());
    }
  }
  return {};
}

Status ReadUnigram(const Json& model, bool byte_level, Vocabulary* ids, TokenizerSpec* spec) {
  if (byte_level) return Error(DSOPT_E_UNSUPPORTED, "tokenizer.json: Unigram over ByteLevel is not supported");
  spec->kind = TokenizerKind::kUnigram;
  spec->byte_fallback = BoolMember(model, "byte_fallback", false);
  spec->fuse_unknown = true;  // always so in the tokenizers library
  RETURN_IF_ERROR(ReadUnigramVocabulary(Member(model, "vocab"), ids, spec));
  const Json& unknown = Member(model, "unk_id");
  if (unknown.is_null()) return {};
  const std::optional<uint32_t> id = AsId(unknown);
  if (!id || *id >= spec->pieces.size()) {
    return Error(DSOPT_E_CORRUPT, "tokenizer.json: model.unk_id is no id below %zu", spec->pieces.size());
  }
  spec->unk = static_cast<int32_t>(*id);
  return {};
}

Status ReadAddedTokens(const Json& added, Vocabulary* ids, std::vector<bool>* is_added, TokenizerSpec* spec) {
  if (!added.is_array() && !added.is_null()) {
    return Error(DSOPT_E_CORRUPT, "tokenizer.json: added_tokens is no array");
  }
  for (const Json& entry : added) {
    const std::optional<uint32_t> id = AsId(Member(entry, "id"));
    const std::string* content = Member(entry, "content").get_ptr<const std::string*>();
    if (!id || content == nullptr || content->empty()) {
      return Error(DSOPT_E_CORRUPT, "tokenizer.json: added token %zu lacks an id or content",
                   spec->added.size());
    }
    RETURN_IF_ERROR(GrowTo(*id, ids->size() + added.size(), spec));
    is_added->resize(spec->pieces.size(), false);
    std::string& piece = spec->pieces[*id];
    if ((*is_added)[*id] || (!piece.empty() && piece != *content)) {
      return Error(DSOPT_E_CORRUPT, "tokenizer.json: added token '%.80s' has id %u of piece '%.80s'",
                   content->c_str(), *id, piece.c_str());
    }
    piece = *content;
    (*is_added)[*id] = true;
    ids->emplace(*content, *id);
    AddedToken token{.id = *id};
    token.special = BoolMember(entry, "special", false);
    token.lstrip = BoolMember(entry, "lstrip", false);
    token.rstrip = BoolMember(entry, "rstrip", false);
    token.single_word = BoolMember(entry, "single_word", false);
    token.normalized = BoolMember(entry, "normalized", !token.special);
    if (token.special) spec->piece_flags[*id] |= kPieceControl;
    spec->added.push_back(token);
  }
  std::sort(spec->added.begin(), spec->added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return {};
}

// Pieces become raw bytes; spelled-out <0xNN> pieces get their flag.
void FinishPieces(const std::vector<bool>& is_added, TokenizerSpec* spec) {
  for (size_t id = 0; id < spec->pieces.size(); ++id) {
    std::string& piece = spec->pieces[id];
    if (spec->kind == TokenizerKind::kByteBpe) {
      if (is_added[id]) continue;
      if (std::optional<std::string> bytes = DecodePrintableBytes(piece)) piece = std::move(*bytes);
    } else if (spec->byte_fallback && piece.size() == 6 && piece.starts_with("<0x") && piece.ends_with(">")) {
      spec->piece_flags[id] |= kPieceByte;
    }
  }
  if (spec->unk >= 0) spec->piece_flags[static_cast<size_t>(spec->unk)] |= kPieceUnknown;
  if (spec->kind == TokenizerKind::kUnigram) spec->scores.resize(spec->pieces.size(), 0.0f);
}

}  // namespace

Result<TokenizerSpec> ImportTokenizerJson(std::string_view json, std::string_view tokenizer_config,
                                          std::string_view generation_config) {
  ASSIGN_OR_RETURN(const Json root, ParseJson(json, "tokenizer.json"));
  TokenizerSpec spec;
  Vocabulary ids;
  bool byte_level = false;
  RETURN_IF_ERROR(ReadNormalizer(Member(root, "normalizer"), &spec));
  RETURN_IF_ERROR(ReadPreTokenizer(Member(root, "pre_tokenizer"), &spec, &byte_level));
  RETURN_IF_ERROR(ReadDecoder(Member(root, "decoder"), &spec));
  RETURN_IF_ERROR(ReadPostProcessor(Member(root, "post_processor"), &spec));
  const Json& model = Member(root, "model");
  std::string_view type = StringMember(model, "type");
  if (type.empty()) type = Member(model, "merges").is_array() ? "BPE" : "Unigram";  // files older than the key
  if (type == "BPE") {
    RETURN_IF_ERROR(ReadBpe(model, byte_level, &ids, &spec));
  } else if (type == "Unigram") {
    RETURN_IF_ERROR(ReadUnigram(model, byte_level, &ids, &spec));
  } else {
    return Error(DSOPT_E_UNSUPPORTED, "tokenizer.json: model type '%.80s' is not supported",
                 std::string(type).c_str());
  }
  std::vector<bool> is_added(spec.pieces.size(), false);
  RETURN_IF_ERROR(ReadAddedTokens(Member(root, "added_tokens"), &ids, &is_added, &spec));
  is_added.resize(spec.pieces.size(), false);
  FinishPieces(is_added, &spec);
  if (!tokenizer_config.empty()) {
    ASSIGN_OR_RETURN(const Json config, ParseJson(tokenizer_config, "tokenizer_config.json"));
    ReadSpecialTokens(
        config, [&](std::string_view text) { return FindId(ids, text); }, &spec);
    ReadAddFlags(config, &spec);
  }
  if (!generation_config.empty()) {
    ASSIGN_OR_RETURN(const Json config, ParseJson(generation_config, "generation_config.json"));
    RETURN_IF_ERROR(ReadGenerationConfig(config, &spec));
  }
  FinishEndTokens(&spec);
  return spec;
}

}  // namespace dsopt
