#include "base/versioned.h"
#include "ops/operators.h"

namespace dsopt {

Status CheckGatedMlp(const void* args, Operands* operands, OpArgs* out) {
  dsopt_gated_mlp_args& a = out->gated_mlp;
  RETURN_IF_ERROR(ReadStruct(static_cast<const dsopt_gated_mlp_args*>(args), "args", &a));
  RETURN_IF_ERROR(CheckActivation(*operands, a.activation, false));
  RETURN_IF_ERROR(operands->Required("x", a.x, {kActivationTypes, {kAnyExtent, kAnyExtent}}, &a.x));
  const int64_t tokens = a.x->shape[0], hidden = a.x->shape[1];
  RETURN_IF_ERROR(
      operands->Required("down", a.down, {kWeightTypes, {hidden, kAnyExtent}, Access::kRead, true}, &a.down));
  const int64_t inner = a.down->shape[1];
  RETURN_IF_ERROR(CheckProduct(*operands, "down", inner, 2));
  RETURN_IF_ERROR(operands->Required("gate_up", a.gate_up,
                                     {kWeightTypes, {2 * inner, hidden}, Access::kRead, true}, &a.gate_up));
  return operands->Required("out", a.out, {kActivationTypes, {tokens, hidden}, Access::kWrite}, &a.out);
}

}  // namespace dsopt
