#include "import/canonical_tensors.h"

#include <utility>

#include "model/names.h"

namespace dsopt {
namespace {

using Shape = std::vector<uint64_t>;

class List {
 public:
  void BeginLayer(uint32_t layer) { layer_ = layer; }
  void EndLayers() { layer_ = CanonicalTensor::kNoLayer; }
  void Add(const char* suffix, Shape shape, const char* weight = "") {
    tensors_.push_back({layer_, suffix, std::move(shape), weight});
  }
  std::vector<CanonicalTensor> Take() { return std::move(tensors_); }

 private:
  uint32_t layer_ = CanonicalTensor::kNoLayer;
  std::vector<CanonicalTensor> tensors_;
};

void ListAttention(const AttentionSpec& spec, uint64_t hidden, List* list) {
  const uint64_t q_rows = uint64_t{spec.q_heads} * spec.head_dim,
                 kv_rows = uint64_t{spec.kv_heads} * spec.head_dim;
  list->Add("attn.q", {q_rows, hidden}, "attn.qkv");
  list->Add("attn.k", {kv_rows, hidden}, "attn.qkv");
  list->Add("attn.v", {kv_rows, hidden}, "attn.qkv");
  list->Add("attn.o", {hidden, q_rows}, "attn.o");
  if (spec.qkv_bias) {
    list->Add("attn.q.bias", {q_rows});
    list->Add("attn.k.bias", {kv_rows});
    list->Add("attn.v.bias", {kv_rows});
  }
  if (spec.out_bias) list->Add("attn.o.bias", {hidden});
}

void ListMla(const AttentionSpec& spec, uint64_t hidden, List* list) {
  const uint64_t q_rows = uint64_t{spec.q_heads} * spec.head_dim;
  const uint64_t kv_rows = uint64_t{spec.kv_lora_rank} + spec.rope.dim;
  const uint64_t head_rows = uint64_t{spec.nope_dim} + spec.v_dim;
  if (spec.q_lora_rank != 0) {
    list->Add("attn.q_a", {spec.q_lora_rank, hidden}, "attn.down");
    if (spec.qkv_bias) list->Add("attn.q_a.bias", {spec.q_lora_rank});
    list->Add("attn.q_a_norm", {spec.q_lora_rank});
    list->Add("attn.q_b", {q_rows, spec.q_lora_rank}, "attn.q_b");
  } else {
    list->Add("attn.q", {q_rows, hidden}, "attn.down");
  }
  list->Add("attn.kv_a", {kv_rows, hidden}, "attn.down");
  if (spec.qkv_bias) list->Add("attn.kv_a.bias", {kv_rows});
  list->Add("attn.kv_a_norm", {spec.kv_lora_rank});
  list->Add("attn.kv_b", {spec.q_heads * head_rows, spec.kv_lora_rank});
  list->Add("attn.o", {hidden, uint64_t{spec.q_heads} * spec.v_dim}, "attn.o");
  if (spec.out_bias) list->Add("attn.o.bias", {hidden});
}

void ListMlp(const MlpSpec& spec, uint64_t hidden, List* list) {
  list->Add("mlp.gate", {spec.inner, hidden}, "mlp.gate_up");
  list->Add("mlp.up", {spec.inner, hidden}, "mlp.gate_up");
  list->Add("mlp.down", {hidden, spec.inner}, "mlp.down");
  if (!spec.bias) return;
  list->Add("mlp.gate.bias", {spec.inner});
  list->Add("mlp.up.bias", {spec.inner});
  list->Add("mlp.down.bias", {hidden});
}

void ListMoe(const MoeSpec& spec, uint64_t hidden, List* list) {
  list->Add("moe.router", {spec.experts, hidden});
  list->Add("moe.gate", {spec.experts, spec.inner, hidden}, "moe.gate_up");
  list->Add("moe.up", {spec.experts, spec.inner, hidden}, "moe.gate_up");
  list->Add("moe.down", {spec.experts, hidden, spec.inner}, "moe.down");
  if (spec.shared_inner == 0) return;
  list->Add("moe.shared.gate", {spec.shared_inner, hidden}, "moe.shared.gate_up");
  list->Add("moe.shared.up", {spec.shared_inner, hidden}, "moe.shared.gate_up");
  list->Add("moe.shared.down", {hidden, spec.shared_inner}, "moe.shared.down");
}

}  // namespace

std::string CanonicalTensor::name() const {
  return layer == kNoLayer ? suffix : LayerName(layer, suffix.c_str());
}

std::vector<CanonicalTensor> ListCanonicalTensors(const ConfigSpec& config) {
  List list;
  const uint64_t hidden = config.hidden;
  list.Add("embed", {config.vocab, hidden}, "embed");
  for (uint32_t layer = 0; layer < config.layers.size(); ++layer) {
    const LayerKind& kind = config.kinds[config.layers[layer]];
    list.BeginLayer(layer);
    list.Add("attn.norm", {hidden});
    if (kind.mixer == Mixer::kMla)
      ListMla(kind.attention, hidden, &list);
    else
      ListAttention(kind.attention, hidden, &list);
    list.Add("mlp.norm", {hidden});
    if (kind.mlp.moe.experts != 0)
      ListMoe(kind.mlp.moe, hidden, &list);
    else
      ListMlp(kind.mlp, hidden, &list);
  }
  list.EndLayers();
  list.Add("final_norm", {hidden});
  if (!config.tie_embeddings) list.Add("head", {config.vocab, hidden}, "head");
  return list.Take();
}

}  // namespace dsopt
