#include "model/blocks.h"

#include "model/names.h"

namespace dsopt {
namespace {

// A weight outside of the layers: one tensor of the same name.
WeightDeclaration Whole(const char* name, dsopt_weight_kind kind, uint64_t rows, uint64_t cols) {
  WeightDeclaration weight;
  weight.name = name;
  weight.kind = kind;
  weight.rows = rows;
  weight.cols = cols;
  WeightPart part;
  part.tensor = name;
  part.shape = kind == DSOPT_WEIGHT_VECTOR ? std::vector<uint64_t>{cols} : std::vector<uint64_t>{rows, cols};
  part.length = rows * cols;
  weight.parts.push_back(std::move(part));
  return weight;
}

}  // namespace

const dsopt_be_weight* BlockBuilder::Use(WeightDeclaration declaration) {
  const size_t index = recording_.declarations.size();
  recording_.declarations.push_back(std::move(declaration));
  return weights_ != nullptr && index < weights_->size() ? (*weights_)[index].get() : nullptr;
}

const dsopt_be_weight* BlockBuilder::Fused(dsopt_weight_kind kind, const char* name, bool stacked,
                                           uint64_t batch, uint64_t cols, std::initializer_list<Rows> parts) {
  WeightDeclaration weight;
  weight.name = LayerName(layer_, name);
  weight.kind = kind;
  weight.batch = batch;
  weight.cols = cols;
  for (const Rows& rows : parts) weight.rows += rows.rows;
  uint64_t first_row = 0;
  for (const Rows& rows : parts) {
    WeightPart part;
    part.tensor = LayerName(layer_, rows.tensor);
    if (stacked)
      part.shape = {batch, rows.rows, cols};
    else
      part.shape = {rows.rows, cols};
    part.batch = batch;
    part.length = rows.rows * cols;
    part.src_stride = part.length;
    part.dst_stride = weight.rows * cols;
    part.dst_first = first_row * cols;
    first_row += rows.rows;
    weight.parts.push_back(std::move(part));
  }
  return Use(std::move(weight));
}

const dsopt_be_weight* BlockBuilder::Matrix(const char* tensor, uint64_t rows, uint64_t cols) {
  return Fused(DSOPT_WEIGHT_MATRIX, tensor, false, 1, cols, {{tensor, rows}});
}

const dsopt_be_weight* BlockBuilder::FusedVector(const char* name, std::initializer_list<Rows> parts) {
  WeightDeclaration weight;
  weight.name = LayerName(layer_, name);
  weight.kind = DSOPT_WEIGHT_VECTOR;
  weight.rows = 1;
  for (const Rows& rows : parts) {
    WeightPart part;
    part.tensor = LayerName(layer_, rows.tensor);
    part.shape = {rows.rows};
    part.length = rows.rows;
    part.dst_first = weight.cols;
    weight.cols += rows.rows;
    weight.parts.push_back(std::move(part));
  }
  return Use(std::move(weight));
}

const dsopt_be_weight* BlockBuilder::Vector(const char* tensor, uint64_t count) {
  return FusedVector(tensor, {{tensor, count}});
}

const dsopt_be_weight* BlockBuilder::HeadRows(dsopt_weight_kind kind, const char* name, const char* tensor,
                                              uint64_t heads, uint64_t head_rows, uint64_t first, uint64_t rows,
                                              uint64_t cols) {
  WeightDeclaration weight;
  weight.name = LayerName(layer_, name);
  weight.kind = kind;
  weight.batch = heads;
  weight.rows = rows;
  weight.cols = cols;
  WeightPart part;
  part.tensor = LayerName(layer_, tensor);
  part.shape = {heads * head_rows, cols};
  part.batch = heads;
  part.length = rows * cols;
  part.src_stride = head_rows * cols;
  part.src_first = first * cols;
  part.dst_stride = part.length;
  weight.parts.push_back(std::move(part));
  return Use(std::move(weight));
}

uint32_t BlockBuilder::RopeIndex(const RopeSpec& rope) {
  for (size_t i = 0; i < recording_.ropes.size(); ++i) {
    if (recording_.ropes[i] == rope) return static_cast<uint32_t>(i);
  }
  recording_.ropes.push_back(rope);
  return static_cast<uint32_t>(recording_.ropes.size() - 1);
}

dsopt_block& BlockBuilder::Append(dsopt_block_kind kind) {
  dsopt_block& block = recording_.blocks.emplace_back();
  block.kind = kind;
  block.layer = layer_;
  return block;
}

void BlockBuilder::Embed() {
  WeightDeclaration weight = Whole("embed", DSOPT_WEIGHT_EMBEDDING, config_.vocab, config_.hidden);
  weight.tied = config_.tie_embeddings;
  embedding_ = Use(std::move(weight));
  dsopt_embed_block& embed = Append(DSOPT_BLOCK_EMBED).u.embed;
  embed.table = embedding_;
  embed.scale = config_.embedding_scale;
}

void BlockBuilder::Attention(const LayerKind& kind) {
  const AttentionSpec& spec = kind.attention;
  const uint64_t q_rows = uint64_t{spec.q_heads} * spec.head_dim,
                 kv_rows = uint64_t{spec.kv_heads} * spec.head_dim;
  dsopt_attention_block& block = Append(DSOPT_BLOCK_ATTENTION).u.attention;
  block.norm = Vector("attn.norm", config_.hidden);
  block.qkv = Fused(DSOPT_WEIGHT_MATRIX, "attn.qkv", false, 1, config_.hidden,
                    {{"attn.q", q_rows}, {"attn.k", kv_rows}, {"attn.v", kv_rows}});
  if (spec.qkv_bias) {
    block.qkv_bias = FusedVector("attn.qkv.bias",
                                 {{"attn.q.bias", q_rows}, {"attn.k.bias", kv_rows}, {"attn.v.bias", kv_rows}});
  }
  block.out = Matrix("attn.o", config_.hidden, q_rows);
  if (spec.out_bias) block.out_bias = Vector("attn.o.bias", config_.hidden);
  block.q_heads = spec.q_heads;
  block.kv_heads = spec.kv_heads;
  block.head_dim = spec.head_dim;
  block.window = spec.window;
  block.rope = RopeIndex(spec.rope);
  block.scale = ScoreScale(kind);
  block.norm_eps = kind.norm_eps;
  block.cache_offset = pages_.layer_offsets[layer_];
}

void BlockBuilder::Mla(const LayerKind& kind) {
  const AttentionSpec& spec = kind.attention;
  const uint64_t q_rows = uint64_t{spec.q_heads} * spec.head_dim;
  const uint64_t kv_rows = uint64_t{spec.kv_lora_rank} + spec.rope.dim;
  const uint64_t head_rows = uint64_t{spec.nope_dim} + spec.v_dim;
  const bool q_lora = spec.q_lora_rank != 0;
  dsopt_mla_block& block = Append(DSOPT_BLOCK_MLA).u.mla;
  block.norm = Vector("attn.norm", config_.hidden);
  const Rows q = q_lora ? Rows{"attn.q_a", spec.q_lora_rank} : Rows{"attn.q", q_rows};
  block.down = Fused(DSOPT_WEIGHT_MATRIX, "attn.down", false, 1, config_.hidden, {q, {"attn.kv_a", kv_rows}});
  if (spec.qkv_bias) {
    block.down_bias = FusedVector(
        "attn.down.bias", {{q_lora ? "attn.q_a.bias" : "attn.q.bias", q.rows}, {"attn.kv_a.bias", kv_rows}});
  }
  if (q_lora) {
    block.q_norm = Vector("attn.q_a_norm", spec.q_lora_rank);
    block.q_up = Matrix("attn.q_b", q_rows, spec.q_lora_rank);
  }
  block.latent_norm = Vector("attn.kv_a_norm", spec.kv_lora_rank);
  block.k_up = HeadRows(DSOPT_WEIGHT_TRANSPOSED, "attn.k_up", "attn.kv_b", spec.q_heads, head_rows, 0,
                        spec.nope_dim, spec.kv_lora_rank);
  block.v_up = HeadRows(DSOPT_WEIGHT_MATRIX, "attn.v_up", "attn.kv_b", spec.q_heads, head_rows, spec.nope_dim,
                        spec.v_dim, spec.kv_lora_rank);
  block.out = Matrix("attn.o", config_.hidden, uint64_t{spec.q_heads} * spec.v_dim);
  if (spec.out_bias) block.out_bias = Vector("attn.o.bias", config_.hidden);
  block.heads = spec.q_heads;
  block.q_rank = spec.q_lora_rank;
  block.latent = spec.kv_lora_rank;
  block.nope = spec.nope_dim;
  block.rope_dim = spec.rope.dim;
  block.v_dim = spec.v_dim;
  block.rope = RopeIndex(spec.rope);
  block.scale = ScoreScale(kind);
  block.norm_eps = kind.norm_eps;
  block.latent_eps = kind.latent_norm_eps;
  block.cache_offset = pages_.layer_offsets[layer_];
}

void BlockBuilder::Mlp(const LayerKind& kind) {
  const MlpSpec& spec = kind.mlp;
  dsopt_mlp_block& block = Append(DSOPT_BLOCK_MLP).u.mlp;
  block.norm = Vector("mlp.norm", config_.hidden);
  block.gate_up = Fused(DSOPT_WEIGHT_GATE_UP, "mlp.gate_up", false, 1, config_.hidden,
                        {{"mlp.gate", spec.inner}, {"mlp.up", spec.inner}});
  block.down = Matrix("mlp.down", config_.hidden, spec.inner);
  if (spec.bias) {
    block.gate_up_bias =
        FusedVector("mlp.gate_up.bias", {{"mlp.gate.bias", spec.inner}, {"mlp.up.bias", spec.inner}});
    block.down_bias = Vector("mlp.down.bias", config_.hidden);
  }
  block.inner = spec.inner;
  block.activation = static_cast<dsopt_activation>(spec.activation);
  block.norm_eps = kind.norm_eps;
}

void BlockBuilder::Moe(const LayerKind& kind) {
  const MoeSpec& spec = kind.mlp.moe;
  dsopt_moe_block& block = Append(DSOPT_BLOCK_MOE).u.moe;
  block.norm = Vector("mlp.norm", config_.hidden);
  block.router =
      Fused(DSOPT_WEIGHT_ROUTER, "moe.router", false, 1, config_.hidden, {{"moe.router", spec.experts}});
  block.gate_up = Fused(DSOPT_WEIGHT_GATE_UP, "moe.gate_up", true, spec.experts, config_.hidden,
                        {{"moe.gate", spec.inner}, {"moe.up", spec.inner}});
  block.down =
      Fused(DSOPT_WEIGHT_EXPERTS, "moe.down", true, spec.experts, spec.inner, {{"moe.down", config_.hidden}});
  if (spec.shared_inner != 0) {
    block.shared_gate_up =
        Fused(DSOPT_WEIGHT_GATE_UP, "moe.shared.gate_up", false, 1, config_.hidden,
              {{"moe.shared.gate", spec.shared_inner}, {"moe.shared.up", spec.shared_inner}});
    block.shared_down = Matrix("moe.shared.down", config_.hidden, spec.shared_inner);
  }
  block.experts = spec.experts;
  block.top_k = spec.top_k;
  block.inner = spec.inner;
  block.shared_inner = spec.shared_inner;
  block.groups = spec.groups;
  block.top_groups = spec.top_groups;
  block.renormalise = spec.renormalise ? 1 : 0;
  block.activation = static_cast<dsopt_activation>(kind.mlp.activation);
  block.route_scale = spec.route_scale;
  block.norm_eps = kind.norm_eps;
}

void BlockBuilder::Head() {
  dsopt_head_block& block = Append(DSOPT_BLOCK_HEAD).u.head;
  block.norm = Use(Whole("final_norm", DSOPT_WEIGHT_VECTOR, 1, config_.hidden));
  block.weight = config_.tie_embeddings
                     ? embedding_
                     : Use(Whole("head", DSOPT_WEIGHT_MATRIX, config_.vocab, config_.hidden));
  block.norm_eps = config_.final_norm_eps;
}

}  // namespace dsopt
