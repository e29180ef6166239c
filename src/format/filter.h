// filter.h - the byte planes of 16-bit elements. Rotating left by one bit puts the 8 exponent bits of a bf16
// into the high byte and its mantissa and sign into the low one.
#ifndef DSOPT_FORMAT_FILTER_H_
#define DSOPT_FORMAT_FILTER_H_

#include <cstddef>
#include <cstdint>

namespace dsopt {

// raw: 2 * count bytes. low, high: count bytes each.
void SplitPlanes(const uint8_t* raw, size_t count, uint8_t* low, uint8_t* high);
void JoinPlanes(const uint8_t* low, const uint8_t* high, size_t count, uint8_t* raw);

}  // namespace dsopt
#endif  // DSOPT_FORMAT_FILTER_H_
