#include <cmath>

#include "base/versioned.h"
#include "ops/operators.h"

namespace dsopt {
namespace {

constexpr int64_t kMaxExperts = 1024;
constexpr uint32_t kMaxGroups = 256;

Status CheckRouter(Operands* operands, dsopt_moe_args* a, int64_t experts, int64_t hidden) {
  RETURN_IF_ERROR(operands->Optional("router", a->router,
                                     {kWeightTypes, {experts, hidden}, Access::kRead, true}, &a->router));
  if (a->router == nullptr) {
    if (a->groups == 0 && a->top_groups == 0 && a->renormalise == 0 && a->route_scale == 0.0f) return Status();
    return operands->Wrong("router",
                           "NULL, expected a tensor: groups, top_groups, renormalise or route_scale is set");
  }
  if (a->renormalise > 1) return operands->Unsupported("renormalise", "%u, expected 0 or 1", a->renormalise);
  if (!std::isfinite(a->route_scale)) {
    return operands->Wrong("route_scale", "%g, expected a number", static_cast<double>(a->route_scale));
  }
  if (a->groups > kMaxGroups || (a->groups != 0 && experts % a->groups != 0)) {
    return operands->Wrong("groups", "%u, expected at most %u and a divisor of %lld experts", a->groups,
                           kMaxGroups, static_cast<long long>(experts));
  }
  if (a->groups == 0 ? a->top_groups != 0 : a->top_groups == 0 || a->top_groups > a->groups) {
    return operands->Wrong("top_groups", "%u, expected %s groups (%u)", a->top_groups,
                           a->groups == 0 ? "0: there are no" : "1 to", a->groups);
  }
  const int64_t choices = a->groups == 0 ? experts : experts / a->groups * a->top_groups;
  if (a->top_k <= choices) return Status();
  return operands->Wrong("top_k", "%u, expected at most %lld: the experts of top_groups groups", a->top_k,
                         static_cast<long long>(choices));
}

Status CheckShared(Operands* operands, dsopt_moe_args* a, int64_t hidden) {
  if ((a->shared_gate_up == nullptr) != (a->shared_down == nullptr)) {
    return operands->Wrong(a->shared_down == nullptr ? "shared_down" : "shared_gate_up",
                           "NULL, expected a tensor: the other one is given");
  }
  RETURN_IF_ERROR(operands->Optional("shared_down", a->shared_down,
                                     {kWeightTypes, {hidden, kAnyExtent}, Access::kRead, true},
                                     &a->shared_down));
  if (a->shared_down == nullptr) return Status();
  const int64_t inner = a->shared_down->shape[1];
  RETURN_IF_ERROR(CheckProduct(*operands, "shared_down", inner, 2));
  return operands->Required("shared_gate_up", a->shared_gate_up,
                            {kWeightTypes, {2 * inner, hidden}, Access::kRead, true}, &a->shared_gate_up);
}

}  // namespace

Status CheckMoe(const void* args, Operands* operands, OpArgs* out) {
  dsopt_moe_args& a = out->moe;
  RETURN_IF_ERROR(ReadStruct(static_cast<const dsopt_moe_args*>(args), "args", &a));
  RETURN_IF_ERROR(CheckActivation(*operands, a.activation, false));
  RETURN_IF_ERROR(operands->Required("x", a.x, {kActivationTypes, {kAnyExtent, kAnyExtent}}, &a.x));
  const int64_t tokens = a.x->shape[0], hidden = a.x->shape[1];
  RETURN_IF_ERROR(operands->Required(
      "down", a.down, {kWeightTypes, {kAnyExtent, hidden, kAnyExtent}, Access::kRead, true}, &a.down));
  const int64_t experts = a.down->shape[0], inner = a.down->shape[2];
  if (experts > kMaxExperts) {
    return operands->Unsupported("down", "%lld experts, expected at most %lld", static_cast<long long>(experts),
                                 static_cast<long long>(kMaxExperts));
  }
  if (a.top_k == 0 || a.top_k > experts) {
    return operands->Wrong("top_k", "%u, expected 1 to %lld", a.top_k, static_cast<long long>(experts));
  }
  RETURN_IF_ERROR(CheckProduct(*operands, "x", tokens, a.top_k));
  RETURN_IF_ERROR(CheckProduct(*operands, "down", inner, 2));
  RETURN_IF_ERROR(operands->Required(
      "gate_up", a.gate_up, {kWeightTypes, {experts, 2 * inner, hidden}, Access::kRead, true}, &a.gate_up));
  RETURN_IF_ERROR(CheckRouter(operands, &a, experts, hidden));
  RETURN_IF_ERROR(CheckShared(operands, &a, hidden));
  const Access choice = a.router != nullptr ? Access::kWrite : Access::kRead;
  const int64_t top_k = a.top_k;
  const Expected ids = {kIndexType, {tokens, top_k}, choice, true};
  const Expected weights = {kFloatType, {tokens, top_k}, choice, true};
  if (a.router == nullptr) {
    RETURN_IF_ERROR(operands->Required("expert_ids", a.expert_ids, ids, &a.expert_ids));
    RETURN_IF_ERROR(operands->Required("expert_weights", a.expert_weights, weights, &a.expert_weights));
  } else {
    RETURN_IF_ERROR(operands->Optional("expert_ids", a.expert_ids, ids, &a.expert_ids));
    RETURN_IF_ERROR(operands->Optional("expert_weights", a.expert_weights, weights, &a.expert_weights));
  }
  return operands->Required("out", a.out, {kActivationTypes, {tokens, hidden}, Access::kWrite}, &a.out);
}

Status CheckMoeValues(const OpArgs& args, const Operands& operands) {
  const dsopt_moe_args& a = args.moe;
  if (a.router != nullptr) return Status();
  const auto* ids = static_cast<const int32_t*>(a.expert_ids->data);
  const int64_t experts = a.down->shape[0];
  for (int64_t i = 0; i < a.x->shape[0] * a.top_k; ++i) {
    if (ids[i] >= 0 && ids[i] < experts) continue;
    return operands.Wrong("expert_ids", "[%lld, %lld] is %d, expected 0 to %lld",
                          static_cast<long long>(i / a.top_k), static_cast<long long>(i % a.top_k), ids[i],
                          static_cast<long long>(experts - 1));
  }
  return Status();
}

}  // namespace dsopt
