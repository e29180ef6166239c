// recode.h - gives the tensors of a checkpoint the encodings of a policy: quantises while they are read. Not
// for: encodings that a checkpoint already has (tensor_source.h).
#ifndef DSOPT_IMPORT_RECODE_H_
#define DSOPT_IMPORT_RECODE_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "import/tensor_source.h"
#include "quant/calibration.h"
#include "quant/policy.h"

namespace dsopt {

// What became of the tensors of one kind: a row of the table that convert prints.
struct PolicyRow {
  TensorKind kind = TensorKind::kOther;
  std::string to;  // "int4, groups of 64", "bf16"
  uint64_t tensors = 0, parameters = 0;
  double from_bytes = 0;  // as the checkpoint has them
  double to_bytes = 0;    // with scales; lossless12: as a backend keeps them
};

struct RecodeOptions {
  WeightsRequest weights;
  bool search = true;  // int4: of scales; else to nearest
  uint32_t threads = 1;
  const std::atomic<bool>* cancel = nullptr;  // read between rows; set: DSOPT_E_CANCELLED
  // Mean squares are the weights of columns in the search of scales. Must outlive the sources.
  const Calibration* calibration = nullptr;
};

// Changes type, encoding and sources of tensors. lossless12 reads all bf16 matrices once, to choose those whose
// 12-bit form is smaller; all tensors of a weight get it or none.
Result<std::vector<PolicyRow>> Recode(const RecodeOptions& options, std::vector<TensorSource>* tensors);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_RECODE_H_
