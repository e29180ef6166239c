#include <cmath>

#include "base/versioned.h"
#include "ops/operators.h"

namespace dsopt {
namespace {

constexpr uint32_t kMaxSequences = 1u << 20;
constexpr int64_t kMaxHeadDim = 1024;

Status CheckNumbers(const Operands& operands, const dsopt_attention_args& a) {
  if ((a.flags & ~DSOPT_ATTENTION_CAUSAL) != 0) {
    return operands.Unsupported("flags", "0x%x, this library knows 0x%x", a.flags, DSOPT_ATTENTION_CAUSAL);
  }
  if (!std::isfinite(a.scale) || a.scale < 0.0f) {
    return operands.Wrong("scale", "%g, expected 0 (default) or more", static_cast<double>(a.scale));
  }
  if (a.window > static_cast<uint32_t>(kMaxExtent)) {
    return operands.Wrong("window", "%u, expected at most %lld", a.window, static_cast<long long>(kMaxExtent));
  }
  if (a.window != 0 && (a.flags & DSOPT_ATTENTION_CAUSAL) == 0) {
    return operands.Unsupported("window", "%u, expected 0: the attention is not CAUSAL", a.window);
  }
  if (a.batch == 0 || a.batch > kMaxSequences) {
    return operands.Wrong("batch", "%u, expected 1 to %u", a.batch, kMaxSequences);
  }
  return Status();
}

Status CheckKeys(Operands* operands, dsopt_attention_args* a, int64_t head_dim) {
  const bool paged = a->page_table != nullptr;
  const int64_t sequences = paged ? kAnyExtent : static_cast<int64_t>(a->batch);
  RETURN_IF_ERROR(
      operands->Required("k", a->k, {kActivationTypes, {sequences, kAnyExtent, kAnyExtent, head_dim}}, &a->k));
  const int64_t* s = a->k->shape;
  RETURN_IF_ERROR(operands->Required("v", a->v, {DtypeBit(a->k->dtype), {s[0], s[1], s[2], s[3]}}, &a->v));
  for (const dsopt_tensor* t : {a->k, a->v}) {
    if (t->stride[1] <= kMaxExtent && t->stride[2] <= kMaxExtent) continue;
    return operands->Unsupported(t == a->k ? "k" : "v", "a stride beyond %lld inside a page or sequence",
                                 static_cast<long long>(kMaxExtent));
  }
  if (!paged) {
    if (a->max_pages == 0) return Status();
    return operands->Wrong("max_pages", "%u, expected 0: page_table is NULL", a->max_pages);
  }
  if (a->max_pages == 0 || a->max_pages > static_cast<uint64_t>(kMaxExtent)) {
    return operands->Wrong("max_pages", "%u, expected 1 to %lld", a->max_pages,
                           static_cast<long long>(kMaxExtent));
  }
  RETURN_IF_ERROR(CheckProduct(*operands, "max_pages", a->max_pages, s[2]));
  return CheckProduct(*operands, "page_table", a->max_pages, a->batch);
}

}  // namespace

Status CheckAttention(const void* args, Operands* operands, OpArgs* out) {
  dsopt_attention_args& a = out->attention;
  RETURN_IF_ERROR(ReadStruct(static_cast<const dsopt_attention_args*>(args), "args", &a));
  RETURN_IF_ERROR(CheckNumbers(*operands, a));
  RETURN_IF_ERROR(operands->Required("q", a.q, {kActivationTypes, {kAnyExtent, kAnyExtent, kAnyExtent}}, &a.q));
  const int64_t tokens = a.q->shape[0], q_heads = a.q->shape[1], head_dim = a.q->shape[2];
  if (head_dim > kMaxHeadDim) {
    return operands->Unsupported("q", "head_dim %lld, expected at most %lld", static_cast<long long>(head_dim),
                                 static_cast<long long>(kMaxHeadDim));
  }
  RETURN_IF_ERROR(CheckProduct(*operands, "q", tokens, q_heads));
  RETURN_IF_ERROR(CheckKeys(operands, &a, head_dim));
  const int64_t kv_heads = a.page_table != nullptr ? a.k->shape[1] : a.k->shape[2];
  if (q_heads % kv_heads != 0) {
    return operands->Wrong("q", "%lld heads, expected a multiple of the %lld heads of k",
                           static_cast<long long>(q_heads), static_cast<long long>(kv_heads));
  }
  if (a.q_offsets == nullptr && tokens % a.batch != 0) {
    return operands->Wrong("q", "%lld tokens, expected a multiple of batch %u: q_offsets is NULL",
                           static_cast<long long>(tokens), a.batch);
  }
  RETURN_IF_ERROR(operands->Array("q_offsets", a.q_offsets, uint64_t{a.batch} + 1, 4));
  RETURN_IF_ERROR(operands->Array("kv_lengths", a.kv_lengths, a.batch, 4));
  RETURN_IF_ERROR(operands->Array("page_table", a.page_table, uint64_t{a.batch} * a.max_pages, 4));
  return operands->Required("out", a.out, {kActivationTypes, {tokens, q_heads, head_dim}, Access::kWrite},
                            &a.out);
}

Status CheckAttentionValues(const OpArgs& args, const Operands& operands) {
  const dsopt_attention_args& a = args.attention;
  const int64_t tokens = a.q->shape[0];
  const bool paged = a.page_table != nullptr;
  const int64_t page_tokens = paged ? a.k->shape[2] : 1;
  const int64_t room = paged ? a.max_pages * page_tokens : a.k->shape[1];
  for (uint32_t b = 0; b < a.batch; ++b) {
    if (a.q_offsets != nullptr) {
      const int64_t first = a.q_offsets[b], last = a.q_offsets[b + 1];
      if ((b == 0 && first != 0) || last < first || last > tokens) {
        return operands.Wrong(
            "q_offsets", "[%u] is %lld and [%u] is %lld, expected to ascend from 0 to at most %lld", b,
            static_cast<long long>(first), b + 1, static_cast<long long>(last), static_cast<long long>(tokens));
      }
    }
    const int64_t keys = a.kv_lengths != nullptr ? a.kv_lengths[b] : room;
    if (keys < 0 || keys > room) {
      return operands.Wrong("kv_lengths", "[%u] is %lld, expected 0 to %lld", b, static_cast<long long>(keys),
                            static_cast<long long>(room));
    }
    for (int64_t i = 0; paged && i < (keys + page_tokens - 1) / page_tokens; ++i) {
      const int32_t page = a.page_table[uint64_t{b} * a.max_pages + static_cast<uint64_t>(i)];
      if (page >= 0 && page < a.k->shape[0]) continue;
      return operands.Wrong("page_table", "[%u, %lld] is %d, expected 0 to %lld", b, static_cast<long long>(i),
                            page, static_cast<long long>(a.k->shape[0] - 1));
    }
  }
  return Status();
}

}  // namespace dsopt
