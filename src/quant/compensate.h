// compensate.h - rows of floats to codes that make up for the rounding errors of each other: the products with
// inputs like those of a calibration text are less off than with codes to nearest.
#ifndef DSOPT_QUANT_COMPENSATE_H_
#define DSOPT_QUANT_COMPENSATE_H_

#include <cstdint>
#include <vector>

#include "quant/encode.h"
#include "quant/feedback.h"

namespace dsopt {

struct CompensateOptions {
  // Of blocks that cover the columns; a block without an entry is rounded to nearest.
  const std::vector<Feedback>* feedback = nullptr;
  // [held_out_rows, cols] inputs that `feedback` has not seen.
  const float* held_out = nullptr;
  uint64_t held_out_rows = 0;
};

struct CompensateResult {
  uint64_t rows_compensated = 0;        // the others are what EncodeRows gives
  double nearest_error = 0, error = 0;  // squared, of the products with held_out
};

// As EncodeRows, but every row is rounded with `feedback` as well; of both codings of the row that one is kept
// that multiplies held_out with the smaller error (without held_out: the compensated one). fp8 and int8 without
// offsets: rows are tried with other scales than the one that covers them. Coding in groups of several rows:
// EncodeRows. The same to the bit for every number of threads.
CompensateResult EncodeCompensated(const Coding& coding, const float* values, uint64_t rows, uint64_t cols,
                                   const EncodeOptions& options, const CompensateOptions& compensate,
                                   CodedRows* out);

}  // namespace dsopt
#endif  // DSOPT_QUANT_COMPENSATE_H_
