// persistent.cc - what of a program goes through a persistent kernel: whether its shape is one of theirs, their
// tables and buffers, their launch.
#include "persistent_dense.h"
#include "persistent_latent.h"
#include "program.h"
#include "tensor_map.h"

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

DenseMatrix MatrixOf(const dsopt_be_weight& weight) {
  if (weight.elem != Elem::kPacked) return {weight.data, nullptr, nullptr, nullptr};
  const PackedWeight& packed = weight.packed;
  return {packed.data, packed.row_scales, packed.overflow_first, packed.overflow};
}
const float* VectorOf(const dsopt_be_weight* weight) { return static_cast<const float*>(weight->data); }

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

dsopt_status dsopt_be_program::UploadLayers(const void* layers, uint64_t bytes) {
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(
      cudaMemcpyAsync(At<char>(plan.persistent.layers), layers, bytes, cudaMemcpyHostToDevice, stream_),
      "uploading the layer table"));
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(
      cudaMemsetAsync(At<char>(plan.persistent.activations), 0xff, plan.persistent.marked_bytes, stream_),
      "marking activations"));
  return device->Check(cudaStreamSynchronize(stream_), "uploading the layer table");
}

// Tables and buffers of the persistent kernel.
dsopt_status dsopt_be_program::PreparePersistent() {
  return plan.persistent.kind == PersistentKind::kDense ? PrepareDense() : PrepareLatent();
}

dsopt_status dsopt_be_program::PrepareDense() {
  const dsopt_attention_block& first = blocks[1].u.attention;
  HostVector<DenseLayer> layers((HostAllocator<DenseLayer>(device->host.allocator)));
  for (size_t i = 1; i + 1 < blocks.size(); i += 2) {
    const dsopt_attention_block& a = blocks[i].u.attention;
    DenseLayer layer = {};
    layer.qkv = MatrixOf(*a.qkv);
    layer.out = MatrixOf(*a.out);
    layer.attention_norm = VectorOf(a.norm);
    layer.cache_offset = a.cache_offset;
    layer.window = static_cast<int>(a.window);
    if (blocks[i + 1].kind == DSOPT_BLOCK_MOE) {
      const dsopt_moe_block& m = blocks[i + 1].u.moe;
      layer.gate_up = MatrixOf(*m.gate_up);
      layer.down = MatrixOf(*m.down);
      layer.mlp_norm = VectorOf(m.norm);
      layer.router = VectorOf(m.router);
      dense_.renormalise = m.renormalise;
      dense_.route_scale = m.route_scale == 0.0f ? 1.0f : m.route_scale;
    } else {
      const dsopt_mlp_block& m = blocks[i + 1].u.mlp;
      layer.gate_up = MatrixOf(*m.gate_up);
      layer.down = MatrixOf(*m.down);
      layer.mlp_norm = VectorOf(m.norm);
    }
    layers.push_back(layer);
  }
  dense_.layers = At<DenseLayer>(plan.persistent.layers);
  const dsopt_be_weight& table = *blocks.front().u.embed.table;
  dense_.embed = table.data;
  dense_.embedded = table.elem == Elem::kPacked ? At<float>(plan.x) : nullptr;
  dense_.head = MatrixOf(*blocks.back().u.head.weight);
  dense_.final_norm = VectorOf(blocks.back().u.head.norm);
  dense_.inv_freq = ropes[first.rope].inv_freq;
  dense_.cache = cache_;
  dense_.page_bytes = desc.page_bytes;
  dense_.activations = At<float>(plan.persistent.activations);
  dense_.partial = At<float>(plan.persistent.partial);
  dense_.counters = At<uint32_t>(plan.persistent.counters);
  dense_.logits = At<float>(plan.logits);
  const float embed_scale = blocks.front().u.embed.scale;
  dense_.embed_scale = embed_scale != 0.0f ? embed_scale : 1.0f;
  dense_.rope_scale = ropes[first.rope].scale;
  dense_.score_scale =
      first.scale != 0.0f ? first.scale : 1.0f / __builtin_sqrtf(static_cast<float>(first.head_dim));
  dense_.norm_eps = first.norm_eps;
  return UploadLayers(layers.data(), layers.size() * sizeof(DenseLayer));
}

// The cache as rows of one key each, if it is nothing else and all of it lies on the device.
bool dsopt_be_program::MapLatentCache() {
  const dsopt_mla_block& first = blocks[1].u.mla;
  const uint64_t columns = first.latent + first.rope_dim, key_bytes = columns * 2,
                 rows = plan.cache_bytes / key_bytes;
  bool whole = desc.page_bytes % key_bytes == 0 && rows <= INT32_MAX;
  for (size_t i = 1; i + 1 < blocks.size(); i += 2) whole &= blocks[i].u.mla.cache_offset % key_bytes == 0;
  return whole && !has_host_pages() &&
         MakeTensorMap(device->limits, cache_, rows, columns, kPageTokens, &latent_.keys);
}

dsopt_status dsopt_be_program::PrepareLatent() {
  const dsopt_mla_block& first = blocks[1].u.mla;
  HostVector<LatentLayer> layers((HostAllocator<LatentLayer>(device->host.allocator)));
  for (size_t i = 1; i + 1 < blocks.size(); i += 2) {
    const dsopt_mla_block& a = blocks[i].u.mla;
    LatentLayer layer = {};
    layer.down = MatrixOf(*a.down);
    layer.out = MatrixOf(*a.out);
    if (a.q_rank != 0) {
      layer.q_up = MatrixOf(*a.q_up);
      layer.q_norm = VectorOf(a.q_norm);
    }
    layer.k_up = a.k_up->data;
    layer.v_up = a.v_up->data;
    layer.attention_norm = VectorOf(a.norm);
    layer.latent_norm = VectorOf(a.latent_norm);
    layer.cache_offset = a.cache_offset;
    if (blocks[i + 1].kind == DSOPT_BLOCK_MOE) {
      const dsopt_moe_block& m = blocks[i + 1].u.moe;
      layer.mlp_norm = VectorOf(m.norm);
      layer.router = VectorOf(m.router);
      layer.shared_gate_up = MatrixOf(*m.shared_gate_up);
      layer.shared_down = MatrixOf(*m.shared_down);
      layer.expert_gate_up = MatrixOf(*m.gate_up);
      layer.expert_down = MatrixOf(*m.down);
    } else {
      const dsopt_mlp_block& m = blocks[i + 1].u.mlp;
      layer.mlp_norm = VectorOf(m.norm);
      layer.shared_gate_up = MatrixOf(*m.gate_up);
      layer.shared_down = MatrixOf(*m.down);
    }
    layers.push_back(layer);
  }
  const dsopt_moe_block& mixture = blocks[blocks.size() - 2].u.moe;
  const dsopt_be_weight& table = *blocks.front().u.embed.table;
  const dsopt_head_block& head = blocks.back().u.head;
  const float embed_scale = blocks.front().u.embed.scale;
  latent_.layers = At<LatentLayer>(plan.persistent.layers);
  latent_.embed = table.data;
  latent_.embedded = table.elem == Elem::kPacked ? At<float>(plan.x) : nullptr;
  latent_.head = MatrixOf(*head.weight);
  latent_.final_norm = VectorOf(head.norm);
  latent_.inv_freq = ropes[first.rope].inv_freq;
  latent_.cache = cache_;
  latent_.page_bytes = desc.page_bytes;
  latent_.activations = At<float>(plan.persistent.activations);
  latent_.partial = At<float>(plan.persistent.partial);
  latent_.counters = At<uint32_t>(plan.persistent.counters);
  latent_.logits = At<float>(plan.logits);
  latent_.embed_scale = embed_scale != 0.0f ? embed_scale : 1.0f;
  latent_.rope_scale = ropes[first.rope].scale;
  latent_.score_scale = first.scale;
  latent_.attention_eps = first.norm_eps;
  latent_.latent_eps = first.latent_eps;
  latent_.mlp_eps = mixture.norm_eps;
  latent_.head_eps = head.norm_eps;
  latent_.route_scale = mixture.route_scale == 0.0f ? 1.0f : mixture.route_scale;
  latent_.renormalise = mixture.renormalise;
  latent_.interleaved = ropes[first.rope].interleaved ? 1 : 0;
  latent_.tiled = MapLatentCache() ? 1 : 0;
  return UploadLayers(layers.data(), layers.size() * sizeof(LatentLayer));
}

dsopt_status dsopt_be_program::PrepareBatch() {
  const BatchShape& shape = plan.persistent.batch_shape;
  const DenseShape& m = shape.model;
  const dsopt_attention_block& first = blocks[1].u.attention;
  BatchBuffers b;
  LayOutBatch(shape, At<char>(plan.persistent.batch_buffers), &b);
  HostVector<BatchLayer> layers((HostAllocator<BatchLayer>(device->host.allocator)));
  HostVector<CUtensorMap> maps((HostAllocator<CUtensorMap>(device->host.allocator)));
  for (size_t i = 1; i + 1 < blocks.size(); i += 2) {
    const dsopt_attention_block& a = blocks[i].u.attention;
    const dsopt_mlp_block& mlp = blocks[i + 1].u.mlp;
    BatchLayer layer = {};
    const dsopt_be_weight* const weights[kBatchMatrices] = {a.qkv, a.out, mlp.gate_up, mlp.down};
    for (int j = 0; j < kBatchMatrices; ++j) {
      const dsopt_be_weight& weight = *weights[j];
      layer.matrices[j] = MatrixOf(weight);
      if (m.packing != Packing::kNone) continue;
      layer.matrices[j].data = b.maps + maps.size() * kTensorMapBytes;
      for (const auto& box : kBatchBoxes) {
        CUtensorMap map;
        if (!MakePanelMap(device->limits, weight.data, weight.layout.rows, weight.layout.cols,
                          static_cast<uint32_t>(box.rows), static_cast<uint32_t>(box.columns) / 64, &map)) {
          plan.persistent.batch_rows = 0;  // block by block, then
          return DSOPT_OK;
        }
        maps.push_back(map);
      }
    }
    layer.attention_norm = VectorOf(a.norm);
    layer.mlp_norm = VectorOf(mlp.norm);
    layer.cache_offset = a.cache_offset;
    layers.push_back(layer);
  }
  BatchStep& s = batch_step_;
  s.layers = b.layers;
  s.layer_count = m.layers;
  s.hidden = m.hidden;
  s.q_heads = m.q_heads;
  s.kv_heads = m.kv_heads;
  s.head_dim = m.head_dim;
  s.window = shape.window;
  s.parts = (m.q_heads / m.kv_heads + kBatchHeads - 1) / kBatchHeads;
  s.eps = first.norm_eps;
  s.score_scale = first.scale != 0.0f ? first.scale : 1.0f / __builtin_sqrtf(static_cast<float>(first.head_dim));
  s.rope_scale = ropes[first.rope].scale;
  s.inv_freq = ropes[first.rope].inv_freq;
  s.x = At<float>(plan.x);
  s.h = b.h;
  s.attended = b.attended;
  s.mid = b.mid;
  s.qkv = b.qkv;
  s.squares = b.squares;
  s.rotations = b.rotations;
  s.counters = b.counters;
  s.partial = At<float>(plan.partial);
  s.arrived = At<uint32_t>(plan.arrived);
  if (!maps.empty())
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(
        cudaMemcpyAsync(b.maps, maps.data(), maps.size() * sizeof(CUtensorMap), cudaMemcpyHostToDevice, stream_),
        "uploading tensor maps"));
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(
      cudaMemcpyAsync(b.layers, layers.data(), layers.size() * sizeof(BatchLayer), cudaMemcpyHostToDevice, stream_),
      "uploading the layer table"));
  return device->Check(cudaStreamSynchronize(stream_), "uploading the layer table");
}

cudaError_t dsopt_be_program::RecordLayers() {
  BatchStep step = batch_step_;
  step.rows = batch_.rows;
  step.cache = CacheOf(0);
  step.step = batch_steps_;
  RETURN_IF_CUDA_ERROR(RecordEmbed(blocks.front().u.embed));
  const cudaError_t error = BatchDecode(launch_, plan.persistent.batch_shape, step);
  if (error == cudaSuccess) ++batch_steps_;
  return error;
}

cudaError_t dsopt_be_program::RecordPersistent() {
  const auto set = [&](auto step) {
    step.token = batch_.tokens;
    step.position = batch_.positions;
    step.pages = batch_.page_table;
    step.step = persistent_steps_;
    return step;
  };
  if (blocks.front().u.embed.table->elem == Elem::kPacked)
    RETURN_IF_CUDA_ERROR(RecordEmbed(blocks.front().u.embed));
  const cudaError_t error = plan.persistent.kind == PersistentKind::kDense
                                ? DenseDecode(launch_, plan.persistent.dense, set(dense_))
                                : LatentDecode(launch_, plan.persistent.latent, set(latent_));
  if (error == cudaSuccess) ++persistent_steps_;
  return error;
}
