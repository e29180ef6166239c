// defaults.h - what a description means where it leaves a number 0: see include/dsopt/backend.h and ops.h.
#ifndef DSOPT_KERNELS_SHARED_DEFAULTS_H_
#define DSOPT_KERNELS_SHARED_DEFAULTS_H_

#include <cmath>
#include <cstdint>

namespace dsopt_shared {

inline float ScaleOrOne(float scale) { return scale != 0.0f ? scale : 1.0f; }
// Of attention's scores.
inline float ScoreScale(float scale, uint32_t head_dim) {
  return scale != 0.0f ? scale : 1.0f / std::sqrt(static_cast<float>(head_dim));
}

}  // namespace dsopt_shared
#endif  // DSOPT_KERNELS_SHARED_DEFAULTS_H_
