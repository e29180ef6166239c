// bpe.cc - the merge loop. The tables it reads are built in bpe_tables.cc.
#include "text/bpe.h"

#include <algorithm>

#include "text/normalize.h"
#include "text/unicode_class.h"

namespace dsopt {
namespace {

constexpr uint32_t kNone = UINT32_MAX;
constexpr size_t kFewSymbols = 40;  // up to here a scan for the best pair beats a heap

}  // namespace

void AppendUnknown(const TokenizerSpec& spec, const std::array<int32_t, 256>& byte_pieces,
                   std::string_view bytes, bool* after_unknown, std::vector<int32_t>* tokens) {
  const auto piece = [&](char c) { return byte_pieces[static_cast<unsigned char>(c)]; };
  if (spec.byte_fallback && std::all_of(bytes.begin(), bytes.end(), [&](char c) { return piece(c) >= 0; })) {
    for (const char c : bytes) tokens->push_back(piece(c));
    *after_unknown = false;
    return;
  }
  if (spec.unk < 0) return;
  if (!(spec.fuse_unknown && *after_unknown)) tokens->push_back(spec.unk);
  *after_unknown = true;
}

void BpeModel::Encode(std::string_view text, Scratch* scratch, std::vector<int32_t>* tokens) const {
  scratch->after_unknown = false;
  if (spec_->ignore_merges) {
    if (const int32_t id = index_.Find(text); id >= 0) {
      tokens->push_back(id);
      return;
    }
  }
  if (!split_words_) return EncodeWord(text, scratch, tokens);
  // A word is a run of U+2581 and what follows up to the next one.
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = begin;
    while (text.substr(end).starts_with(kEscapedSpace)) end += kEscapedSpace.size();
    end = std::min(text.find(kEscapedSpace, end), text.size());
    EncodeWord(text.substr(begin, end - begin), scratch, tokens);
    begin = end;
  }
}

void BpeModel::EncodeWord(std::string_view word, Scratch* scratch, std::vector<int32_t>* tokens) const {
  if (const int32_t id = index_.Find(word); id >= 0 && whole_[static_cast<size_t>(id)]) {
    tokens->push_back(id);
    scratch->after_unknown = false;
    return;
  }
  MakeSymbols(word, scratch);
  if (scratch->symbols.empty()) return;
  if (scratch->symbols.size() <= kFewSymbols)
    MergeFew(scratch);
  else
    MergeMany(scratch);
  for (uint32_t i = 0; i != kNone; i = scratch->symbols[i].next) {
    const Scratch::Symbol& s = scratch->symbols[i];
    Output(s.id, word.substr(s.begin, s.end - s.begin), scratch, tokens);
  }
  if (has_unused_) scratch->unused.clear();
}

void BpeModel::MakeSymbols(std::string_view word, Scratch* scratch) const {
  auto& symbols = scratch->symbols;
  symbols.clear();
  const bool drops_unknown = spec_->unk < 0 && !spec_->byte_fallback;
  for (size_t pos = 0; pos < word.size();) {
    size_t length = 1;
    uint32_t id;
    if (bytes_) {
      const int32_t piece = byte_ids_[static_cast<unsigned char>(word[pos])];
      id = piece >= 0 ? static_cast<uint32_t>(piece) : kUnknownSymbol;
    } else {
      size_t defined = 0;
      uint32_t user_id = 0;
      if (user_defined_.CanStart(word[pos])) {
        user_defined_.Match(word, pos, [&](size_t matched, uint32_t value) {
          defined = matched;
          user_id = value;
        });
      }
      length = defined > 0 ? defined : Utf8Length(word[pos]);
      id = defined > 0 ? (user_id | kFrozenBit) : CharSymbol(word.substr(pos, length));
    }
    const bool unknown = id >= kUnknownSymbol && id < kFrozenBit;
    if (!(unknown && drops_unknown)) {
      const auto at = static_cast<uint32_t>(symbols.size());
      symbols.push_back({id, at - 1, at + 1, static_cast<uint32_t>(pos), static_cast<uint32_t>(pos + length)});
    }
    pos += length;
  }
  if (symbols.empty()) return;
  symbols.front().previous = kNone;
  symbols.back().next = kNone;
}

void BpeModel::NoteUnused(uint32_t a, uint32_t b, const Merge& merge, Scratch* scratch) const {
  if (has_unused_ && HasFlag(merge.result, kPieceUnused)) scratch->unused[merge.result] = {a, b};
}

// Repeats: scan for the lowest rank, leftmost first; merge. Quadratic in at most kFewSymbols.
void BpeModel::MergeFew(Scratch* scratch) const {
  auto& symbols = scratch->symbols;
  const Merge* best[kFewSymbols];
  const auto look = [&](uint32_t i) {
    const uint32_t next = symbols[i].next;
    best[i] = next == kNone ? nullptr : FindMerge(symbols[i].id, symbols[next].id);
    if (best[i] != nullptr) NoteUnused(symbols[i].id, symbols[next].id, *best[i], scratch);
  };
  for (uint32_t i = 0; i < symbols.size(); ++i) look(i);
  for (;;) {
    uint32_t chosen = kNone;
    for (uint32_t i = 0; i != kNone; i = symbols[i].next) {
      if (best[i] != nullptr && (chosen == kNone || best[i]->rank < best[chosen]->rank)) chosen = i;
    }
    if (chosen == kNone) return;
    Scratch::Symbol& left = symbols[chosen];
    const Scratch::Symbol& right = symbols[left.next];
    left.id = best[chosen]->result;
    left.end = right.end;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = chosen;
    look(chosen);
    if (left.previous != kNone) look(left.previous);
  }
}

void BpeModel::Push(uint32_t left, Scratch* scratch) const {
  const auto& symbols = scratch->symbols;
  const uint32_t right = symbols[left].next;
  if (right == kNone) return;
  const Merge* merge = FindMerge(symbols[left].id, symbols[right].id);
  if (merge == nullptr) return;
  NoteUnused(symbols[left].id, symbols[right].id, *merge, scratch);
  scratch->heap.push_back({merge->rank, left, uint64_t{symbols[left].id} << 32 | symbols[right].id});
  std::push_heap(scratch->heap.begin(), scratch->heap.end(), [](const auto& a, const auto& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  });
}

// The same order of merges from a heap whose stale entries are recognised when they come out.
void BpeModel::MergeMany(Scratch* scratch) const {
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  heap.clear();
  for (uint32_t i = 0; i < symbols.size(); ++i) Push(i, scratch);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), [](const auto& a, const auto& b) {
      return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
    });
    const Scratch::Candidate candidate = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[candidate.left];
    if (left.begin == left.end || left.next == kNone) continue;
    Scratch::Symbol& right = symbols[left.next];
    if (candidate.pair != (uint64_t{left.id} << 32 | right.id)) continue;
    left.id = FindMerge(left.id, right.id)->result;
    left.end = right.end;
    right.begin = right.end;  // gone
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = candidate.left;
    Push(candidate.left, scratch);
    if (left.previous != kNone) Push(left.previous, scratch);
  }
}

void BpeModel::Output(uint32_t id, std::string_view bytes, Scratch* scratch,
                      std::vector<int32_t>* tokens) const {
  if (id >= kFrozenBit) id -= kFrozenBit;
  if (id >= kUnknownSymbol) {
    AppendUnknown(*spec_, byte_pieces_, bytes, &scratch->after_unknown, tokens);
    return;
  }
  if (has_unused_ && HasFlag(id, kPieceUnused)) {
    const auto it = scratch->unused.find(id);
    if (it != scratch->unused.end()) {
      // Parts are shorter pieces or characters, so this ends; the length of a part is that of its bytes.
      const auto [a, b] = it->second;
      const size_t cut = a < kUnknownSymbol ? spec_->pieces[a].size() : Utf8Length(bytes[0]);
      Output(a, bytes.substr(0, cut), scratch, tokens);
      Output(b, bytes.substr(cut), scratch, tokens);
      return;
    }
  }
  scratch->after_unknown = false;
  tokens->push_back(static_cast<int32_t>(id));
}

}  // namespace dsopt
