// hf_quantization.h - the quantization_config of a Hugging Face checkpoint: how its linear layers are stored.
// Not for: reading them, see hf_matrix.h.
#ifndef DSOPT_IMPORT_HF_QUANTIZATION_H_
#define DSOPT_IMPORT_HF_QUANTIZATION_H_

#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace dsopt {

enum class HfMethod : uint8_t { kNone, kGptq, kAwq, kScaled };

struct HfQuantization {
  HfMethod method = HfMethod::kNone;
  // kGptq: 4 or 8 bits; kAwq: 4. Packed into 32-bit words, a scale and a zero per group of inputs.
  uint32_t bits = 0;
  uint32_t group_size = 0;      // 0: all inputs
  bool zero_minus_one = false;  // the file's zeros are one less than what is meant
  // kScaled: fp8 or int8 weights in their own shape, beside them a scale for all, for each row or for each
  // block.
  uint32_t block_rows = 0, block_cols = 0;  // 0: no blocks
};

// "quantization_config" of config.json; kNone if there is none. DSOPT_E_UNSUPPORTED names the key and its
// value.
Result<HfQuantization> ParseHfQuantization(std::string_view config_json);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_HF_QUANTIZATION_H_
