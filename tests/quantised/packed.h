// packed.h - seeded random matrices in the layouts that published files have, each with the float32 values that
// the file means. Written from the formats' documentation and not from src/import, which tests compare with it.
#ifndef DSOPT_TESTS_QUANTISED_PACKED_H_
#define DSOPT_TESTS_QUANTISED_PACKED_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace dsopt::testing {

using Random = std::mt19937;

struct Packed {
  std::vector<uint8_t> bytes;
  std::vector<float> values;  // row-major
};

// Types of ggml by name: "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K".
uint32_t GgufTypeNumber(const std::string& type);
// count: a multiple of 32, of 256 for the K types. Values are about zero with a deviation of about 0.05.
Packed PackGguf(const std::string& type, uint64_t count, Random* random);

// Codes of 4 or 8 bits of a linear layer [outputs, inputs] with a scale and a zero per group of inputs.
struct PackedLinear {
  std::vector<uint8_t> codes, zeros, scales;  // of qweight, qzeros (int32) and scales (f16)
  std::vector<int32_t> group_index;           // of inputs
  std::vector<float> values;                  // [outputs, inputs]
};
struct LinearOptions {
  uint32_t bits = 4;
  uint64_t group_size = 32;
  bool symmetric = false;  // all zeros are the middle
  bool act_order = false;  // inputs are in scattered groups
  bool zero_minus_one = true;
  bool all_codes = false;  // 8 bits: the least code is used, too
};
PackedLinear PackGptq(uint64_t outputs, uint64_t inputs, const LinearOptions& options, Random* random);
PackedLinear PackAwq(uint64_t outputs, uint64_t inputs, const LinearOptions& options, Random* random);

// fp8 or int8 weights [outputs, inputs] and f32 scales: one (rows 0), or one per rows x cols. all_codes: int8
// has -128, too.
struct PackedScaled {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  std::vector<uint64_t> scale_shape;
  std::vector<float> values;
};
PackedScaled PackScaled(bool fp8, uint64_t outputs, uint64_t inputs, uint64_t rows, uint64_t cols,
                        bool all_codes, Random* random);

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_QUANTISED_PACKED_H_
