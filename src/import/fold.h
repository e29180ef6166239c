// fold.h - activation-aware scaling (AWQ, arXiv 2306.00978): input channels that carry much are made larger in
// the matrices and smaller in the norm before them, so that rounding hurts them less. In exact arithmetic the
// model computes the same: the gain of the norm is divided by what the columns are multiplied with.
#ifndef DSOPT_IMPORT_FOLD_H_
#define DSOPT_IMPORT_FOLD_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "import/recode.h"
#include "import/tensor_source.h"
#include "quant/calibration.h"

namespace dsopt {

// A norm and the tensors whose columns see its output, of those that a model has.
struct FoldGroup {
  std::string norm;
  std::vector<std::string> consumers;
};
std::vector<FoldGroup> ListFoldGroups(const std::vector<TensorSource>& tensors);

// Multiplies the columns of all consumers by scale and divides the norm by it. Norms and routers become f32, so
// that nothing is rounded there.
Status FoldScale(const FoldGroup& group, const std::vector<float>& scale, std::vector<TensorSource>* tensors);

// For every group scale = magnitude ^ a, with that a of 0, 0.1, .. 0.9 for which the coded matrices' products
// are least off (by the squared error of weights times the mean square of their channel, over some of the
// rows); folds it, and changes the statistics to those of the scaled inputs. fp8 matrices have no say.
Status FoldCalibration(const RecodeOptions& options, Calibration* calibration,
                       std::vector<TensorSource>* tensors);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_FOLD_H_
