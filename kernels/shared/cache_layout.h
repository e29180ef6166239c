// cache_layout.h - bytes of the vectors of every cache type, as dsopt_program_desc says.
#ifndef DSOPT_KERNELS_SHARED_CACHE_LAYOUT_H_
#define DSOPT_KERNELS_SHARED_CACHE_LAYOUT_H_

#include <cstdint>

#include "dsopt/backend.h"

namespace dsopt_shared {

inline constexpr uint32_t kCacheGroup = 32;  // values of I4 that share a word

inline bool IsCacheType(dsopt_dtype kv_dtype) {
  return kv_dtype == DSOPT_F32 || kv_dtype == DSOPT_BF16 || kv_dtype == DSOPT_F8_E4M3 || kv_dtype == DSOPT_I8 ||
         kv_dtype == DSOPT_I4;
}

// Codes and words of one vector.
inline uint64_t CacheVectorBytes(dsopt_dtype kv_dtype, uint32_t values) {
  switch (kv_dtype) {
    case DSOPT_F8_E4M3:
    case DSOPT_I8:
      return uint64_t{values} + 4;
    case DSOPT_I4:
      return values / 2 + (uint64_t{values} + kCacheGroup - 1) / kCacheGroup * 4;
    case DSOPT_BF16:
      return uint64_t{values} * 2;
    default:
      return uint64_t{values} * 4;
  }
}

}  // namespace dsopt_shared
#endif  // DSOPT_KERNELS_SHARED_CACHE_LAYOUT_H_
