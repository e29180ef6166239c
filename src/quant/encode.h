// encode.h - rows of floats to int8, fp8 or int4 codes with their scales, and back. Pure arithmetic on memory:
// no files, no models.
#ifndef DSOPT_QUANT_ENCODE_H_
#define DSOPT_QUANT_ENCODE_H_

#include <cstdint>
#include <vector>

#include "quant/coding.h"

namespace dsopt {

struct EncodeOptions {
  // int4: try a small grid of scales (and offsets) per group and keep the one with the least squared error.
  // Without it: the scale that just covers the group, then rounding to nearest.
  bool search = true;
  // [cols]: weight of a column's squared error in the search, e.g. its mean squared activation. NULL: all
  // alike.
  const float* importance = nullptr;
  uint32_t threads = 1;
};

// Of a band of rows: codes row-major as they lie in a file, scales and offsets row-major over the band's
// groups.
struct CodedRows {
  std::vector<uint8_t> codes;
  std::vector<float> scales, offsets;  // exact in coding.scale_type; offsets empty without
};

// Encodes rows x cols values. A matrix may be encoded in bands of rows: all but the last must be multiples of
// group_rows. Values that are not finite count as 0; an all-zero group has scale 0. int4: cols even.
void EncodeRows(const Coding& coding, const float* values, uint64_t rows, uint64_t cols,
                const EncodeOptions& options, CodedRows* out);

// The inverse, for a band that starts at a multiple of group_rows. offsets: NULL without.
void DecodeRows(const Coding& coding, const uint8_t* codes, const float* scales, const float* offsets,
                uint64_t rows, uint64_t cols, float* values);

}  // namespace dsopt
#endif  // DSOPT_QUANT_ENCODE_H_
