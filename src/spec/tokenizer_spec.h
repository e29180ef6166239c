// tokenizer_spec.h - a tokenizer as plain data: what importers produce, the file stores and text/ executes.
// Regular expressions never come from a file: pre-tokenizers are named.
#ifndef DSOPT_SPEC_TOKENIZER_SPEC_H_
#define DSOPT_SPEC_TOKENIZER_SPEC_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace dsopt {

enum class TokenizerKind : uint8_t {
  kNone = 0,
  kByteBpe = 1,   // text -> bytes -> merges (GPT-2, Llama 3, DeepSeek). Pieces are raw bytes.
  kCharBpe = 2,   // text -> characters -> merges, bytes as <0xNN> pieces (Llama 2, Mistral in tokenizer.json)
  kScoreBpe = 3,  // sentencepiece BPE: the adjacent pair whose piece has the best score is merged first
  kUnigram = 4,   // sentencepiece unigram: the segmentation with the largest sum of scores
};

// How text is cut before merging. Unknown values are refused.
enum class PreTokenizer : uint8_t {
  kNone = 0, kGpt2 = 1, kLlama3 = 2, kDeepseekLlm = 3, kDeepseekCoder = 4, kQwen2 = 5, kMetaspaceSplit = 6,
  kDeepseekV3 = 7,
};

// Piece flags.
enum : uint8_t {
  kPieceControl = 1,     // special: never produced from plain text
  kPieceByte = 2,        // <0xNN>: stands for one byte
  kPieceUnknown = 4,
  kPieceUnused = 8,
  kPieceUserDefined = 16,
};

// A token that is matched in the text as a whole, before the pre-tokenizer.
struct AddedToken {
  uint32_t id = 0;
  bool special = false;      // a control token: matched only when the caller asks for special tokens
  bool lstrip = false, rstrip = false;  // swallow white space on that side
  bool single_word = false;
  bool normalized = false;   // matched after the normalizer
  bool operator==(const AddedToken&) const = default;
};

struct TokenizerSpec {
  TokenizerKind kind = TokenizerKind::kNone;
  PreTokenizer pre_tokenizer = PreTokenizer::kNone;
  std::vector<std::string> pieces;   // raw bytes, by id. kCharBpe/kScoreBpe/kUnigram keep U+2581 for a space
  std::vector<uint8_t> piece_flags;  // one per piece, or empty: all 0
  std::vector<float> scores;         // kScoreBpe, kUnigram: one per piece
  std::vector<std::pair<uint32_t, uint32_t>> merges;  // kByteBpe, kCharBpe: pairs of piece ids, best first
  bool merges_by_id = false;         // kByteBpe: no merge list; the pair whose concatenation has the lowest
                                     // id is merged first (tiktoken ranks)
  bool ignore_merges = false;        // a whole pre-token that is a piece is taken as it is
  bool byte_fallback = false;        // characters without a piece become <0xNN> pieces
  bool fuse_unknown = false;         // adjacent unknown characters become one unknown piece
  // normalizer
  bool strip_left = false, strip_right = false;  // white space at the ends of a section, before all else
  bool nfc = false, nfkc = false;
  bool add_dummy_prefix = false;     // a space before the text (before each section between added tokens if
  bool prefix_first_only = false;    // ... not prefix_first_only: before the very first section only)
  bool prefix_unless_space = false;  // ... and not where the section starts with a space (HF Metaspace)
  bool escape_spaces = false;        // ' ' -> U+2581
  bool collapse_spaces = false;      // sentencepiece remove_extra_whitespaces
  bool add_prefix_space = false;     // byte-level: a space before the first word
  bool strip_leading_space = false;  // decoder: drop one space at the very beginning of the text
  std::vector<AddedToken> added;     // sorted by id
  std::vector<std::pair<std::string, std::string>> replacements;  // further literal normalizer replacements
  int32_t bos = -1, eos = -1, unk = -1, pad = -1;
  std::vector<int32_t> end_tokens;   // all tokens that end a generation; includes eos
  std::vector<int32_t> prefix, suffix;  // what ADD_BOS puts around a text (post-processor template)
  bool operator==(const TokenizerSpec&) const = default;
};

}  // namespace dsopt
#endif  // DSOPT_SPEC_TOKENIZER_SPEC_H_
