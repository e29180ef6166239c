// packed.cuh - the codes of encoded weights and their way into the A registers of mma.m16n8k16.
//
// Lane (g, t) = (lane / 4, lane % 4), step s of a tile's four, register r, half p:
//     row = g + 8 (r & 1)      column = 32 (s / 2) + 8 t + 4 (s % 2) + 2 (r / 2) + p
// so a lane needs the activations of columns 8 t .. 8 t + 7 and 32 + 8 t .. + 7: two 16-byte vectors, and every
// group of 32 columns is two whole steps.
//   int4        word s of the lane's vector: code of register r, half p in bits 4 r + 16 p
//   int8        words 2 s, 2 s + 1: code + 128 in byte 2 r + p
//   fp8         the same words: register r in bytes 1, 3 of word r / 2 (r even) or 0, 2 (r odd)
//   lossless12  words s of three vectors, see Lossless12
// Values: int4 (code - 8), int8 code, fp8 the e4m3 value, each times the scale, plus the offset; lossless12 the
// bf16 itself: 2^(offset - 15) 1.m times 2^(base - 112).
#ifndef DSOPT_CUDA_COMMON_PACKED_CUH_
#define DSOPT_CUDA_COMMON_PACKED_CUH_

#include "common/ptx.cuh"
#include "packed.h"

namespace dsopt_cuda {

// (a & mask) | c, and mask ? a : b bit by bit: one LOP3 each.
__device__ __forceinline__ uint32_t AndOr(uint32_t a, uint32_t mask, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(d) : "r"(a), "r"(mask), "r"(c));
  return d;
}
__device__ __forceinline__ uint32_t Select(uint32_t mask, uint32_t a, uint32_t b) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xCA;" : "=r"(d) : "r"(mask), "r"(a), "r"(b));
  return d;
}
// a * b + c on two bf16, one rounding.
__device__ __forceinline__ uint32_t FmaBf16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
__device__ __forceinline__ uint32_t WordOf(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

struct Int4 {
  static constexpr Packing kPacking = Packing::kInt4;
  static constexpr int kVectors = 1, kGroup = 128;  // columns per scale, where the code is made for one
  // OR into the mantissa of 128.0, then subtract 136.
  __device__ static uint32_t Expand(uint32_t w) {
    return FmaBf16x2(AndOr(w, 0x000F000Fu, 0x43004300u), 0x3F803F80u, 0xC308C308u);
  }
  __device__ static void Step(const uint4 (&q)[kVectors], int s, uint32_t (&a)[4]) {
    const uint32_t w = WordOf(q[0], s);
    a[0] = Expand(w), a[1] = Expand(w >> 4), a[2] = Expand(w >> 8), a[3] = Expand(w >> 12);
  }
};

struct Int4By64 : Int4 {
  static constexpr int kGroup = 64;
};

struct Int8 {
  static constexpr Packing kPacking = Packing::kInt8;
  static constexpr int kVectors = 2;
  // Bytes i, i + 1 into the mantissa of 2^23, exact differences, exact bf16 (8 bits).
  __device__ static uint32_t Expand(uint32_t w, uint32_t select0, uint32_t select1) {
    const float lo = __uint_as_float(__byte_perm(w, 0x4B000000u, select0)) - 8388736.0f;
    const float hi = __uint_as_float(__byte_perm(w, 0x4B000000u, select1)) - 8388736.0f;
    return PackBf16(lo, hi);
  }
  __device__ static void Step(const uint4 (&q)[kVectors], int s, uint32_t (&a)[4]) {
    const uint32_t w0 = WordOf(q[s / 2], s % 2 * 2), w1 = WordOf(q[s / 2], s % 2 * 2 + 1);
    a[0] = Expand(w0, 0x7440u, 0x7441u), a[1] = Expand(w0, 0x7442u, 0x7443u);
    a[2] = Expand(w1, 0x7440u, 0x7441u), a[3] = Expand(w1, 0x7442u, 0x7443u);
  }
};

struct Fp8 {
  static constexpr Packing kPacking = Packing::kFp8;
  static constexpr int kVectors = 2;
  // seeeemmm moved to the bits of a bf16 is the value times 2^-120, subnormals included.
  __device__ static uint32_t Scaled(uint32_t w) { return FmaBf16x2(w, 0x7B807B80u, 0x80008000u); }
  __device__ static void Step(const uint4 (&q)[kVectors], int s, uint32_t (&a)[4]) {
    const uint32_t w0 = WordOf(q[s / 2], s % 2 * 2), w1 = WordOf(q[s / 2], s % 2 * 2 + 1);
    a[0] = Scaled(AndOr(w0, 0x80008000u, (w0 >> 4) & 0x07F007F0u));
    a[1] = Scaled(AndOr(w0 << 8, 0x80008000u, (w0 << 4) & 0x07F007F0u));
    a[2] = Scaled(AndOr(w1, 0x80008000u, (w1 >> 4) & 0x07F007F0u));
    a[3] = Scaled(AndOr(w1 << 8, 0x80008000u, (w1 << 4) & 0x07F007F0u));
  }
};

// Words X, Y, Z of a step hold one weight of register 0, 1, 2 in bf16 position (bits 15, 10..0 of each half)
// and in bits 14..11 the high, middle and low nibble of register 3's. Registers 0 to 2 cost one LOP3, register
// 3 eight operations: 11 for 8 weights. A weight outside its window of 16 exponents is code 0 there (2^-15) and
// stands exactly in an escape slot or in the overflow list.
struct Lossless12 {
  static constexpr Packing kPacking = Packing::kLossless12;
  static constexpr int kVectors = 3;
  static constexpr uint32_t kExponent = 0x38003800u;
  static constexpr float kStandIn = 1.0f / 32768.0f;

  __device__ static void Step(const uint4 (&q)[kVectors], int s, uint32_t (&a)[4]) {
    const uint32_t x = WordOf(q[0], s), y = WordOf(q[1], s), z = WordOf(q[2], s);
    a[0] = AndOr(x, 0x87FF87FFu, kExponent);
    a[1] = AndOr(y, 0x87FF87FFu, kExponent);
    a[2] = AndOr(z, 0x87FF87FFu, kExponent);
    uint32_t u = Select(0x07000700u, x >> 3, y >> 7);
    u = Select(0x07F007F0u, u, z >> 11);
    u = AndOr(u, 0x07FF07FFu, kExponent);
    a[3] = Select(0x80008000u, x << 1, u);
  }
  // What a decoded value is multiplied by; 0 for a group of zeros and subnormals.
  __device__ static float Scale(uint32_t base) { return base != 0 ? __uint_as_float((base + 15) << 23) : 0.0f; }
  // 12-bit code, or -1: outside the window.
  __device__ static int Code(uint32_t bits, uint32_t base) {
    const uint32_t e = bits >> 7 & 0xFF;
    if (base == 0) return bits == 0 ? 0 : -1;
    if (e < base || e > base + 15) return -1;
    return static_cast<int>((bits >> 15) << 11 | (e - base) << 7 | (bits & 0x7F));
  }
};

// Byte offset of the code at p in its matrix; int4: of the word that holds it.
__device__ __forceinline__ int64_t CodeByte(const PackedLayout& l, const PackedPlace& p) {
  const int64_t tile = p.chunk + static_cast<int64_t>(p.tile) * l.tile_bytes();
  if (l.packing == Packing::kInt4) return tile + p.lane * 16 + p.step * 4;
  const int64_t words = tile + p.step / 2 * 512 + p.lane * 16 + p.step % 2 * 8;
  if (l.packing == Packing::kInt8) return words + 2 * p.reg + p.half;
  return words + p.reg / 2 * 4 + 2 * p.half + 1 - p.reg % 2;
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_PACKED_CUH_
