// compensated.h - codes of a whole model with rounding that makes up for its errors on a calibration text: the
// model reads the text once more while it is written, a layer at a time.
#ifndef DSOPT_TOOLS_COMPENSATED_H_
#define DSOPT_TOOLS_COMPENSATED_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "import/convert.h"
#include "tools/float_model.h"

namespace dsopt::tools {

struct CompensatedOptions {
  std::string text;  // UTF-8
  TextWindows windows{64, 512};
  uint32_t threads = 1;
  const std::atomic<bool>* cancel = nullptr;  // read between matrices; set: DSOPT_E_CANCELLED
};

// What came of it, over all matrices.
struct CompensatedReport {
  uint64_t rows = 0, rows_compensated = 0;
  double error = 0;  // sum over matrices of rows times squared error of products / that of rounding to nearest
  double seconds = 0;
};

// Every tensor with scales that has inputs in the text gets codes of EncodeCompensated; every eighth window is
// held out. The inputs of a layer are those that the coded layers before it give. Experts that few tokens chose
// are rounded for the inputs of all tokens as well. report, spec and tensors must outlive the result.
//
// memory  tokens * (hidden * 4 + the widest inputs * 2) floats, a layer's codes, and of the matrix at work its
//         floats and 12 bytes * columns * the lesser of columns and kMostBlock
Result<std::unique_ptr<TensorCoder>> CompensatedCoder(const CompensatedOptions& options, const ModelSpec& spec,
                                                      std::vector<TensorSource>* tensors,
                                                      CompensatedReport* report);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_COMPENSATED_H_
