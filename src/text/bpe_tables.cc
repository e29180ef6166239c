// bpe_tables.cc - builds the lookup tables of BpeModel from a spec.
#include <algorithm>
#include <numeric>

#include "text/bpe.h"
#include "text/normalize.h"
#include "text/unicode_class.h"

namespace dsopt {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// A character that is not U+2581 directly before U+2581.
bool HasInnerSpace(std::string_view piece) {
  for (size_t at = piece.find(kEscapedSpace, 1); at != std::string_view::npos;
       at = piece.find(kEscapedSpace, at + 1)) {
    if (!piece.substr(0, at).ends_with(kEscapedSpace)) return true;
  }
  return false;
}

// Rank of each piece: its id, or its place among the scores, best first; equal scores share one.
std::vector<uint32_t> PieceRanks(const TokenizerSpec& spec) {
  std::vector<uint32_t> ranks(spec.pieces.size());
  std::iota(ranks.begin(), ranks.end(), 0u);
  if (spec.kind != TokenizerKind::kScoreBpe) return ranks;
  std::vector<uint32_t> order = ranks;
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return spec.scores[a] > spec.scores[b]; });
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && spec.scores[order[i]] != spec.scores[order[i - 1]]) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

}  // namespace

std::array<int32_t, 256> FindBytePieces(const TokenizerSpec& spec) {
  std::array<int32_t, 256> out;
  out.fill(-1);
  for (uint32_t id = 0; id < spec.pieces.size(); ++id) {
    const std::string& piece = spec.pieces[id];
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') continue;
    const int high = HexDigit(piece[3]), low = HexDigit(piece[4]);
    if (high < 0 || low < 0) continue;
    if (int32_t& slot = out[static_cast<size_t>(high * 16 + low)]; slot < 0) slot = static_cast<int32_t>(id);
  }
  return out;
}

Status BpeModel::Init(const TokenizerSpec& spec, const std::vector<bool>& is_added) {
  spec_ = &spec;
  bytes_ = spec.kind == TokenizerKind::kByteBpe;
  byte_pieces_ = FindBytePieces(spec);
  index_.Init(spec.pieces);
  // Of pieces with equal bytes the model's own goes before an added token.
  for (const bool added : {false, true}) {
    for (uint32_t id = 0; id < spec.pieces.size(); ++id) {
      if (is_added[id] != added || spec.pieces[id].empty()) continue;
      if (!HasFlag(id, kPieceControl | kPieceByte | kPieceUnknown)) index_.Insert(id);
      has_unused_ = has_unused_ || HasFlag(id, kPieceUnused);
      if (!bytes_ && !added && HasFlag(id, kPieceUserDefined)) user_defined_.Insert(spec.pieces[id], id);
    }
  }
  for (size_t b = 0; bytes_ && b < 256; ++b) {
    const char c = static_cast<char>(b);
    byte_ids_[b] = index_.Find(std::string_view(&c, 1));
  }
  if (spec.kind == TokenizerKind::kScoreBpe || spec.merges_by_id) {
    RETURN_IF_ERROR(AddDerivedMerges());
  } else {
    RETURN_IF_ERROR(AddMergeList());
  }
  if (!bytes_) FindWordBoundaries();
  MarkWholePieces();
  return {};
}

Status BpeModel::AddMergeList() {
  merges_.Reserve(spec_->merges.size());
  std::string joined;
  for (uint32_t rank = 0; rank < spec_->merges.size(); ++rank) {
    const auto& [a, b] = spec_->merges[rank];
    joined.assign(spec_->pieces[a]).append(spec_->pieces[b]);
    const int32_t result = index_.Find(joined);
    if (result < 0) {
      return Error(DSOPT_E_CORRUPT,
                   "tokenizer: merge %u joins pieces %u and %u, expected a piece of %zu bytes that "
                   "is their concatenation",
                   rank, a, b, joined.size());
    }
    merges_.Insert(uint64_t{a} << 32 | b, {rank, static_cast<uint32_t>(result)});
  }
  return {};
}

// Without a list every cut of a piece into two known halves is a merge.
Status BpeModel::AddDerivedMerges() {
  constexpr size_t kMaxPieceBytes = 1024;  // a piece of n bytes costs n lookups of n bytes
  const std::vector<uint32_t> ranks = PieceRanks(*spec_);
  const auto symbol = [&](std::string_view part) -> uint32_t {
    if (!bytes_ && part.size() == Utf8Length(part[0])) return CharSymbol(part);
    const int32_t id = index_.Find(part);
    return id >= 0 ? static_cast<uint32_t>(id) : UINT32_MAX;
  };
  merges_.Reserve(spec_->pieces.size());
  for (uint32_t id = 0; id < spec_->pieces.size(); ++id) {
    const std::string_view piece = spec_->pieces[id];
    if (piece.empty() || index_.Find(piece) != static_cast<int32_t>(id)) continue;
    if (piece.size() > kMaxPieceBytes) {
      return Error(DSOPT_E_UNSUPPORTED, "tokenizer: piece %u has %zu bytes, at most %zu are supported", id,
                   piece.size(), kMaxPieceBytes);
    }
    for (size_t cut = bytes_ ? 1 : Utf8Length(piece[0]); cut < piece.size();
         cut += bytes_ ? 1 : Utf8Length(piece[cut])) {
      const uint32_t left = symbol(piece.substr(0, cut));
      if (left == UINT32_MAX) continue;
      const uint32_t right = symbol(piece.substr(cut));
      if (right != UINT32_MAX) merges_.Insert(uint64_t{left} << 32 | right, {ranks[id], id});
    }
  }
  return {};
}

uint32_t BpeModel::CharSymbol(std::string_view bytes) const {
  const int32_t id = index_.Find(bytes);
  return id >= 0 ? static_cast<uint32_t>(id) : kUnknownSymbol + CharAt(bytes, 0).code_point;
}

void BpeModel::FindWordBoundaries() {
  split_words_ = true;
  // A merge that crosses makes a piece with an inner U+2581; the reverse need not hold, which only costs speed.
  for (uint32_t id = 0; id < spec_->pieces.size() && split_words_; ++id) {
    split_words_ = HasFlag(id, kPieceControl) || index_.Find(spec_->pieces[id]) != static_cast<int32_t>(id) ||
                   !HasInnerSpace(spec_->pieces[id]);
  }
}

void BpeModel::MarkWholePieces() {
  constexpr size_t kMaxWord = 64;
  whole_.assign(spec_->pieces.size(), false);
  if (spec_->ignore_merges && bytes_) return;  // Encode has looked already
  std::vector<bool> whole(spec_->pieces.size(), false);
  Scratch scratch;
  std::vector<int32_t> tokens;
  for (uint32_t id = 0; id < spec_->pieces.size(); ++id) {
    const std::string& piece = spec_->pieces[id];
    if (piece.empty() || piece.size() > kMaxWord || index_.Find(piece) != static_cast<int32_t>(id)) continue;
    tokens.clear();
    scratch.after_unknown = false;
    EncodeWord(piece, &scratch, &tokens);
    whole[id] = tokens.size() == 1 && tokens[0] == static_cast<int32_t>(id);
  }
  whole_ = std::move(whole);
}

}  // namespace dsopt
