// unigram.h - sentencepiece unigram: the segmentation with the largest sum of scores (Viterbi).
#ifndef DSOPT_TEXT_UNIGRAM_H_
#define DSOPT_TEXT_UNIGRAM_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "spec/tokenizer_spec.h"
#include "text/byte_trie.h"

namespace dsopt {

// [thread-compatible]; concurrent Encode is fine. Keeps a pointer to the spec.
class UnigramModel {
 public:
  Status Init(const TokenizerSpec& spec);
  // O(n * longest piece), the longest being at most 512 bytes.
  void Encode(std::string_view text, std::vector<int32_t>* tokens) const;

 private:
  const TokenizerSpec* spec_ = nullptr;
  std::array<int32_t, 256> byte_pieces_{};
  std::vector<float> scores_;  // by id, as the search counts them
  float unknown_score_ = 0;
  ByteTrie trie_;
};

}  // namespace dsopt
#endif  // DSOPT_TEXT_UNIGRAM_H_
