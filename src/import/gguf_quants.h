// gguf_quants.h - what the blocks of ggml's quantised types contain: codes of 4 or 8 bits, a scale and, for
// some, an offset per 16 or 32 elements, so that value = code * scale + offset.
#ifndef DSOPT_IMPORT_GGUF_QUANTS_H_
#define DSOPT_IMPORT_GGUF_QUANTS_H_

#include <cstdint>

#include "import/matrix_source.h"

namespace dsopt {

struct GgufQuant {
  uint32_t type;    // ggml's number
  MatrixForm form;  // INT8 or INT4, one row in a group
  // One block: its elements' codes, as MatrixSource::ReadCodes gives them.
  void (*codes)(const uint8_t* block, int8_t* codes);
  // Its groups' scales; offsets where the form has them.
  void (*scales)(const uint8_t* block, float* scales, float* offsets);
};

// Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K; nullptr for any other type.
const GgufQuant* FindGgufQuant(uint32_t type);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_GGUF_QUANTS_H_
