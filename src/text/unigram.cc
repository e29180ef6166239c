#include "text/unigram.h"

#include <algorithm>
#include <limits>

#include "text/bpe.h"
#include "text/unicode_class.h"

namespace dsopt {

Status UnigramModel::Init(const TokenizerSpec& spec) {
  constexpr size_t kMaxPieceBytes = 512;
  constexpr float kUnknownPenalty = 10.0f;  // sentencepiece's kUnkPenalty
  spec_ = &spec;
  byte_pieces_ = FindBytePieces(spec);
  scores_ = spec.scores;
  const auto has = [&](uint32_t id, uint8_t flags) {
    return id < spec.piece_flags.size() && (spec.piece_flags[id] & flags) != 0;
  };
  // As in sentencepiece: the largest score is not below FLT_MIN, so a user-defined piece nearly always wins.
  float least = 0, most = std::numeric_limits<float>::min();
  bool any = false;
  for (uint32_t id = 0; id < spec.pieces.size(); ++id) {
    if (has(id, kPieceControl | kPieceByte | kPieceUnknown | kPieceUnused | kPieceUserDefined)) continue;
    least = any ? std::min(least, spec.scores[id]) : spec.scores[id];
    most = std::max(most, spec.scores[id]);
    any = true;
  }
  unknown_score_ = least - kUnknownPenalty;
  for (uint32_t id = 0; id < spec.pieces.size(); ++id) {
    const std::string& piece = spec.pieces[id];
    if (has(id, kPieceControl | kPieceByte | kPieceUnknown | kPieceUnused) || piece.empty()) continue;
    if (static_cast<int32_t>(id) == spec.unk) continue;
    if (piece.size() > kMaxPieceBytes) {
      return Error(DSOPT_E_UNSUPPORTED, "tokenizer: piece %u has %zu bytes, at most %zu are supported", id,
                   piece.size(), kMaxPieceBytes);
    }
    if (has(id, kPieceUserDefined)) scores_[id] = static_cast<float>(piece.size()) * most - 0.1f;
    trie_.Insert(piece, id);
  }
  return {};
}

void UnigramModel::Encode(std::string_view text, std::vector<int32_t>* tokens) const {
  struct Best {
    float score = 0;
    uint32_t length = 0;  // bytes of the last piece of the best path that ends here; 0: no path yet
    int32_t id = -1;      // -1: an unknown character
  };
  std::vector<Best> best(text.size() + 1);
  const auto offer = [&](size_t end, float score, size_t length, int32_t id) {
    Best& b = best[end];
    if (b.length == 0 || score > b.score) b = {score, static_cast<uint32_t>(length), id};
  };
  for (size_t pos = 0; pos < text.size(); pos += Utf8Length(text[pos])) {
    const size_t char_length = Utf8Length(text[pos]);
    const float score = best[pos].score;
    bool single = false;
    trie_.Match(text, pos, [&](size_t length, uint32_t id) {
      single = single || length == char_length;
      offer(pos + length, score + scores_[id], length, static_cast<int32_t>(id));
    });
    if (!single) offer(pos + char_length, score + unknown_score_, char_length, -1);
  }
  std::vector<std::pair<uint32_t, int32_t>> path;  // end, id; last piece first
  for (size_t end = text.size(); end > 0; end -= best[end].length) {
    path.emplace_back(static_cast<uint32_t>(end), best[end].id);
  }
  bool after_unknown = false;
  for (auto it = path.rbegin(); it != path.rend(); ++it) {
    const auto [end, id] = *it;
    if (id < 0) {
      const uint32_t length = best[end].length;
      AppendUnknown(*spec_, byte_pieces_, text.substr(end - length, length), &after_unknown, tokens);
    } else {
      tokens->push_back(id);
      after_unknown = false;
    }
  }
}

}  // namespace dsopt
