// calibrate.h - runs a float model over a calibration text and notes what the inputs of its matrices look like.
#ifndef DSOPT_TOOLS_CALIBRATE_H_
#define DSOPT_TOOLS_CALIBRATE_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "import/tensor_source.h"
#include "quant/calibration.h"
#include "spec/model_spec.h"
#include "tools/float_model.h"

namespace dsopt::tools {

struct CalibrateOptions {
  std::string text;  // UTF-8
  TextWindows windows;
};

// Statistics for every matrix of ListCanonicalTensors that may be coded. Experts of a mixture share theirs; an
// expert that no token chose leaves none. DSOPT_E_INVALID_ARGUMENT without a tokenizer, or when the text is
// shorter than a window.
Result<Calibration> Calibrate(const CalibrateOptions& options, const ModelSpec& spec,
                              std::vector<TensorSource>* tensors);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_CALIBRATE_H_
