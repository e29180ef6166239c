// calibrate.h - runs a float model over a calibration text, a layer at a time with the operators of
// libdsopt.so, and notes what the inputs of its matrices look like. Holds one layer's weights at a time.
#ifndef DSOPT_TOOLS_CALIBRATE_H_
#define DSOPT_TOOLS_CALIBRATE_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "import/tensor_source.h"
#include "quant/calibration.h"
#include "spec/model_spec.h"

namespace dsopt::tools {

struct CalibrateOptions {
  std::string text;       // UTF-8
  uint32_t windows = 8;   // that are read, each on its own
  uint32_t window = 256;  // tokens
};

// Statistics for every matrix of ListCanonicalTensors that may be coded. Experts of a mixture share theirs; an
// expert that no token chose leaves none. DSOPT_E_INVALID_ARGUMENT without a tokenizer, or when the text is
// shorter than a window.
Result<Calibration> Calibrate(const CalibrateOptions& options, const ModelSpec& spec,
                              std::vector<TensorSource>* tensors);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_CALIBRATE_H_
