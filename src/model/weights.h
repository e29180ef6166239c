// weights.h - which packed weights a model needs and how the file's tensors map into them. Declared by the same
// code that later binds them (blocks.h), so the two cannot disagree. Reads no data: see loader.h.
#ifndef DSOPT_MODEL_WEIGHTS_H_
#define DSOPT_MODEL_WEIGHTS_H_

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "device/device.h"
#include "dsopt/backend.h"
#include "spec/model_spec.h"

namespace dsopt {

// One file tensor, or a regular slice of it, inside a weight. Element ranges: for each b in [0, batch),
//   weight[b * dst_stride + dst_first : +length] = tensor[b * src_stride + src_first : +length].
struct WeightPart {
  std::string tensor;
  std::vector<uint64_t> shape;  // that the tensor must have in the file
  uint64_t batch = 1, length = 0;
  uint64_t src_stride = 0, src_first = 0;
  uint64_t dst_stride = 0, dst_first = 0;
};

struct WeightDeclaration {
  std::string name;  // of the weight, for messages
  dsopt_weight_kind kind = DSOPT_WEIGHT_MATRIX;
  bool tied = false;
  uint64_t batch = 1, rows = 0, cols = 0;
  std::vector<WeightPart> parts;
};

// Elements of all file tensors that the declarations use, each once.
uint64_t CountParameters(const std::vector<WeightDeclaration>& declarations);

// Where elements of a file tensor go. Of scales: part counts groups instead of elements.
struct TensorTarget {
  uint32_t weight = 0;  // index of the declaration
  const WeightPart* part = nullptr;
};
struct TensorPlan {
  const TensorSpec* tensor = nullptr;
  std::vector<TensorTarget> targets;
  bool scales = false;                  // of the weights' codes, not values
  const TensorSpec* offsets = nullptr;  // written together with the scales; NULL: none
};

// A weight without stored bytes: see weight_fill.
struct WeightFill {
  uint32_t weight = 0;
  uint64_t seed = 0;
  float mean = 0, stddev = 0;
};

// How a file becomes weights. Points into the model's spec and declarations.
struct LoadPlan {
  std::vector<dsopt_weight_desc> weights;  // one per declaration; name points into the declaration
  std::vector<TensorPlan> tensors;         // the stored ones, in file order
  std::vector<WeightFill> fills;
  std::deque<WeightPart> scale_parts;            // targets of scales point here
};

// Matches declarations with the file's tensors: presence, shape, type. Parts of different types give a weight
// of the wider type; encoded parts of one weight must be encoded alike; synthetic parts of one weight must have the
// same distribution. Tensors that nothing needs are logged and ignored.
Result<LoadPlan> MakeLoadPlan(const std::vector<WeightDeclaration>& declarations, const ModelSpec& spec,
                              const Logger& log);

}  // namespace dsopt
#endif  // DSOPT_MODEL_WEIGHTS_H_
