// fp8.h - the 8-bit float e4m3 of neural networks ("e4m3fn"): 4 bits of exponent with bias 7, 3 of mantissa, no
// infinity, 0x7f and 0xff are NaN, 448 is the largest.
#ifndef DSOPT_QUANT_FP8_H_
#define DSOPT_QUANT_FP8_H_

#include <cstdint>

namespace dsopt {

inline constexpr float kMostFp8 = 448.0f;

float Fp8ToFloat(uint8_t bits);  // exact
// To nearest, ties to even; beyond 448: 448. A NaN stays one.
uint8_t FloatToFp8(float value);

}  // namespace dsopt
#endif  // DSOPT_QUANT_FP8_H_
