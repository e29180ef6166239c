// mlp.cc - the dense feed-forward block: norm, gate and up with their activation, down onto the residual.
#include "build.h"

namespace dsopt_cpu {

void Builder::BuildMlp(const dsopt_mlp_block& b) {
  const uint8_t* h = AddNorm(b.norm, b.norm_eps, b.gate_up, false, RowSet::kBatch);
  const uint8_t* inner =
      AddGated(b.gate_up, b.gate_up_bias, b.down, b.activation, h, RowSet::kBatch, max_rows());
  AddResidual(b.down, inner, b.down_bias, RowSet::kBatch);
}

}  // namespace dsopt_cpu
