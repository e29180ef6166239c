// record_persistent.cc - the persistent kernels of a program: their tables and buffers, their launch. persistent.cc: which
// programs have one.
#include "persistent_dense.h"
#include "persistent_latent.h"
#include "program.h"
#include "shared/defaults.h"
#include "tensor_map.h"

using namespace dsopt_cuda;

namespace {

DenseMatrix MatrixOf(const dsopt_be_weight& weight) {
  if (weight.elem != Elem::kPacked) return {weight.data, nullptr, nullptr, nullptr};
  const PackedWeight& packed = weight.packed;
  return {packed.data, packed.row_scales, packed.overflow_first, packed.overflow};
}

}  // namespace

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
      dense_.route_scale = dsopt_shared::ScaleOrOne(m.route_scale);
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
  dense_.embed_scale = dsopt_shared::ScaleOrOne(blocks.front().u.embed.scale);
  dense_.rope_scale = ropes[first.rope].scale;
  dense_.score_scale = dsopt_shared::ScoreScale(first.scale, first.head_dim);
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
  latent_.embed_scale = dsopt_shared::ScaleOrOne(blocks.front().u.embed.scale);
  latent_.rope_scale = ropes[first.rope].scale;
  latent_.score_scale = first.scale;
  latent_.attention_eps = first.norm_eps;
  latent_.latent_eps = first.latent_eps;
  latent_.mlp_eps = mixture.norm_eps;
  latent_.head_eps = head.norm_eps;
  latent_.route_scale = dsopt_shared::ScaleOrOne(mixture.route_scale);
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
  s.score_scale = dsopt_shared::ScoreScale(first.scale, first.head_dim);
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
