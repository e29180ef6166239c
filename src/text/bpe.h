// bpe.h - merges symbols of one piece of text: by a merge list, by piece rank or by piece score. Not for:
// normalization, added tokens, pre-tokenizers (tokenizer.cc puts those around it).
#ifndef DSOPT_TEXT_BPE_H_
#define DSOPT_TEXT_BPE_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"
#include "spec/tokenizer_spec.h"
#include "text/byte_trie.h"
#include "text/flat_map.h"

namespace dsopt {

// <0xNN> pieces by byte, -1 where there is none.
std::array<int32_t, 256> FindBytePieces(const TokenizerSpec& spec);

// Appends what stands for a character without a piece: its <0xNN> pieces, or the unknown token (one for a run
// of them with fuse_unknown; *after_unknown carries that state), or nothing.
void AppendUnknown(const TokenizerSpec& spec, const std::array<int32_t, 256>& byte_pieces,
                   std::string_view bytes, bool* after_unknown, std::vector<int32_t>* tokens);

// [thread-compatible]; concurrent Encode is fine. Keeps a pointer to the spec.
class BpeModel {
 public:
  // The working memory of one Encode call of the tokenizer; reused from piece to piece.
  struct Scratch {
    struct Symbol {
      uint32_t id, previous, next, begin, end;  // begin, end: bytes of the piece
    };
    struct Candidate {
      uint32_t rank, left;
      uint64_t pair;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
    std::unordered_map<uint32_t, std::pair<uint32_t, uint32_t>> unused;  // how an unused piece came about
    bool after_unknown = false;
  };

  // spec is checked already (ids in range, sizes consistent). Fails when a merge makes no piece.
  Status Init(const TokenizerSpec& spec, const std::vector<bool>& is_added);
  // text is one pre-token. O(n log n).
  void Encode(std::string_view text, Scratch* scratch, std::vector<int32_t>* tokens) const;

 private:
  struct Merge {
    uint32_t rank = 0, result = 0;
  };
  Status AddMergeList();
  Status AddDerivedMerges();
  void MarkWholePieces();
  void FindWordBoundaries();
  void EncodeWord(std::string_view word, Scratch* scratch, std::vector<int32_t>* tokens) const;
  void MakeSymbols(std::string_view word, Scratch* scratch) const;
  void MergeFew(Scratch* scratch) const;
  void MergeMany(Scratch* scratch) const;
  void Push(uint32_t left, Scratch* scratch) const;
  void NoteUnused(uint32_t a, uint32_t b, const Merge& merge, Scratch* scratch) const;
  void Output(uint32_t id, std::string_view bytes, Scratch* scratch, std::vector<int32_t>* tokens) const;
  const Merge* FindMerge(uint32_t a, uint32_t b) const { return merges_.Find(uint64_t{a} << 32 | b); }
  bool HasFlag(uint32_t id, uint8_t flag) const {
    return id < spec_->piece_flags.size() && (spec_->piece_flags[id] & flag) != 0;
  }
  // The piece of one character, or kUnknownSymbol + its code point.
  uint32_t CharSymbol(std::string_view bytes) const;

  // Symbols are piece ids, characters without a piece, or pieces that take no part in merges.
  static constexpr uint32_t kUnknownSymbol = 0x40000000u, kFrozenBit = 0x80000000u;

  const TokenizerSpec* spec_ = nullptr;
  bool bytes_ = false;        // symbols start as bytes, not as characters
  bool split_words_ = false;  // no merge crosses from a word into a following U+2581
  bool has_unused_ = false;
  PieceIndex index_;                        // all pieces that plain text may become
  std::vector<bool> whole_;                 // a word equal to the piece becomes just the piece
  std::array<int32_t, 256> byte_ids_{};     // kByteBpe: the piece of one byte
  std::array<int32_t, 256> byte_pieces_{};  // <0xNN>
  ByteTrie user_defined_;                   // kScoreBpe: matched as a whole, never merged
  FlatMap<Merge> merges_;
};

}  // namespace dsopt
#endif  // DSOPT_TEXT_BPE_H_
