// group_codes.h - one group of values: its scale, its offset and its codes as small integers. Inside of
// encode.cc.
#ifndef DSOPT_QUANT_GROUP_CODES_H_
#define DSOPT_QUANT_GROUP_CODES_H_

#include <cstdint>

#include "dsopt/dsopt.h"

namespace dsopt {

struct GroupScale {
  float scale = 0.0f, offset = 0.0f;
};

// A number rounded to the type that scales are stored in. F16: kept inside its range.
float RoundScale(float value, dsopt_dtype scale_type);

// value / scale to nearest, inside [low, high]; codes of scale 0 are 0.
void CodesOf(const float* values, uint64_t count, GroupScale group, int low, int high, int8_t* codes);

// The scale (and offset) that covers the group: |value| <= limit * scale, or the middle of its range as offset.
GroupScale CoverGroup(const float* values, uint64_t count, int limit, bool with_offset, dsopt_dtype scale_type);

// int4, codes -8 .. 7: the group with the least (weighted) squared error over a grid of scales, refined by
// least squares. importance: [count] or NULL.
GroupScale SearchInt4(const float* values, const float* importance, uint64_t count, bool with_offset,
                      dsopt_dtype scale_type);

}  // namespace dsopt
#endif  // DSOPT_QUANT_GROUP_CODES_H_
