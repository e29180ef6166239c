// operators.cc - the list of operators, and checks that several of them need.
#include "ops/operators.h"

namespace dsopt {
namespace {

constexpr Operator kOperators[] = {
    {DSOPT_OP_RMSNORM, "rmsnorm", CheckRmsNorm, nullptr},
    {DSOPT_OP_LINEAR, "linear", CheckLinear, nullptr},
    {DSOPT_OP_QKV, "qkv", CheckQkv, CheckQkvValues},
    {DSOPT_OP_ATTENTION, "attention", CheckAttention, CheckAttentionValues},
    {DSOPT_OP_GATED_MLP, "gated_mlp", CheckGatedMlp, nullptr},
    {DSOPT_OP_MOE, "moe", CheckMoe, CheckMoeValues},
    {DSOPT_OP_SAMPLE, "sample", CheckSample, CheckSampleValues},
};

}  // namespace

const Operator* FindOperator(dsopt_op op) {
  for (const Operator& entry : kOperators) {
    if (entry.id == op) return &entry;
  }
  return nullptr;
}

Status CheckEps(const Operands& operands, float eps) {
  if (eps >= 0.0f && eps <= 1.0f) return Status();  // false for NaN
  return operands.Wrong("eps", "%g, expected 0 to 1", static_cast<double>(eps));
}

Status CheckActivation(const Operands& operands, dsopt_activation activation, bool optional) {
  const bool gate = activation == DSOPT_ACT_SILU || activation == DSOPT_ACT_GELU_TANH;
  if (gate || (optional && activation == DSOPT_ACT_NONE)) return Status();
  return operands.Unsupported("activation", "%d, expected %s", static_cast<int>(activation),
                              optional ? "NONE (0), SILU (1) or GELU_TANH (2)" : "SILU (1) or GELU_TANH (2)");
}

Status CheckProduct(const Operands& operands, const char* name, int64_t a, int64_t b) {
  if (a <= kMaxExtent / b) return Status();
  return operands.Wrong(name, "%lld times %lld, expected at most %lld together", static_cast<long long>(a),
                        static_cast<long long>(b), static_cast<long long>(kMaxExtent));
}

}  // namespace dsopt
