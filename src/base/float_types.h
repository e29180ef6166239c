// float_types.h - conversions between the floating-point types that weights are stored in: F32, F16, BF16.
#ifndef DSOPT_BASE_FLOAT_TYPES_H_
#define DSOPT_BASE_FLOAT_TYPES_H_

#include <cstddef>
#include <cstdint>

#include "dsopt/dsopt.h"

namespace dsopt {

// Exact.
float HalfToFloat(uint16_t bits);
float Bf16ToFloat(uint16_t bits);
// Round to nearest, ties to even; overflow gives infinity, a NaN stays a NaN.
uint16_t FloatToHalf(float value);
uint16_t FloatToBf16(float value);

// F32, F16 or BF16.
bool IsFloatType(dsopt_dtype type);
// The smallest of the three types that holds every value of both.
dsopt_dtype WiderFloatType(dsopt_dtype a, dsopt_dtype b);
// "f32", "f16", "bf16", "f8_e4m3", "i8", "i32", "u8"; "unknown".
const char* TypeName(dsopt_dtype type);

// count elements of type `from` become type `to`. Neither pointer needs alignment; the ranges do not overlap.
// Both types must be IsFloatType.
void ConvertElements(dsopt_dtype from, const void* src, dsopt_dtype to, void* dst, size_t count);

}  // namespace dsopt
#endif  // DSOPT_BASE_FLOAT_TYPES_H_
