// canonical_tensors.h - the tensors that a configuration needs, by their canonical names (model/names.h), in
// the order of use: what every importer has to find in its checkpoint.
#ifndef DSOPT_IMPORT_CANONICAL_TENSORS_H_
#define DSOPT_IMPORT_CANONICAL_TENSORS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "spec/model_spec.h"

namespace dsopt {

struct CanonicalTensor {
  static constexpr uint32_t kNoLayer = UINT32_MAX;

  uint32_t layer = kNoLayer;
  std::string suffix;           // "attn.q", "attn.q.bias"; outside of layers the whole name: "embed"
  std::vector<uint64_t> shape;  // [experts, rows, cols] of routed experts
  // Tensors of one layer with the same `weight` become one weight: they must be encoded alike. Empty: cannot be
  // encoded (vectors, the router, the per-head products of latent attention).
  std::string weight;

  std::string name() const;
};

std::vector<CanonicalTensor> ListCanonicalTensors(const ConfigSpec& config);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_CANONICAL_TENSORS_H_
