// operators.h - what each operator of dsopt/ops.h accepts, one file per operator: shapes and values, no
// arithmetic. The arithmetic is in the backends.
#ifndef DSOPT_OPS_OPERATORS_H_
#define DSOPT_OPS_OPERATORS_H_

#include "ops/operands.h"

namespace dsopt {

// Arguments as backends get them: complete, their views inside an Operands.
union OpArgs {
  dsopt_rmsnorm_args rmsnorm;
  dsopt_linear_args linear;
  dsopt_qkv_args qkv;
  dsopt_attention_args attention;
  dsopt_gated_mlp_args gated_mlp;
  dsopt_moe_args moe;
  dsopt_sample_args sample;
};

struct Operator {
  dsopt_op id;
  const char* name;
  // Reads the caller's args and checks everything but addresses and what lies in memory.
  Status (*check)(const void* args, Operands* operands, OpArgs* out);
  // Values of index arrays, on the host only, after Operands::CheckMemory; NULL: none.
  Status (*check_values)(const OpArgs& args, const Operands& operands);
};

// NULL: no such operator.
const Operator* FindOperator(dsopt_op op);

Status CheckRmsNorm(const void* args, Operands* operands, OpArgs* out);
Status CheckLinear(const void* args, Operands* operands, OpArgs* out);
Status CheckQkv(const void* args, Operands* operands, OpArgs* out);
Status CheckQkvValues(const OpArgs& args, const Operands& operands);
Status CheckAttention(const void* args, Operands* operands, OpArgs* out);
Status CheckAttentionValues(const OpArgs& args, const Operands& operands);
Status CheckGatedMlp(const void* args, Operands* operands, OpArgs* out);
Status CheckMoe(const void* args, Operands* operands, OpArgs* out);
Status CheckMoeValues(const OpArgs& args, const Operands& operands);
Status CheckSample(const void* args, Operands* operands, OpArgs* out);
Status CheckSampleValues(const OpArgs& args, const Operands& operands);

// Shared by the operators above.
Status CheckEps(const Operands& operands, float eps);
Status CheckActivation(const Operands& operands, dsopt_activation activation, bool optional);
// Two extents that make one number of 32 bits.
Status CheckProduct(const Operands& operands, const char* name, int64_t a, int64_t b);

}  // namespace dsopt
#endif  // DSOPT_OPS_OPERATORS_H_
