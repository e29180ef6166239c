// cache_codes.h - a cache of fewer bits: vectors as codes and one word per group, see dsopt_program_desc. How
// they are written, and where they lie in a page. Reading them is the innermost loops' business:
// Kernels::load_coded_*.
#ifndef DSOPT_CPU_CACHE_CODES_H_
#define DSOPT_CPU_CACHE_CODES_H_

#include "common.h"

namespace dsopt_cpu {

// kPlainCache for F32 and BF16.
CacheCode CacheCodeOf(dsopt_dtype kv_dtype);

// Of one vector.
constexpr uint32_t CacheCodeBytes(CacheCode code, uint32_t values) {
  return code == kCacheInt4 ? values / 2 : values;
}
constexpr uint32_t CacheWordBytes(CacheCode code, uint32_t values) {
  return 4 * (code == kCacheInt4 ? static_cast<uint32_t>(DivUp(values, kCacheGroup)) : 1);
}

// Where the vectors of one kind (K, V, latent, rotated part) lie in a layer's part of a page.
struct CodedPlace {
  uint32_t values;
  uint64_t codes, words;              // of head 0, position 0
  uint64_t code_stride, word_stride;  // from one position to the next
  uint64_t head_codes, head_words;    // from one head to the next
};

// [heads, positions] vectors whose codes begin at `codes` and whose words begin at `words`.
CodedPlace PlaceHeads(CacheCode code, uint32_t values, uint64_t codes, uint64_t words);

// The vectors of one head; `layer`: the layer's part of a page.
inline CodedVectors VectorsOf(const CodedPlace& place, CacheCode code, const uint8_t* layer, uint64_t head) {
  return {code,
          place.values,
          layer + place.codes + head * place.head_codes,
          place.code_stride,
          layer + place.words + head * place.head_words,
          place.word_stride};
}

// Writes the vector x[place.values] of a head at `slot` of the page.
void EncodeVector(CacheCode code, const float* x, const CodedPlace& place, uint64_t head, uint32_t slot,
                  uint8_t* layer);

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_CACHE_CODES_H_
