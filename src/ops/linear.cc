#include "base/versioned.h"
#include "ops/operators.h"

namespace dsopt {

Status CheckLinear(const void* args, Operands* operands, OpArgs* out) {
  dsopt_linear_args& a = out->linear;
  RETURN_IF_ERROR(ReadStruct(static_cast<const dsopt_linear_args*>(args), "args", &a));
  RETURN_IF_ERROR(CheckActivation(*operands, a.activation, true));
  RETURN_IF_ERROR(operands->Required("x", a.x, {kActivationTypes, {kAnyExtent, kAnyExtent}}, &a.x));
  const int64_t tokens = a.x->shape[0], in = a.x->shape[1];
  RETURN_IF_ERROR(
      operands->Required("weight", a.weight, {kWeightTypes, {kAnyExtent, in}, Access::kRead, true}, &a.weight));
  const int64_t outputs = a.weight->shape[0];
  RETURN_IF_ERROR(operands->Optional("bias", a.bias, {kWeightTypes, {outputs}}, &a.bias));
  return operands->Required("out", a.out, {kActivationTypes, {tokens, outputs}, Access::kWrite}, &a.out);
}

}  // namespace dsopt
