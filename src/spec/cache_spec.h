// cache_spec.h - how many bytes keys and values of a cache type take: the arithmetic of dsopt_program_desc (see
// dsopt/backend.h), without offsets and alignment.
#ifndef DSOPT_SPEC_CACHE_SPEC_H_
#define DSOPT_SPEC_CACHE_SPEC_H_

#include "spec/model_spec.h"

namespace dsopt {

inline constexpr uint32_t kPageTokens = 64;       // positions of one cache page
inline constexpr uint64_t kInt4CacheGroup = 32;  // values of an I4 cache that share a word

// Whether a cache may have this type.
inline bool IsCacheType(dsopt_dtype kv_dtype) {
  return kv_dtype == DSOPT_F32 || kv_dtype == DSOPT_BF16 || kv_dtype == DSOPT_F8_E4M3 || kv_dtype == DSOPT_I8 ||
         kv_dtype == DSOPT_I4;
}

// Codes and words of one vector (what one position has of one head).
inline uint64_t CacheVectorBytes(dsopt_dtype kv_dtype, uint64_t values) {
  switch (kv_dtype) {
    case DSOPT_F8_E4M3: case DSOPT_I8: return values + 4;
    case DSOPT_I4: return (values + 1) / 2 + (values + kInt4CacheGroup - 1) / kInt4CacheGroup * 4;
    default: return values * ElementBytes(kv_dtype);
  }
}

// What one layer of this kind keeps of one position.
inline uint64_t LayerTokenBytes(const LayerKind& kind, dsopt_dtype kv_dtype) {
  const AttentionSpec& a = kind.attention;
  if (kind.mixer == Mixer::kMla) {
    return CacheVectorBytes(kv_dtype, a.kv_lora_rank) + CacheVectorBytes(kv_dtype, a.rope.dim);
  }
  return 2 * uint64_t{a.kv_heads} * CacheVectorBytes(kv_dtype, a.head_dim);
}

}  // namespace dsopt
#endif  // DSOPT_SPEC_CACHE_SPEC_H_
