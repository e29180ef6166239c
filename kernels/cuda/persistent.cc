// persistent.cc - what of a program goes through a persistent kernel: whether its shape is one of theirs, and what that
// takes. record_persistent.cc: tables and launches.
#include "persistent_dense.h"
#include "persistent_latent.h"
#include "program.h"

using namespace dsopt_cuda;

namespace {

// What the persistent kernels need to know of a matrix; false: they cannot read it.
struct PersistentFormat {
  Packing packing = Packing::kNone;
  int group = 0;  // int4

  bool operator==(const PersistentFormat&) const = default;
};
bool FormatOf(const dsopt_be_weight* w, PersistentFormat* format) {
  *format = {};
  if (w->elem == Elem::kBf16) return true;
  if (w->elem != Elem::kPacked) return false;
  const PackedLayout& l = w->packed.layout;
  const bool int4 = l.packing == Packing::kInt4;
  *format = {l.packing, int4 ? l.group : 0};
  const bool offsets = l.offsets || w->packed.row_offsets != nullptr;
  return !offsets && (int4 || l.packing == Packing::kLossless12 || l.group == 0);
}
bool HasFormat(const dsopt_be_weight* w, const PersistentFormat& wanted) {
  PersistentFormat format;
  return FormatOf(w, &format) && format == wanted;
}

struct PersistentFeedForward {
  const dsopt_be_weight *gate_up, *down;
  float norm_eps, route_scale;
  int inner, experts, top_k;
  bool renormalise;
};

// What a block comes to where the dense kernel can run it: a dense MLP, or a mixture without groups and shared
// experts.
bool FeedForwardOf(const dsopt_block& block, PersistentFeedForward* out) {
  if (block.kind == DSOPT_BLOCK_MLP) {
    const dsopt_mlp_block& m = block.u.mlp;
    *out = {m.gate_up, m.down, m.norm_eps, 0.0f, static_cast<int>(m.inner), 0, 1, false};
    return m.gate_up_bias == nullptr && m.down_bias == nullptr && m.activation == DSOPT_ACT_SILU;
  }
  if (block.kind != DSOPT_BLOCK_MOE) return false;
  const dsopt_moe_block& m = block.u.moe;
  *out = {m.gate_up,
          m.down,
          m.norm_eps,
          m.route_scale,
          static_cast<int>(m.inner),
          static_cast<int>(m.experts),
          static_cast<int>(m.top_k),
          m.renormalise != 0};
  return m.shared_inner == 0 && m.groups <= 1 && m.activation == DSOPT_ACT_SILU;
}

// The layers of a model with attention of heads of its own; false: they differ, or have what no persistent kernel does.
bool DenseModelOf(const dsopt_program_desc& d, DenseShape* shape) {
  const dsopt_attention_block& first = d.blocks[1].u.attention;
  PersistentFormat format;
  if (d.blocks[1].kind != DSOPT_BLOCK_ATTENTION || !FormatOf(first.qkv, &format)) return false;
  for (uint32_t i = 1; i + 1 < d.block_count; i += 2) {
    if (d.blocks[i].kind != DSOPT_BLOCK_ATTENTION || d.blocks[i + 1].kind != d.blocks[2].kind) return false;
    const dsopt_attention_block& a = d.blocks[i].u.attention;
    const dsopt_rope& rope = d.ropes[a.rope];
    const bool same = a.q_heads == first.q_heads && a.kv_heads == first.kv_heads &&
                      a.head_dim == first.head_dim && a.rope == first.rope && a.scale == first.scale &&
                      a.norm_eps == first.norm_eps;
    const bool plain = a.qkv_bias == nullptr && a.out_bias == nullptr && a.window != 1 &&
                       rope.interleaved == 0 && rope.dim == a.head_dim && a.cache_offset % 16 == 0;
    PersistentFeedForward f{}, other{};
    if (!same || !plain || !FeedForwardOf(d.blocks[i + 1], &f) || f.norm_eps != first.norm_eps) return false;
    if (i == 1) {
      shape->inner = f.inner;
      shape->experts = f.experts;
      shape->top_k = f.top_k;
    }
    FeedForwardOf(d.blocks[2], &other);
    if (f.inner != other.inner || f.experts != other.experts || f.top_k != other.top_k ||
        f.renormalise != other.renormalise || f.route_scale != other.route_scale)
      return false;
    for (const dsopt_be_weight* w : {a.qkv, a.out, f.gate_up, f.down})
      if (!HasFormat(w, format)) return false;
  }
  shape->packing = format.packing;
  shape->group = format.group;
  shape->cache = CacheCodeOf(d);
  shape->hidden = static_cast<int>(d.hidden);
  shape->q_heads = static_cast<int>(first.q_heads);
  shape->kv_heads = static_cast<int>(first.kv_heads);
  shape->head_dim = static_cast<int>(first.head_dim);
  shape->vocab = static_cast<int>(d.vocab);
  shape->layers = static_cast<int>((d.block_count - 2) / 2);
  return true;
}

// One row, head included.
bool DenseShapeOf(const Limits& limits, const dsopt_program_desc& d, const DenseShape& model, DenseShape* shape) {
  const dsopt_head_block& head = d.blocks[d.block_count - 1].u.head;
  PersistentFormat head_format;
  if (!FormatOf(head.weight, &head_format) || head.norm_eps != d.blocks[1].u.attention.norm_eps ||
      (model.packing == Packing::kNone && head_format.packing != Packing::kNone))
    return false;
  *shape = model;
  shape->head_packing = head_format.packing;
  return DenseSupported(limits, *shape);
}

// Several rows, without the head.
bool BatchShapeOf(const Limits& limits, const dsopt_program_desc& d, const DenseShape& model, BatchShape* shape) {
  *shape = {model, static_cast<int>(d.blocks[1].u.attention.window)};
  for (uint32_t i = 1; i + 1 < d.block_count; i += 2)
    if (d.blocks[i].u.attention.window != d.blocks[1].u.attention.window) return false;
  return BatchSupported(limits, *shape);
}

// Takes the value on first use; false: it is another one than before.
bool Agree(int* kept, uint32_t value) {
  if (*kept < 0) *kept = static_cast<int>(value);
  return *kept == static_cast<int>(value);
}

bool LatentFeedForward(const dsopt_block& block, const dsopt_block& mixture, const PersistentFormat& format,
                       LatentShape* shape) {
  if (block.kind == DSOPT_BLOCK_MLP) {
    const dsopt_mlp_block& m = block.u.mlp;
    for (const dsopt_be_weight* w : {m.gate_up, m.down})
      if (!HasFormat(w, format)) return false;
    return m.gate_up_bias == nullptr && m.down_bias == nullptr && m.activation == DSOPT_ACT_SILU &&
           m.norm_eps == mixture.u.moe.norm_eps && Agree(&shape->dense_inner, m.inner);
  }
  if (block.kind != DSOPT_BLOCK_MOE) return false;
  const dsopt_moe_block &m = block.u.moe, &first = mixture.u.moe;
  if (m.shared_inner == 0) return false;
  for (const dsopt_be_weight* w : {m.gate_up, m.down, m.shared_gate_up, m.shared_down})
    if (!HasFormat(w, format)) return false;
  return m.activation == DSOPT_ACT_SILU && m.norm_eps == first.norm_eps && m.route_scale == first.route_scale &&
         m.renormalise == first.renormalise && Agree(&shape->inner, m.inner) &&
         Agree(&shape->shared_inner, m.shared_inner) && Agree(&shape->experts, m.experts) &&
         Agree(&shape->top_k, m.top_k) && Agree(&shape->groups, m.groups) &&
         Agree(&shape->top_groups, m.top_groups);
}

// Dense layers and mixtures in any order, at least one of each; the last is a mixture.
bool LatentShapeOf(const Limits& limits, const dsopt_program_desc& d, LatentShape* shape) {
  const dsopt_block &last = d.blocks[d.block_count - 2], &end = d.blocks[d.block_count - 1];
  if (d.blocks[1].kind != DSOPT_BLOCK_MLA || last.kind != DSOPT_BLOCK_MOE) return false;
  const dsopt_mla_block& first = d.blocks[1].u.mla;
  const dsopt_rope& rope = d.ropes[first.rope];
  *shape = {};
  shape->inner = shape->shared_inner = shape->dense_inner = shape->experts = shape->top_k = shape->groups =
      shape->top_groups = -1;
  PersistentFormat format, head_format;
  if (!FormatOf(first.down, &format) || !FormatOf(end.u.head.weight, &head_format) ||
      rope.dim != first.rope_dim)
    return false;
  shape->packing = format.packing;
  shape->group = format.group;
  shape->head_packing = head_format.packing;
  for (uint32_t i = 1; i + 1 < d.block_count; i += 2) {
    if (d.blocks[i].kind != DSOPT_BLOCK_MLA || !LatentFeedForward(d.blocks[i + 1], last, format, shape))
      return false;
    const dsopt_mla_block& m = d.blocks[i].u.mla;
    for (const dsopt_be_weight* w : {m.down, m.q_up, m.out})
      if (w != nullptr && !HasFormat(w, format)) return false;
    const bool same = m.heads == first.heads && m.q_rank == first.q_rank && m.latent == first.latent &&
                      m.nope == first.nope && m.rope_dim == first.rope_dim && m.v_dim == first.v_dim &&
                      m.rope == first.rope && m.scale == first.scale && m.norm_eps == first.norm_eps &&
                      m.latent_eps == first.latent_eps;
    if (!same || m.down_bias != nullptr || m.out_bias != nullptr || m.cache_offset % 16 != 0 ||
        m.k_up->elem != Elem::kBf16 || m.v_up->elem != Elem::kBf16)
      return false;
  }
  shape->hidden = static_cast<int>(d.hidden);
  shape->heads = static_cast<int>(first.heads);
  shape->q_rank = static_cast<int>(first.q_rank);
  shape->latent = static_cast<int>(first.latent);
  shape->nope = static_cast<int>(first.nope);
  shape->rope = static_cast<int>(first.rope_dim);
  shape->v_dim = static_cast<int>(first.v_dim);
  shape->vocab = static_cast<int>(d.vocab);
  shape->layers = static_cast<int>((d.block_count - 2) / 2);
  return LatentSupported(limits, *shape);
}

}  // namespace

namespace dsopt_cuda {

void PlanPersistent(const Limits& limits, const dsopt_program_desc& d, bool fast, PersistentPlan* plan) {
  if (!fast || !limits.has_sm90a || d.kv_dtype == DSOPT_F32 || d.block_count < 4 || d.block_count % 2 != 0)
    return;
  const Elem table = d.blocks[0].u.embed.table->elem;
  if (table != Elem::kBf16 && table != Elem::kPacked) return;
  DenseShape model{};
  if (DenseModelOf(d, &model)) {
    if (DenseShapeOf(limits, d, model, &plan->dense)) {
      plan->kind = PersistentKind::kDense;
      plan->layer_bytes = static_cast<uint64_t>(plan->dense.layers) * sizeof(DenseLayer);
      plan->counter_words = DenseCounterWords(plan->dense);
      plan->activation_floats = DenseActivationFloats(plan->dense);
      plan->partial_floats = DensePartialFloats(limits, plan->dense);
    }
    BatchBuffers unused;
    if (BatchShapeOf(limits, d, model, &plan->batch_shape))
      plan->batch_rows = BatchMostRows(plan->batch_shape, (d.flags & DSOPT_PROGRAM_FUSE_LAYERS) != 0);
    if (plan->batch_rows != 0) plan->batch_bytes = LayOutBatch(plan->batch_shape, nullptr, &unused);
  } else if (d.kv_dtype == DSOPT_BF16 && LatentShapeOf(limits, d, &plan->latent)) {
    plan->kind = PersistentKind::kLatent;
    plan->layer_bytes = static_cast<uint64_t>(plan->latent.layers) * sizeof(LatentLayer);
    plan->counter_words = LatentCounterWords(plan->latent);
    plan->activation_floats = LatentActivationFloats(plan->latent);
    plan->partial_floats = LatentPartialFloats(limits, plan->latent);
  }
}

}  // namespace dsopt_cuda
