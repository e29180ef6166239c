// lossless12.h - what the 12-bit form of a bf16 matrix would take, so that convert can choose per matrix. The
// form itself is a backend's own: 8 bits of sign and mantissa, 4 bits of exponent above the base of its run of
// columns, and the rare weight outside of that window in full beside it.
#ifndef DSOPT_QUANT_LOSSLESS12_H_
#define DSOPT_QUANT_LOSSLESS12_H_

#include <cstdint>

namespace dsopt {

// Counts bf16 weights row by row. [thread-compatible]
class Lossless12Counter {
 public:
  static constexpr uint64_t kRun = 128;  // columns that share a base
  // The window holds the 15 exponents up to the largest of the run, and exponent 0: zeros and subnormals.
  void AddRow(const uint16_t* bits, uint64_t cols);
  uint64_t weights() const { return weights_; }
  uint64_t escapes() const { return escapes_; }  // weights outside of the window
  // With a byte of base per run and 8 bytes per escape.
  double BitsPerWeight() const;
  // The form saves at least a tenth of the bf16 form.
  bool WorthIt() const { return BitsPerWeight() < 14.4; }

 private:
  uint64_t weights_ = 0, escapes_ = 0, runs_ = 0;
};

}  // namespace dsopt
#endif  // DSOPT_QUANT_LOSSLESS12_H_
