#include "tests/quantised/packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "base/float_types.h"

namespace dsopt::testing {
namespace {

constexpr float kDeviation = 0.05f;

int Draw(int low, int high, Random* random) {  // both included; the same on every standard library
  return low + static_cast<int>((*random)() % static_cast<uint32_t>(high - low + 1));
}

template <typename T>
void Put(T value, std::vector<uint8_t>* bytes) {
  const auto* raw = reinterpret_cast<const uint8_t*>(&value);
  bytes->insert(bytes->end(), raw, raw + sizeof(T));
}

// A positive scale that f16 holds, near `around`.
float HalfNear(float around, Random* random) {
  return HalfToFloat(FloatToHalf(around * (0.75f + 0.5f * static_cast<float>(Draw(0, 1000, random)) / 1000)));
}

float Normal(Random* random) {  // about: the sum of four uniform numbers
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<float>(Draw(-1000, 1000, random)) / 1000;
  return sum * kDeviation * 0.87f;
}

// ---- plain

void PackPlain(const std::string& type, uint64_t count, Random* random, Packed* out) {
  for (uint64_t i = 0; i < count; ++i) {
    const float value = Normal(random);
    if (type == "F32") {
      Put(value, &out->bytes);
      out->values.push_back(value);
    } else {
      const uint16_t bits = type == "F16" ? FloatToHalf(value) : FloatToBf16(value);
      Put(bits, &out->bytes);
      out->values.push_back(type == "F16" ? HalfToFloat(bits) : Bf16ToFloat(bits));
    }
  }
}

// ---- blocks of 32: byte j of the nibbles holds elements j and j + 16

void PackBlock32(const std::string& type, Random* random, Packed* out) {
  const int bits = type[1] - '0';
  const bool minimum = type == "Q4_1" || type == "Q5_1";
  const int levels = 1 << bits, middle = levels / 2;
  const float d = HalfNear(kDeviation * 3.4f / static_cast<float>(levels), random);
  const float m = HalfToFloat(FloatToHalf(-d * static_cast<float>(middle)));
  int codes[32];
  for (int& code : codes) {
    code = Draw(bits == 8 ? 1 : 0, levels - 1, random);
    const float q = static_cast<float>(minimum ? code : code - middle);
    out->values.push_back(minimum ? q * d + m : q * d);
  }
  Put(FloatToHalf(d), &out->bytes);
  if (minimum) Put(FloatToHalf(m), &out->bytes);
  if (bits == 8) {
    for (int code : codes) Put(static_cast<int8_t>(code - 128), &out->bytes);
    return;
  }
  if (bits == 5) {
    uint32_t high = 0;
    for (int i = 0; i < 32; ++i) high |= static_cast<uint32_t>(codes[i] >> 4) << i;
    Put(high, &out->bytes);
  }
  for (int i = 0; i < 16; ++i) {
    Put(static_cast<uint8_t>((codes[i] & 15) | (codes[i + 16] & 15) << 4), &out->bytes);
  }
}

// ---- Q4_K and Q5_K: 8 groups of 32

void PackBlockK(int bits, Random* random, Packed* out) {
  const int levels = 1 << bits;
  const float d = HalfNear(kDeviation * 3.4f / static_cast<float>(levels) / 32, random);
  const float dmin = HalfToFloat(FloatToHalf(d * static_cast<float>(levels / 2)));
  int scales[8], minimums[8], codes[256];
  for (int g = 0; g < 8; ++g) {
    scales[g] = Draw(8, 63, random);
    minimums[g] = std::clamp(scales[g] + Draw(-4, 4, random), 0, 63);
  }
  for (int i = 0; i < 256; ++i) {
    codes[i] = Draw(0, levels - 1, random);
    out->values.push_back(d * static_cast<float>(scales[i / 32]) * static_cast<float>(codes[i]) -
                          dmin * static_cast<float>(minimums[i / 32]));
  }
  Put(FloatToHalf(d), &out->bytes);
  Put(FloatToHalf(dmin), &out->bytes);
  uint8_t packed[12] = {};
  for (int g = 0; g < 4; ++g) {
    packed[g] = static_cast<uint8_t>(scales[g] | (scales[g + 4] >> 4) << 6);
    packed[g + 4] = static_cast<uint8_t>(minimums[g] | (minimums[g + 4] >> 4) << 6);
    packed[g + 8] = static_cast<uint8_t>((scales[g + 4] & 15) | (minimums[g + 4] & 15) << 4);
  }
  out->bytes.insert(out->bytes.end(), packed, packed + 12);
  for (int i = 0; bits == 5 && i < 32; ++i) {
    int high = 0;
    for (int g = 0; g < 8; ++g) high |= (codes[32 * g + i] >> 4) << g;
    Put(static_cast<uint8_t>(high), &out->bytes);
  }
  for (int pair = 0; pair < 4; ++pair) {
    for (int i = 0; i < 32; ++i) {
      Put(static_cast<uint8_t>((codes[64 * pair + i] & 15) | (codes[64 * pair + 32 + i] & 15) << 4),
          &out->bytes);
    }
  }
}

// ---- Q6_K: 16 groups of 16, stored as two halves of four times 32 elements

void PackBlockQ6(Random* random, Packed* out) {
  const float d = HalfNear(kDeviation * 3.4f / 64 / 64, random);
  int scales[16], codes[256];
  for (int& scale : scales) scale = Draw(-128, 127, random);
  for (int i = 0; i < 256; ++i) {
    codes[i] = Draw(0, 63, random);
    out->values.push_back(d * static_cast<float>(scales[i / 16]) * static_cast<float>(codes[i] - 32));
  }
  for (int half = 0; half < 2; ++half) {
    const int* q = codes + 128 * half;
    for (int i = 0; i < 64; ++i) Put(static_cast<uint8_t>((q[i] & 15) | (q[i + 64] & 15) << 4), &out->bytes);
  }
  for (int half = 0; half < 2; ++half) {
    const int* q = codes + 128 * half;
    for (int i = 0; i < 32; ++i) {
      Put(static_cast<uint8_t>(q[i] >> 4 | (q[i + 32] >> 4) << 2 | (q[i + 64] >> 4) << 4 |
                               (q[i + 96] >> 4) << 6),
          &out->bytes);
    }
  }
  for (int scale : scales) Put(static_cast<int8_t>(scale), &out->bytes);
  Put(FloatToHalf(d), &out->bytes);
}

// ---- codes, zeros and scales of a linear layer before packing

struct Linear {
  uint64_t groups = 0;
  std::vector<uint32_t> codes;  // [inputs, outputs]
  std::vector<uint32_t> zeros;  // [groups, outputs]
};

Linear DrawLinear(uint64_t outputs, uint64_t inputs, const LinearOptions& options, Random* random,
                  PackedLinear* out) {
  const int levels = 1 << options.bits, middle = levels / 2;
  Linear linear;
  linear.groups = (inputs + options.group_size - 1) / options.group_size;
  std::vector<float> scales;
  for (uint64_t i = 0; i < linear.groups * outputs; ++i) {
    scales.push_back(HalfNear(kDeviation * 3.4f / static_cast<float>(levels), random));
    Put(FloatToHalf(scales.back()), &out->scales);
    const int spread = options.symmetric ? 0 : levels / 8;
    linear.zeros.push_back(static_cast<uint32_t>(Draw(middle - spread, middle + spread, random)));
  }
  for (uint64_t i = 0; i < inputs; ++i)
    out->group_index.push_back(static_cast<int32_t>(i / options.group_size));
  if (options.act_order) std::shuffle(out->group_index.begin(), out->group_index.end(), *random);
  out->values.resize(outputs * inputs);
  for (uint64_t i = 0; i < inputs; ++i) {
    for (uint64_t o = 0; o < outputs; ++o) {
      const int least = options.bits == 8 && !options.all_codes ? 1 : 0;
      const int code = Draw(least, levels - 1, random);
      linear.codes.push_back(static_cast<uint32_t>(code));
      const uint64_t at = static_cast<uint64_t>(out->group_index[i]) * outputs + o;
      out->values[o * inputs + i] = static_cast<float>(code - static_cast<int>(linear.zeros[at])) * scales[at];
    }
  }
  return linear;
}

}  // namespace

uint32_t GgufTypeNumber(const std::string& type) {
  const std::pair<const char*, uint32_t> types[] = {{"F32", 0},   {"F16", 1},   {"Q4_0", 2}, {"Q4_1", 3},
                                                    {"Q5_0", 6},  {"Q5_1", 7},  {"Q8_0", 8}, {"Q4_K", 12},
                                                    {"Q5_K", 13}, {"Q6_K", 14}, {"BF16", 30}};
  for (const auto& [name, number] : types) {
    if (type == name) return number;
  }
  throw std::runtime_error("no GGUF type " + type);
}

Packed PackGguf(const std::string& type, uint64_t count, Random* random) {
  Packed out;
  if (type[0] != 'Q') {
    PackPlain(type, count, random, &out);
    return out;
  }
  const bool k = type.back() == 'K';
  if (count % (k ? 256 : 32) != 0) throw std::runtime_error(type + ": no whole blocks");
  while (out.values.size() < count) {
    if (type == "Q6_K")
      PackBlockQ6(random, &out);
    else if (k)
      PackBlockK(type[1] - '0', random, &out);
    else
      PackBlock32(type, random, &out);
  }
  return out;
}

PackedLinear PackGptq(uint64_t outputs, uint64_t inputs, const LinearOptions& options, Random* random) {
  PackedLinear out;
  const Linear linear = DrawLinear(outputs, inputs, options, random, &out);
  const uint64_t per_word = 32 / options.bits;
  for (uint64_t line = 0; line < inputs / per_word; ++line) {
    for (uint64_t o = 0; o < outputs; ++o) {
      uint32_t word = 0;
      for (uint64_t i = 0; i < per_word; ++i) {
        word |= linear.codes[(line * per_word + i) * outputs + o] << (options.bits * i);
      }
      Put(word, &out.codes);
    }
  }
  for (uint64_t at = 0; at < linear.zeros.size(); at += per_word) {
    uint32_t word = 0;
    for (uint64_t i = 0; i < per_word; ++i) {
      word |= (linear.zeros[at + i] - (options.zero_minus_one ? 1 : 0)) << (options.bits * i);
    }
    Put(word, &out.zeros);
  }
  return out;
}

PackedLinear PackAwq(uint64_t outputs, uint64_t inputs, const LinearOptions& options, Random* random) {
  PackedLinear out;
  const Linear linear = DrawLinear(outputs, inputs, options, random, &out);
  const auto pack = [](const std::vector<uint32_t>& values, std::vector<uint8_t>* bytes) {
    for (size_t at = 0; at < values.size(); at += 8) {
      uint32_t word = 0;
      const size_t order[8] = {0, 2, 4, 6, 1, 3, 5, 7};  // of the outputs in a word, lowest nibble first
      for (int i = 0; i < 8; ++i) word |= values[at + order[i]] << (4 * i);
      Put(word, bytes);
    }
  };
  pack(linear.codes, &out.codes);
  pack(linear.zeros, &out.zeros);
  return out;
}

PackedScaled PackScaled(bool fp8, uint64_t outputs, uint64_t inputs, uint64_t rows, uint64_t cols,
                        bool all_codes, Random* random) {
  PackedScaled out;
  const uint64_t grid_rows = rows == 0 ? 1 : (outputs + rows - 1) / rows;
  const uint64_t grid_cols = rows == 0 ? 1 : (inputs + cols - 1) / cols;
  if (rows != 0) out.scale_shape = {grid_rows, grid_cols};
  for (uint64_t i = 0; i < grid_rows * grid_cols; ++i) {
    out.scales.push_back(HalfNear(kDeviation * (fp8 ? 1.0f : 0.015f), random));
  }
  for (uint64_t at = 0; at < outputs * inputs; ++at) {
    const float scale =
        rows == 0 ? out.scales[0] : out.scales[at / inputs / rows * grid_cols + at % inputs / cols];
    if (!fp8) {
      const int code = Draw(all_codes ? -128 : -127, 127, random);
      out.codes.push_back(static_cast<uint8_t>(code));
      out.values.push_back(static_cast<float>(code) * scale);
      continue;
    }
    // sign, exponent 0 .. 8 of bias 7, three bits of mantissa: |value| < 4
    const int sign = Draw(0, 1, random), exponent = Draw(0, 8, random), mantissa = Draw(0, 7, random);
    const double fraction = exponent == 0 ? mantissa / 8.0 : 1 + mantissa / 8.0;
    const double value = std::ldexp(fraction, std::max(exponent, 1) - 7) * (sign != 0 ? -1 : 1);
    out.codes.push_back(static_cast<uint8_t>(sign << 7 | exponent << 3 | mantissa));
    out.values.push_back(static_cast<float>(value) * scale);
  }
  return out;
}

}  // namespace dsopt::testing
