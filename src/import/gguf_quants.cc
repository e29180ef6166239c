#include "import/gguf_quants.h"

#include <cstring>

#include "base/float_types.h"

namespace dsopt {
namespace {

float Half(const uint8_t* bytes) { return HalfToFloat(static_cast<uint16_t>(bytes[0] | bytes[1] << 8)); }

uint32_t Word(const uint8_t* bytes) {
  return bytes[0] | static_cast<uint32_t>(bytes[1]) << 8 | static_cast<uint32_t>(bytes[2]) << 16 |
         static_cast<uint32_t>(bytes[3]) << 24;
}

// ---- blocks of 32: a half scale d, sometimes a half minimum m, codes. The low nibbles are elements 0 to 15.

// Q8_0: d, 32 codes.
void CodesQ8_0(const uint8_t* block, int8_t* codes) { std::memcpy(codes, block + 2, 32); }

void Nibbles(const uint8_t* nibbles, int minus, int8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = static_cast<int8_t>((nibbles[i] & 15) - minus);
    codes[i + 16] = static_cast<int8_t>((nibbles[i] >> 4) - minus);
  }
}
// Q4_0: d, nibbles. Q4_1: d, m, nibbles.
void CodesQ4_0(const uint8_t* block, int8_t* codes) { Nibbles(block + 2, 8, codes); }
void CodesQ4_1(const uint8_t* block, int8_t* codes) { Nibbles(block + 4, 8, codes); }

// 32 fifth bits, then nibbles.
void FiveBits(const uint8_t* bytes, int minus, int8_t* codes) {
  const uint32_t high = Word(bytes);
  Nibbles(bytes + 4, 0, codes);
  for (int i = 0; i < 32; ++i) {
    codes[i] = static_cast<int8_t>((codes[i] | static_cast<int>(high >> i & 1) << 4) - minus);
  }
}
// Q5_0: d, five bits. Q5_1: d, m, five bits.
void CodesQ5_0(const uint8_t* block, int8_t* codes) { FiveBits(block + 2, 16, codes); }
void CodesQ5_1(const uint8_t* block, int8_t* codes) { FiveBits(block + 4, 0, codes); }

void ScaleOnly(const uint8_t* block, float* scales, float*) { scales[0] = Half(block); }
void ScaleAndMinimum(const uint8_t* block, float* scales, float* offsets) {
  scales[0] = Half(block);
  offsets[0] = Half(block + 2);
}
// The file's codes start at 0, ours at -8.
void ScaleAndMinimumOfQ4(const uint8_t* block, float* scales, float* offsets) {
  scales[0] = Half(block);
  offsets[0] = Half(block + 2) + 8 * scales[0];
}

// ---- blocks of 256 in 8 groups of 32: half d and dmin, 12 bytes with 6-bit scales and minimums

void ScalesK(const uint8_t* block, float lift, float* scales, float* offsets) {
  const float d = Half(block), dmin = Half(block + 2);
  const uint8_t* packed = block + 4;
  for (int g = 0; g < 8; ++g) {
    int scale, minimum;
    if (g < 4) {
      scale = packed[g] & 63;
      minimum = packed[g + 4] & 63;
    } else {  // low four bits in the last four bytes, high two above the first groups' six
      scale = (packed[g + 4] & 15) | (packed[g - 4] >> 6) << 4;
      minimum = (packed[g + 4] >> 4) | (packed[g] >> 6) << 4;
    }
    scales[g] = d * static_cast<float>(scale);
    offsets[g] = lift * scales[g] - dmin * static_cast<float>(minimum);
  }
}
void ScalesQ4_K(const uint8_t* block, float* scales, float* offsets) { ScalesK(block, 8, scales, offsets); }
void ScalesQ5_K(const uint8_t* block, float* scales, float* offsets) { ScalesK(block, 0, scales, offsets); }

// Pairs of groups share 32 bytes: low nibbles the first, high nibbles the second.
void NibblesK(const uint8_t* nibbles, int minus, int8_t* codes) {
  for (int i = 0; i < 128; ++i) {
    int8_t* out = codes + i / 32 * 64 + i % 32;
    out[0] = static_cast<int8_t>((nibbles[i] & 15) - minus);
    out[32] = static_cast<int8_t>((nibbles[i] >> 4) - minus);
  }
}
void CodesQ4_K(const uint8_t* block, int8_t* codes) { NibblesK(block + 16, 8, codes); }

// Bit g of fifth-bit byte i belongs to element i of group g.
void CodesQ5_K(const uint8_t* block, int8_t* codes) {
  NibblesK(block + 48, 0, codes);
  for (int i = 0; i < 256; ++i) {
    const int high = block[16 + i % 32] >> (i / 32) & 1;
    codes[i] = static_cast<int8_t>(codes[i] | high << 4);
  }
}

// ---- Q6_K: 256 in 16 groups of 16: 128 bytes of low nibbles, 64 of high bit pairs, 16 scales, half d

void CodesQ6_K(const uint8_t* block, int8_t* codes) {
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, at = i % 32;  // of 128 elements; of 32
    const uint8_t low = block[half * 64 + quarter % 2 * 32 + at], high = block[128 + half * 32 + at];
    const int nibble = quarter < 2 ? low & 15 : low >> 4;
    codes[i] = static_cast<int8_t>((nibble | (high >> (2 * quarter) & 3) << 4) - 32);
  }
}
void ScalesQ6_K(const uint8_t* block, float* scales, float*) {
  const float d = Half(block + 208);
  for (int g = 0; g < 16; ++g) scales[g] = d * static_cast<float>(static_cast<int8_t>(block[192 + g]));
}

constexpr MatrixForm Form(dsopt_encoding encoding, uint32_t group_cols, bool has_offset,
                          dsopt_dtype scale_type) {
  return {{encoding, 0, group_cols, has_offset, scale_type}, DSOPT_BF16};
}

constexpr GgufQuant kQuants[] = {
    {2, Form(DSOPT_ENCODING_INT4, 32, false, DSOPT_F16), CodesQ4_0, ScaleOnly},
    {3, Form(DSOPT_ENCODING_INT4, 32, true, DSOPT_F32), CodesQ4_1, ScaleAndMinimumOfQ4},
    {6, Form(DSOPT_ENCODING_INT8, 32, false, DSOPT_F16), CodesQ5_0, ScaleOnly},
    {7, Form(DSOPT_ENCODING_INT8, 32, true, DSOPT_F16), CodesQ5_1, ScaleAndMinimum},
    {8, Form(DSOPT_ENCODING_INT8, 32, false, DSOPT_F16), CodesQ8_0, ScaleOnly},
    {12, Form(DSOPT_ENCODING_INT4, 32, true, DSOPT_F32), CodesQ4_K, ScalesQ4_K},
    {13, Form(DSOPT_ENCODING_INT8, 32, true, DSOPT_F32), CodesQ5_K, ScalesQ5_K},
    {14, Form(DSOPT_ENCODING_INT8, 16, false, DSOPT_F32), CodesQ6_K, ScalesQ6_K}};

}  // namespace

const GgufQuant* FindGgufQuant(uint32_t type) {
  for (const GgufQuant& quant : kQuants) {
    if (quant.type == type) return &quant;
  }
  return nullptr;
}

}  // namespace dsopt
