#include "base/versioned.h"
#include "ops/operators.h"

namespace dsopt {

Status CheckRmsNorm(const void* args, Operands* operands, OpArgs* out) {
  dsopt_rmsnorm_args& a = out->rmsnorm;
  RETURN_IF_ERROR(ReadStruct(static_cast<const dsopt_rmsnorm_args*>(args), "args", &a));
  RETURN_IF_ERROR(CheckEps(*operands, a.eps));
  RETURN_IF_ERROR(operands->Required("x", a.x, {kActivationTypes, {kAnyExtent, kAnyExtent}}, &a.x));
  const int64_t tokens = a.x->shape[0], hidden = a.x->shape[1];
  RETURN_IF_ERROR(operands->Optional("residual", a.residual,
                                     {kActivationTypes, {tokens, hidden}, Access::kReadWrite}, &a.residual));
  RETURN_IF_ERROR(operands->Required("weight", a.weight, {kWeightTypes, {hidden}}, &a.weight));
  RETURN_IF_ERROR(
      operands->Required("out", a.out, {kActivationTypes, {tokens, hidden}, Access::kWrite}, &a.out));
  operands->AllowSame(a.out, a.x);
  return Status();
}

}  // namespace dsopt
