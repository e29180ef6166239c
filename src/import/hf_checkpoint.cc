#include "import/hf_checkpoint.h"

#include <set>
#include <utility>

#include "import/hf_matrix.h"
#include "model/names.h"

namespace dsopt {
namespace {

constexpr char kHfEmbed[] = "model.embed_tokens.weight", kHfHead[] = "lm_head.weight";

bool EndsWith(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

struct Name {
  const char *canonical, *hf;
};
// Of layers, without "model.layers.N." and ".weight". Families differ only in their experts.
constexpr Name kNames[] = {{"attn.norm", "input_layernorm"},
                           {"attn.q", "self_attn.q_proj"},
                           {"attn.k", "self_attn.k_proj"},
                           {"attn.v", "self_attn.v_proj"},
                           {"attn.o", "self_attn.o_proj"},
                           {"attn.q_a", "self_attn.q_a_proj"},
                           {"attn.q_a_norm", "self_attn.q_a_layernorm"},
                           {"attn.q_b", "self_attn.q_b_proj"},
                           {"attn.kv_a", "self_attn.kv_a_proj_with_mqa"},
                           {"attn.kv_a_norm", "self_attn.kv_a_layernorm"},
                           {"attn.kv_b", "self_attn.kv_b_proj"},
                           {"mlp.norm", "post_attention_layernorm"},
                           {"mlp.gate", "mlp.gate_proj"},
                           {"mlp.up", "mlp.up_proj"},
                           {"mlp.down", "mlp.down_proj"},
                           {"moe.shared.gate", "mlp.shared_experts.gate_proj"},
                           {"moe.shared.up", "mlp.shared_experts.up_proj"},
                           {"moe.shared.down", "mlp.shared_experts.down_proj"}};
// '#' is the number of the expert.
constexpr Name kMixtralNames[] = {{"moe.router", "block_sparse_moe.gate"},
                                  {"moe.gate", "block_sparse_moe.experts.#.w1"},
                                  {"moe.up", "block_sparse_moe.experts.#.w3"},
                                  {"moe.down", "block_sparse_moe.experts.#.w2"}};
constexpr Name kDeepseekNames[] = {{"moe.router", "mlp.gate"},
                                   {"moe.gate", "mlp.experts.#.gate_proj"},
                                   {"moe.up", "mlp.experts.#.up_proj"},
                                   {"moe.down", "mlp.experts.#.down_proj"}};

template <size_t kCount>
std::string FindName(const Name (&names)[kCount], const std::string& canonical) {
  for (const Name& name : names) {
    if (canonical == name.canonical) return name.hf;
  }
  return {};
}

class Mapper {
 public:
  Mapper(const SafetensorsCheckpoint& checkpoint, const HfQuantization& quantization, const ConfigSpec& config)
      : checkpoint_(checkpoint), quantization_(quantization), config_(config) {}

  Status Add(const CanonicalTensor& tensor) {
    TensorSource source = MakeTensorSource(tensor);
    std::vector<uint64_t> shape = tensor.shape;
    uint64_t pieces = 1;
    if (shape.size() == 3) {
      pieces = shape[0];
      shape.erase(shape.begin());
    }
    const std::string pattern = HfName(tensor);
    for (uint64_t i = 0; i < pieces; ++i) {
      std::string name = pattern;
      if (const size_t at = name.find('#'); at != std::string::npos) name.replace(at, 1, std::to_string(i));
      ASSIGN_OR_RETURN(auto piece, OpenHfMatrix(checkpoint_, quantization_, name, shape, &used_));
      source.pieces.push_back(std::move(piece));
    }
    map_.tensors.push_back(std::move(source));
    return {};
  }

  CheckpointMap Finish() {
    for (const SafetensorsEntry& entry : checkpoint_.tensors()) {
      // Old Llama checkpoints carry the rotary table as a tensor.
      if (used_.count(&entry) == 0 && !EndsWith(entry.name, "rotary_emb.inv_freq"))
        map_.ignored.push_back(entry.name);
    }
    return std::move(map_);
  }

 private:
  // "model.layers.3.self_attn.q_proj.weight", with '#' for the number of the expert.
  std::string HfName(const CanonicalTensor& tensor) const {
    if (tensor.suffix == "embed") {
      const bool as_head = config_.tie_embeddings && checkpoint_.Find(kHfEmbed) == nullptr;
      return as_head ? kHfHead : kHfEmbed;
    }
    if (tensor.suffix == "head") return kHfHead;
    if (tensor.suffix == "final_norm") return "model.norm.weight";
    const bool bias = EndsWith(tensor.suffix, ".bias");
    const std::string canonical = tensor.suffix.substr(0, tensor.suffix.size() - (bias ? 5 : 0));
    std::string name = FindName(kNames, canonical);
    if (name.empty()) {
      name = config_.architecture == "mixtral" ? FindName(kMixtralNames, canonical)
                                               : FindName(kDeepseekNames, canonical);
    }
    name += bias ? ".bias" : ".weight";
    return "model." + LayerName(tensor.layer, name.c_str());
  }

  const SafetensorsCheckpoint& checkpoint_;
  const HfQuantization& quantization_;
  const ConfigSpec& config_;
  std::set<const SafetensorsEntry*> used_;
  CheckpointMap map_;
};

}  // namespace

Result<CheckpointMap> MapHfCheckpoint(const SafetensorsCheckpoint& checkpoint,
                                      const HfQuantization& quantization, dsopt_dtype dtype,
                                      ConfigSpec* config) {
  const SafetensorsEntry* embed = checkpoint.Find(kHfEmbed);
  const SafetensorsEntry* head = checkpoint.Find(kHfHead);
  if (embed != nullptr && embed == head) config->tie_embeddings = true;  // one is the alias of the other
  Mapper mapper(checkpoint, quantization, *config);
  for (const CanonicalTensor& tensor : ListCanonicalTensors(*config)) RETURN_IF_ERROR(mapper.Add(tensor));
  CheckpointMap map = mapper.Finish();
  ChooseForms(dtype, &map.tensors);
  return map;
}

}  // namespace dsopt
