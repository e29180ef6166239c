// coding.h - which code a tensor's values are in, and what that means for its entries in a file. The codes
// themselves are described at dsopt_encoding in dsopt/backend.h.
#ifndef DSOPT_QUANT_CODING_H_
#define DSOPT_QUANT_CODING_H_

#include <cstdint>
#include <vector>

#include "spec/model_spec.h"

namespace dsopt {

// int8, fp8 or int4; of a tensor whose encoding has no scales only `encoding` counts.
struct Coding {
  dsopt_encoding encoding = DSOPT_ENCODING_PLAIN;
  uint32_t group_rows = 0, group_cols = 0;  // as in dsopt_weight_desc
  bool has_offset = false;
  dsopt_dtype scale_type = DSOPT_F32;  // F32 or F16: scales and offsets are rounded to it
  bool operator==(const Coding&) const = default;
};

// Type of the elements: PLAIN has none of its own (DSOPT_DTYPE_DEFAULT).
dsopt_dtype CodeType(dsopt_encoding encoding);

// Groups in a matrix of rows x cols: how many down, how many across.
uint64_t GroupsDown(const Coding& coding, uint64_t rows);
uint64_t GroupsAcross(const Coding& coding, uint64_t cols);
// Bytes of the codes of `elements` (int4: an even number).
uint64_t CodeBytes(const Coding& coding, uint64_t elements);
// The two codes of each byte, the low half first: -8 to 7.
void UnpackInt4(const uint8_t* bytes, uint64_t count, int8_t* codes);

// Sets encoding, dtype, groups and raw_bytes of a tensor that has its name and shape; at least two dimensions.
void SetCoding(const Coding& coding, TensorSpec* tensor);
// The tensors that a coded one needs beside it: its scales, then its offsets if it has any. Empty without
// scales.
std::vector<TensorSpec> CompanionTensors(const TensorSpec& tensor, dsopt_dtype scale_type);

}  // namespace dsopt
#endif  // DSOPT_QUANT_CODING_H_
