// tensor_source.h - where a tensor of the .dsopt file comes from, and which encoding holds it without loss.
// Reads no data: see convert.h.
#ifndef DSOPT_IMPORT_TENSOR_SOURCE_H_
#define DSOPT_IMPORT_TENSOR_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "import/canonical_tensors.h"
#include "import/matrix_source.h"
#include "spec/model_spec.h"

namespace dsopt {

// One tensor of the .dsopt file: the checkpoint's matrices one below the other.
struct TensorSource {
  TensorSpec spec;     // name, shape; type, encoding and groups after ChooseForms
  std::string weight;  // tensors with the same one must be encoded alike; empty: stays plain
  std::vector<std::unique_ptr<MatrixSource>> pieces;  // their rows together are those of the shape
  dsopt_dtype scale_type = DSOPT_F32;                 // of scales and offsets, where the encoding has them
};

struct CheckpointMap {
  std::vector<TensorSource> tensors;  // in the order of use: embed, layers, final norm, head
  std::vector<std::string> ignored;   // checkpoint tensors that nothing needs
};

// spec's name and shape, and weight.
TensorSource MakeTensorSource(const CanonicalTensor& tensor);

// What became of the tensors of one kind: a row of the table that convert prints.
struct FormSummary {
  std::string from;  // types in the checkpoint: "Q4_K", "Q4_K beside Q6_K"
  std::string to;    // "int4, groups of 32, offsets"
  uint64_t tensors = 0, parameters = 0;
  bool operator==(const FormSummary&) const = default;
};

// Sets type, encoding and groups of every tensor. dtype DEFAULT: the form that all tensors of a weight have in
// common (codes of 4 bits are widened to 8, groups divided), plain floats where there is none: bf16 for what
// was encoded, the checkpoint's type for the rest. Another dtype: tensors of two and more dimensions become
// plain floats of that type.
void ChooseForms(dsopt_dtype dtype, std::vector<TensorSource>* tensors);

// "int4, groups of 32, offsets", "bf16": what spec says of a tensor's form.
std::string FormText(const TensorSpec& spec);
// Rows in the order of their first tensor.
std::vector<FormSummary> SummariseForms(const std::vector<TensorSource>& tensors);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_TENSOR_SOURCE_H_
