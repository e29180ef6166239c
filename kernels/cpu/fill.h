// fill.h - the fixed pseudo-normal numbers of weight_fill. Every backend makes the same bits from this recipe:
//
//   z = seed + (i / 2) * 0x9E3779B97F4A7C15                                (all of it modulo 2^64)
//   z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
//   z = (z ^ (z >> 27)) * 0x94D049BB133111EB
//   z =  z ^ (z >> 31)
//   h = i even ? low 32 bits of z : high 32 bits of z
//   s = sum of the four bytes of h, an integer 0 .. 1020
//   n = (float)(s - 510) * 0.0067658754f        mean 0; variance 1: 1 / sqrt(4 (256^2 - 1) / 12)
//   element i = mean + stddev * n               two roundings in f32, no fused multiply-add
//
// then rounded to nearest even into the tensor's dtype. i is the index in logical row-major order.
#ifndef DSOPT_CPU_FILL_H_
#define DSOPT_CPU_FILL_H_

#include <cstdint>

namespace dsopt_cpu {

// The bits of elements 2 pair (low half) and 2 pair + 1 (high half).
inline uint64_t FillBits(uint64_t seed, uint64_t pair) {
  uint64_t z = seed + pair * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

inline float FillValue(uint32_t h, float mean, float stddev) {
  uint32_t s = (h & 0x00ff00ffu) + ((h >> 8) & 0x00ff00ffu);
  s = (s & 0xffffu) + (s >> 16);
  const float n = static_cast<float>(static_cast<int32_t>(s) - 510) * 0.0067658754f;
  const float scaled = stddev * n;
  return mean + scaled;
}

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_FILL_H_
