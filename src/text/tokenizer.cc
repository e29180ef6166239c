// tokenizer.cc - puts the stages together: added tokens, normalizer, pre-tokenizer, model; and back to bytes.
#include "text/tokenizer.h"

#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalize.h"
#include "text/pretokenize.h"
#include "text/unigram.h"

namespace dsopt {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;
constexpr uint32_t kMaxPieces = 1u << 24;

Status CheckIds(const char* what, const std::vector<int32_t>& ids, size_t pieces) {
  for (const int32_t id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= pieces) {
      return Error(DSOPT_E_CORRUPT, "tokenizer: %s token %d, expected 0..%zu", what, id, pieces - 1);
    }
  }
  return {};
}

Status CheckAdded(const TokenizerSpec& spec) {
  for (size_t i = 0; i < spec.added.size(); ++i) {
    const uint32_t id = spec.added[i].id;
    if (id >= spec.pieces.size()) {
      return Error(DSOPT_E_CORRUPT, "tokenizer: added token %u, expected less than %zu", id,
                   spec.pieces.size());
    }
    if (i > 0 && id <= spec.added[i - 1].id) {
      return Error(DSOPT_E_CORRUPT, "tokenizer: added token %u after %u, expected rising ids", id,
                   spec.added[i - 1].id);
    }
    if (spec.pieces[id].size() > 1024) {
      return Error(DSOPT_E_UNSUPPORTED, "tokenizer: added token %u has %zu bytes, at most 1024 are supported",
                   id, spec.pieces[id].size());
    }
    if (!IsValidUtf8(spec.pieces[id])) {
      return Error(DSOPT_E_CORRUPT, "tokenizer: added token %u is not valid UTF-8", id);
    }
  }
  return {};
}

Status CheckModel(const TokenizerSpec& spec) {
  const size_t pieces = spec.pieces.size();
  const bool scored = spec.kind == TokenizerKind::kScoreBpe || spec.kind == TokenizerKind::kUnigram;
  if (scored && spec.scores.size() != pieces) {
    return Error(DSOPT_E_CORRUPT, "tokenizer: %zu scores, expected %zu", spec.scores.size(), pieces);
  }
  for (size_t i = 0; scored && i < pieces; ++i) {
    if (!std::isfinite(spec.scores[i])) return Error(DSOPT_E_CORRUPT, "tokenizer: score %zu is not finite", i);
  }
  if (spec.kind != TokenizerKind::kByteBpe) {
    for (size_t i = 0; i < pieces; ++i) {
      if (!IsValidUtf8(spec.pieces[i])) {
        return Error(DSOPT_E_CORRUPT, "tokenizer: piece %zu is not valid UTF-8", i);
      }
    }
  }
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const auto& [a, b] = spec.merges[i];
    if (a >= pieces || b >= pieces) {
      return Error(DSOPT_E_CORRUPT, "tokenizer: merge %zu joins %u and %u, expected less than %zu", i, a, b,
                   pieces);
    }
  }
  return {};
}

Status CheckSpec(const TokenizerSpec& spec) {
  if (spec.kind < TokenizerKind::kByteBpe || spec.kind > TokenizerKind::kUnigram) {
    return Error(DSOPT_E_UNSUPPORTED, "tokenizer: kind %d, expected 1..4", static_cast<int>(spec.kind));
  }
  if (!IsKnownPreTokenizer(spec.pre_tokenizer)) {
    return Error(DSOPT_E_UNSUPPORTED, "tokenizer: pre-tokenizer %d is not known",
                 static_cast<int>(spec.pre_tokenizer));
  }
  if (spec.pieces.empty() || spec.pieces.size() > kMaxPieces) {
    return Error(DSOPT_E_CORRUPT, "tokenizer: %zu pieces, expected 1..%u", spec.pieces.size(), kMaxPieces);
  }
  if (!spec.piece_flags.empty() && spec.piece_flags.size() != spec.pieces.size()) {
    return Error(DSOPT_E_CORRUPT, "tokenizer: %zu piece flags, expected %zu", spec.piece_flags.size(),
                 spec.pieces.size());
  }
  RETURN_IF_ERROR(CheckModel(spec));
  RETURN_IF_ERROR(CheckAdded(spec));
  for (const int32_t id : {spec.bos, spec.eos, spec.unk, spec.pad}) {
    if (id != -1) RETURN_IF_ERROR(CheckIds("bos, eos, unk or pad", {id}, spec.pieces.size()));
  }
  RETURN_IF_ERROR(CheckIds("end", spec.end_tokens, spec.pieces.size()));
  RETURN_IF_ERROR(CheckIds("prefix", spec.prefix, spec.pieces.size()));
  RETURN_IF_ERROR(CheckIds("suffix", spec.suffix, spec.pieces.size()));
  for (const auto& [from, to] : spec.replacements) {
    if (from.empty()) return Error(DSOPT_E_CORRUPT, "tokenizer: a replacement of nothing");
    if (!IsValidUtf8(from) || !IsValidUtf8(to)) {
      return Error(DSOPT_E_CORRUPT, "tokenizer: a replacement is not valid UTF-8");
    }
  }
  return {};
}

class TokenizerImpl final : public Tokenizer {
 public:
  explicit TokenizerImpl(TokenizerSpec spec) : spec_(std::move(spec)) {}

  Status Init() {
    std::vector<bool> is_added(spec_.pieces.size(), false);
    control_.assign(spec_.pieces.size(), false);
    end_.assign(spec_.pieces.size(), false);
    for (size_t id = 0; id < spec_.piece_flags.size(); ++id) {
      control_[id] = (spec_.piece_flags[id] & kPieceControl) != 0;
    }
    for (const AddedToken& token : spec_.added) {
      is_added[token.id] = true;
      if (token.special) control_[token.id] = true;
    }
    for (const int32_t id : spec_.end_tokens) end_[static_cast<size_t>(id)] = true;
    if (spec_.eos >= 0) end_[static_cast<size_t>(spec_.eos)] = true;
    identity_ = IsIdentityNormalizer(spec_);
    RETURN_IF_ERROR(raw_added_.Init(spec_, false));
    RETURN_IF_ERROR(normalized_added_.Init(spec_, true));
    if (spec_.kind == TokenizerKind::kUnigram) {
      RETURN_IF_ERROR(unigram_.Init(spec_));
    } else {
      RETURN_IF_ERROR(bpe_.Init(spec_, is_added));
    }
    MakeDecodedPieces();
    return {};
  }

  Status Encode(std::string_view text, uint32_t flags, std::vector<int32_t>* tokens) const override {
    if (text.size() > kMaxTextBytes) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "text: %zu bytes, at most %zu can be tokenized", text.size(),
                   kMaxTextBytes);
    }
    if (const size_t offset = InvalidUtf8Offset(text); offset != std::string_view::npos) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "text: invalid UTF-8 at byte %zu", offset);
    }
    const size_t before = tokens->size();
    const bool add = (flags & DSOPT_TOKENIZE_ADD_BOS) != 0;
    if (add) tokens->insert(tokens->end(), spec_.prefix.begin(), spec_.prefix.end());
    if (Status status = EncodeSections(text, (flags & DSOPT_TOKENIZE_PARSE_SPECIAL) != 0, tokens);
        !status.ok()) {
      tokens->resize(before);
      return status;
    }
    if (add) tokens->insert(tokens->end(), spec_.suffix.begin(), spec_.suffix.end());
    return {};
  }

  std::string_view TokenBytes(int32_t token, bool first) const override {
    if (token < 0 || static_cast<size_t>(token) >= spec_.pieces.size()) return {};
    const auto id = static_cast<size_t>(token);
    std::string_view bytes = decoded_.empty() ? spec_.pieces[id] : decoded_[id];
    if (first && spec_.strip_leading_space && !control_[id] && bytes.starts_with(' ')) bytes.remove_prefix(1);
    return bytes;
  }

  Status Decode(std::span<const int32_t> tokens, uint32_t flags, std::string* out) const override {
    const size_t before = out->size();
    for (const int32_t token : tokens) {
      if (token < 0 || static_cast<size_t>(token) >= spec_.pieces.size()) {
        out->resize(before);
        return Error(DSOPT_E_INVALID_ARGUMENT, "token %d, expected 0..%zu", token, spec_.pieces.size() - 1);
      }
    }
    bool first = true;
    for (const int32_t token : tokens) {
      if ((flags & DSOPT_DETOKENIZE_SKIP_SPECIAL) != 0 && IsControl(token)) continue;
      out->append(TokenBytes(token, first));
      first = false;
    }
    return {};
  }

  bool IsControl(int32_t token) const override {
    return token >= 0 && static_cast<size_t>(token) < control_.size() && control_[static_cast<size_t>(token)];
  }
  bool IsEnd(int32_t token) const override {
    return token >= 0 && static_cast<size_t>(token) < end_.size() && end_[static_cast<size_t>(token)];
  }
  uint32_t vocab_size() const override { return static_cast<uint32_t>(spec_.pieces.size()); }
  const TokenizerSpec& spec() const override { return spec_; }

 private:
  struct Work {
    std::vector<uint32_t> ends;
    BpeModel::Scratch scratch;
  };

  void MakeDecodedPieces() {
    if (spec_.kind == TokenizerKind::kByteBpe) return;
    const std::array<int32_t, 256> bytes = FindBytePieces(spec_);
    decoded_.reserve(spec_.pieces.size());
    for (const std::string& piece : spec_.pieces) {
      std::string text;
      for (size_t pos = 0; pos < piece.size();) {
        const bool space = piece.compare(pos, kEscapedSpace.size(), kEscapedSpace) == 0;
        text += space ? ' ' : piece[pos];
        pos += space ? kEscapedSpace.size() : 1;
      }
      decoded_.push_back(std::move(text));
    }
    for (size_t b = 0; b < 256; ++b) {
      if (bytes[b] >= 0 && !control_[static_cast<size_t>(bytes[b])]) {
        decoded_[static_cast<size_t>(bytes[b])].assign(1, static_cast<char>(b));
      }
    }
  }

  Status EncodeSections(std::string_view text, bool parse_special, std::vector<int32_t>* tokens) const {
    Work work;
    std::vector<Section> sections, inner;
    raw_added_.Split(text, parse_special, &sections);
    for (const Section& section : sections) {
      if (section.token >= 0) {
        tokens->push_back(section.token);
        continue;
      }
      const bool first = section.text.data() == text.data();
      std::string normalized;
      std::string_view view = section.text;
      if (!identity_) {
        ASSIGN_OR_RETURN(normalized, Normalize(spec_, section.text, first));
        view = normalized;
      }
      if (view.size() > UINT32_MAX / 2) {
        return Error(DSOPT_E_INVALID_ARGUMENT,
                     "text: %zu bytes after normalization, at most %u can be tokenized", view.size(),
                     UINT32_MAX / 2);
      }
      inner.clear();
      normalized_added_.Split(view, parse_special, &inner);
      for (const Section& part : inner) {
        if (part.token >= 0)
          tokens->push_back(part.token);
        else
          EncodePlain(part.text, first && part.text.data() == view.data(), &work, tokens);
      }
    }
    return {};
  }

  void EncodePlain(std::string_view text, bool first, Work* work, std::vector<int32_t>* tokens) const {
    std::string prefixed;
    if (spec_.add_prefix_space || (spec_.add_dummy_prefix && spec_.prefix_unless_space)) {
      prefixed = text;
      AddMetaspacePrefix(spec_, first, &prefixed);
      text = prefixed;
    }
    if (spec_.pre_tokenizer == PreTokenizer::kNone) return EncodePiece(text, work, tokens);
    PreTokenize(spec_.pre_tokenizer, text, &work->ends);
    uint32_t begin = 0;
    for (const uint32_t end : work->ends) {
      EncodePiece(text.substr(begin, end - begin), work, tokens);
      begin = end;
    }
  }

  void EncodePiece(std::string_view piece, Work* work, std::vector<int32_t>* tokens) const {
    if (spec_.kind == TokenizerKind::kUnigram)
      unigram_.Encode(piece, tokens);
    else
      bpe_.Encode(piece, &work->scratch, tokens);
  }

  const TokenizerSpec spec_;
  std::vector<bool> control_, end_;
  std::vector<std::string> decoded_;  // bytes of each piece; empty: the pieces are bytes already
  bool identity_ = false;
  AddedTokenMatcher raw_added_, normalized_added_;
  BpeModel bpe_;
  UnigramModel unigram_;
};

}  // namespace

Result<std::unique_ptr<const Tokenizer>> Tokenizer::Create(TokenizerSpec spec) {
  RETURN_IF_ERROR(CheckSpec(spec));
  auto tokenizer = std::make_unique<TokenizerImpl>(std::move(spec));
  RETURN_IF_ERROR(tokenizer->Init());
  return std::unique_ptr<const Tokenizer>(std::move(tokenizer));
}

}  // namespace dsopt
