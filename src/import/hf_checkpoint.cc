#include "import/hf_checkpoint.h"

#include <set>

#include "base/float_types.h"
#include "model/names.h"

namespace dsopt {
namespace {

using Shape = std::vector<uint64_t>;

std::string ShapeText(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

bool EndsWith(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Collects tensors in order; the first failure sticks.
class Mapper {
 public:
  Mapper(const SafetensorsCheckpoint& checkpoint, dsopt_dtype dtype) : checkpoint_(checkpoint), dtype_(dtype) {}

  void BeginLayer(uint32_t layer) { layer_ = layer; }
  // A tensor outside of the layers; hf without "model." prefix handling: the full name.
  void Whole(const char* name, const std::string& hf, const Shape& shape) { Add(name, {hf}, shape, shape); }
  // layers.N.<name> from model.layers.N.<hf>.weight
  void Weight(const char* name, const std::string& hf, const Shape& shape) {
    Add(LayerName(layer_, name), {Hf(hf + ".weight")}, shape, shape);
  }
  // layers.N.<name>.bias from model.layers.N.<hf>.bias
  void Bias(const char* name, const std::string& hf, uint64_t count) {
    Add(LayerName(layer_, name) + ".bias", {Hf(hf + ".bias")}, {count}, {count});
  }
  // layers.N.<name> [experts, shape...] from model.layers.N.<before><expert><after>.weight
  void Experts(const char* name, const std::string& before, const char* after, uint32_t experts,
               const Shape& shape) {
    std::vector<std::string> names;
    for (uint32_t e = 0; e < experts; ++e) names.push_back(Hf(before + std::to_string(e) + after + ".weight"));
    Shape stacked = shape;
    stacked.insert(stacked.begin(), experts);
    Add(LayerName(layer_, name), names, shape, std::move(stacked));
  }
  Result<CheckpointMap> Finish() {
    RETURN_IF_ERROR(failure_);
    for (const SafetensorsEntry& entry : checkpoint_.tensors()) {
      // Old Llama checkpoints carry the rotary table as a tensor.
      if (used_.count(&entry) == 0 && !EndsWith(entry.name, "rotary_emb.inv_freq"))
        map_.ignored.push_back(entry.name);
    }
    return std::move(map_);
  }

 private:
  std::string Hf(const std::string& suffix) const { return "model." + LayerName(layer_, suffix.c_str()); }

  void Add(std::string name, const std::vector<std::string>& hf_names, const Shape& piece_shape, Shape shape) {
    TensorSource source;
    source.spec.name = std::move(name);
    source.spec.shape = std::move(shape);
    for (const std::string& hf_name : hf_names) {
      if (!failure_.ok()) return;
      failure_ = AddPiece(hf_name, piece_shape, &source);
    }
    if (dtype_ != DSOPT_DTYPE_DEFAULT && source.spec.shape.size() > 1) source.spec.dtype = dtype_;
    map_.tensors.push_back(std::move(source));
  }

  Status AddPiece(const std::string& hf_name, const Shape& shape, TensorSource* source) {
    const SafetensorsEntry* entry = checkpoint_.Find(hf_name);
    if (entry == nullptr) {
      return Error(DSOPT_E_CORRUPT, "checkpoint: tensor '%s' is missing, expected shape %s", hf_name.c_str(),
                   ShapeText(shape).c_str());
    }
    if (entry->shape != shape) {
      return Error(DSOPT_E_CORRUPT, "checkpoint: tensor '%s' has shape %s, expected %s from config.json",
                   hf_name.c_str(), ShapeText(entry->shape).c_str(), ShapeText(shape).c_str());
    }
    if (!IsFloatType(entry->dtype)) {
      return Error(DSOPT_E_UNSUPPORTED, "checkpoint: tensor '%s' has type %s, expected F32, F16 or BF16",
                   hf_name.c_str(), entry->dtype_name.c_str());
    }
    used_.insert(entry);
    dsopt_dtype& dtype = source->spec.dtype;
    dtype = source->pieces.empty() ? entry->dtype : WiderFloatType(dtype, entry->dtype);
    source->pieces.push_back(entry);
    return {};
  }

  const SafetensorsCheckpoint& checkpoint_;
  const dsopt_dtype dtype_;
  uint32_t layer_ = 0;
  Status failure_;
  std::set<const SafetensorsEntry*> used_;
  CheckpointMap map_;
};

void MapAttention(const AttentionSpec& spec, uint64_t hidden, Mapper* map) {
  const uint64_t q_rows = uint64_t{spec.q_heads} * spec.head_dim,
                 kv_rows = uint64_t{spec.kv_heads} * spec.head_dim;
  map->Weight("attn.q", "self_attn.q_proj", {q_rows, hidden});
  map->Weight("attn.k", "self_attn.k_proj", {kv_rows, hidden});
  map->Weight("attn.v", "self_attn.v_proj", {kv_rows, hidden});
  map->Weight("attn.o", "self_attn.o_proj", {hidden, q_rows});
  if (spec.qkv_bias) {
    map->Bias("attn.q", "self_attn.q_proj", q_rows);
    map->Bias("attn.k", "self_attn.k_proj", kv_rows);
    map->Bias("attn.v", "self_attn.v_proj", kv_rows);
  }
  if (spec.out_bias) map->Bias("attn.o", "self_attn.o_proj", hidden);
}

void MapMla(const AttentionSpec& spec, uint64_t hidden, Mapper* map) {
  const uint64_t q_rows = uint64_t{spec.q_heads} * spec.head_dim;
  const uint64_t kv_rows = uint64_t{spec.kv_lora_rank} + spec.rope.dim;
  const uint64_t head_rows = uint64_t{spec.nope_dim} + spec.v_dim;
  if (spec.q_lora_rank != 0) {
    map->Weight("attn.q_a", "self_attn.q_a_proj", {spec.q_lora_rank, hidden});
    if (spec.qkv_bias) map->Bias("attn.q_a", "self_attn.q_a_proj", spec.q_lora_rank);
    map->Weight("attn.q_a_norm", "self_attn.q_a_layernorm", {spec.q_lora_rank});
    map->Weight("attn.q_b", "self_attn.q_b_proj", {q_rows, spec.q_lora_rank});
  } else {
    map->Weight("attn.q", "self_attn.q_proj", {q_rows, hidden});
  }
  map->Weight("attn.kv_a", "self_attn.kv_a_proj_with_mqa", {kv_rows, hidden});
  if (spec.qkv_bias) map->Bias("attn.kv_a", "self_attn.kv_a_proj_with_mqa", kv_rows);
  map->Weight("attn.kv_a_norm", "self_attn.kv_a_layernorm", {spec.kv_lora_rank});
  map->Weight("attn.kv_b", "self_attn.kv_b_proj", {spec.q_heads * head_rows, spec.kv_lora_rank});
  map->Weight("attn.o", "self_attn.o_proj", {hidden, uint64_t{spec.q_heads} * spec.v_dim});
  if (spec.out_bias) map->Bias("attn.o", "self_attn.o_proj", hidden);
}

void MapMlp(const MlpSpec& spec, uint64_t hidden, Mapper* map) {
  map->Weight("mlp.gate", "mlp.gate_proj", {spec.inner, hidden});
  map->Weight("mlp.up", "mlp.up_proj", {spec.inner, hidden});
  map->Weight("mlp.down", "mlp.down_proj", {hidden, spec.inner});
  if (!spec.bias) return;
  map->Bias("mlp.gate", "mlp.gate_proj", spec.inner);
  map->Bias("mlp.up", "mlp.up_proj", spec.inner);
  map->Bias("mlp.down", "mlp.down_proj", hidden);
}

// How a family names its experts.
struct ExpertNames {
  const char *router, *experts, *gate, *up, *down, *shared;
};
constexpr ExpertNames kMixtralExperts = {
    "block_sparse_moe.gate", "block_sparse_moe.experts.", ".w1", ".w3", ".w2", ""};
constexpr ExpertNames kDeepseekExperts = {"mlp.gate", "mlp.experts.", ".gate_proj",
                                          ".up_proj", ".down_proj",   "mlp.shared_experts"};

void MapMoe(const ExpertNames& names, const MoeSpec& spec, uint64_t hidden, Mapper* map) {
  map->Weight("moe.router", names.router, {spec.experts, hidden});
  map->Experts("moe.gate", names.experts, names.gate, spec.experts, {spec.inner, hidden});
  map->Experts("moe.up", names.experts, names.up, spec.experts, {spec.inner, hidden});
  map->Experts("moe.down", names.experts, names.down, spec.experts, {hidden, spec.inner});
  if (spec.shared_inner == 0) return;
  const std::string shared = names.shared;
  map->Weight("moe.shared.gate", shared + names.gate, {spec.shared_inner, hidden});
  map->Weight("moe.shared.up", shared + names.up, {spec.shared_inner, hidden});
  map->Weight("moe.shared.down", shared + names.down, {hidden, spec.shared_inner});
}

}  // namespace

Result<CheckpointMap> MapHfCheckpoint(const SafetensorsCheckpoint& checkpoint, dsopt_dtype dtype,
                                      ConfigSpec* config) {
  const std::string hf_embed = "model.embed_tokens.weight", hf_head = "lm_head.weight";
  const ExpertNames& experts = config->architecture == "mixtral" ? kMixtralExperts : kDeepseekExperts;
  const SafetensorsEntry* embed = checkpoint.Find(hf_embed);
  const SafetensorsEntry* head = checkpoint.Find(hf_head);
  if (embed != nullptr && embed == head) config->tie_embeddings = true;  // one is the alias of the other
  Mapper map(checkpoint, dtype);
  const uint64_t hidden = config->hidden;
  map.Whole("embed", embed == nullptr && config->tie_embeddings ? hf_head : hf_embed, {config->vocab, hidden});
  for (uint32_t layer = 0; layer < config->layers.size(); ++layer) {
    const LayerKind& kind = config->kinds[config->layers[layer]];
    map.BeginLayer(layer);
    map.Weight("attn.norm", "input_layernorm", {hidden});
    if (kind.mixer == Mixer::kMla)
      MapMla(kind.attention, hidden, &map);
    else
      MapAttention(kind.attention, hidden, &map);
    map.Weight("mlp.norm", "post_attention_layernorm", {hidden});
    if (kind.mlp.moe.experts != 0)
      MapMoe(experts, kind.mlp.moe, hidden, &map);
    else
      MapMlp(kind.mlp, hidden, &map);
  }
  map.Whole("final_norm", "model.norm.weight", {hidden});
  if (!config->tie_embeddings) map.Whole("head", hf_head, {config->vocab, hidden});
  return map.Finish();
}

}  // namespace dsopt
