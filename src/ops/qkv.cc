#include "base/versioned.h"
#include "ops/operators.h"

namespace dsopt {
namespace {

constexpr uint32_t kPageDims = 4, kTokenDims = 3;

Status CheckRope(const Operands& operands, const dsopt_qkv_args& a, int64_t head_dim) {
  if (a.interleaved > 1) return operands.Unsupported("interleaved", "%u, expected 0 or 1", a.interleaved);
  if (a.rope == nullptr) return Status();
  const int64_t dim = a.rope->shape[1];
  if (dim % 2 != 0 || dim > head_dim) {
    return operands.Wrong("rope", "%lld values of a position, expected an even number up to head_dim %lld",
                          static_cast<long long>(dim), static_cast<long long>(head_dim));
  }
  if (a.positions == nullptr) return operands.Wrong("positions", "NULL, expected an array: rope is given");
  return Status();
}

// Where k and v go: pages of a cache or one row per token.
Status CheckTargets(Operands* operands, dsopt_qkv_args* a, int64_t tokens, int64_t head_dim) {
  if (a->k == nullptr) return operands->Wrong("k", "NULL, expected a tensor");
  dsopt_tensor k;
  RETURN_IF_ERROR(ReadStruct(a->k, "k", &k));
  if (k.ndim != kPageDims && k.ndim != kTokenDims) {
    return operands->Wrong("k", "%u dimensions, expected 4 (pages of a cache) or 3 (one row per token)",
                           k.ndim);
  }
  const bool paged = k.ndim == kPageDims;
  if (paged != (a->token_slots != nullptr)) {
    return operands->Wrong("token_slots", "%s, expected %s: k has %u dimensions", paged ? "NULL" : "not NULL",
                           paged ? "an array" : "NULL", k.ndim);
  }
  if (paged) {
    RETURN_IF_ERROR(operands->Required(
        "k", a->k, {kActivationTypes, {kAnyExtent, kAnyExtent, kAnyExtent, head_dim}, Access::kWrite}, &a->k));
    const int64_t* s = a->k->shape;
    RETURN_IF_ERROR(operands->Required(
        "v", a->v, {DtypeBit(a->k->dtype), {s[0], s[1], s[2], s[3]}, Access::kWrite}, &a->v));
    return CheckProduct(*operands, "k", s[0], s[2]);
  }
  RETURN_IF_ERROR(
      operands->Required("k", a->k, {kActivationTypes, {tokens, kAnyExtent, head_dim}, Access::kWrite}, &a->k));
  return operands->Required("v", a->v,
                            {DtypeBit(a->k->dtype), {tokens, a->k->shape[1], head_dim}, Access::kWrite}, &a->v);
}

}  // namespace

Status CheckQkv(const void* args, Operands* operands, OpArgs* out) {
  dsopt_qkv_args& a = out->qkv;
  RETURN_IF_ERROR(ReadStruct(static_cast<const dsopt_qkv_args*>(args), "args", &a));
  RETURN_IF_ERROR(CheckEps(*operands, a.eps));
  RETURN_IF_ERROR(operands->Required("x", a.x, {kActivationTypes, {kAnyExtent, kAnyExtent}}, &a.x));
  const int64_t tokens = a.x->shape[0], hidden = a.x->shape[1];
  RETURN_IF_ERROR(
      operands->Required("q", a.q, {kActivationTypes, {tokens, kAnyExtent, kAnyExtent}, Access::kWrite}, &a.q));
  const int64_t q_heads = a.q->shape[1], head_dim = a.q->shape[2];
  RETURN_IF_ERROR(CheckTargets(operands, &a, tokens, head_dim));
  const int64_t kv_heads = a.k->shape[1];
  RETURN_IF_ERROR(CheckProduct(*operands, "q", q_heads + 2 * kv_heads, head_dim));
  const int64_t outputs = (q_heads + 2 * kv_heads) * head_dim;
  RETURN_IF_ERROR(operands->Optional("norm", a.norm, {kWeightTypes, {hidden}}, &a.norm));
  RETURN_IF_ERROR(operands->Required("weight", a.weight, {kWeightTypes, {outputs, hidden}, Access::kRead, true},
                                     &a.weight));
  RETURN_IF_ERROR(operands->Optional("bias", a.bias, {kWeightTypes, {outputs}}, &a.bias));
  RETURN_IF_ERROR(operands->Optional("q_norm", a.q_norm, {kWeightTypes, {head_dim}}, &a.q_norm));
  RETURN_IF_ERROR(operands->Optional("k_norm", a.k_norm, {kWeightTypes, {head_dim}}, &a.k_norm));
  RETURN_IF_ERROR(operands->Optional("rope", a.rope, {kFloatType, {kAnyExtent, kAnyExtent}}, &a.rope));
  RETURN_IF_ERROR(CheckRope(*operands, a, head_dim));
  RETURN_IF_ERROR(operands->Array("positions", a.positions, static_cast<uint64_t>(tokens), 4));
  return operands->Array("token_slots", a.token_slots, static_cast<uint64_t>(tokens), 4);
}

Status CheckQkvValues(const OpArgs& args, const Operands& operands) {
  const dsopt_qkv_args& a = args.qkv;
  const int64_t positions = a.rope != nullptr ? a.rope->shape[0] : 0;
  const int64_t slots = a.token_slots != nullptr ? a.k->shape[0] * a.k->shape[2] : 0;
  for (int64_t t = 0; t < a.x->shape[0]; ++t) {
    if (a.rope != nullptr && (a.positions[t] < 0 || a.positions[t] >= positions)) {
      return operands.Wrong("positions", "[%lld] is %d, expected 0 to %lld: the rows of rope",
                            static_cast<long long>(t), a.positions[t], static_cast<long long>(positions - 1));
    }
    if (a.token_slots != nullptr && (a.token_slots[t] < -1 || a.token_slots[t] >= slots)) {
      return operands.Wrong("token_slots", "[%lld] is %d, expected -1 to %lld: the places of k",
                            static_cast<long long>(t), a.token_slots[t], static_cast<long long>(slots - 1));
    }
  }
  return Status();
}

}  // namespace dsopt
