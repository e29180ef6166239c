#include "import/gguf_import.h"

#include <filesystem>
#include <set>
#include <utility>

#include "import/hf_description.h"
#include "import/tokenizer_import.h"

namespace dsopt {
namespace {

struct Name {
  const char *canonical, *gguf;
};
// Of layers, without "blk.N." and ".weight".
constexpr Name kNames[] = {{"attn.norm", "attn_norm"},
                           {"attn.q", "attn_q"},
                           {"attn.k", "attn_k"},
                           {"attn.v", "attn_v"},
                           {"attn.o", "attn_output"},
                           {"attn.q_a", "attn_q_a"},
                           {"attn.q_a_norm", "attn_q_a_norm"},
                           {"attn.q_b", "attn_q_b"},
                           {"attn.kv_a", "attn_kv_a_mqa"},
                           {"attn.kv_a_norm", "attn_kv_a_norm"},
                           {"attn.kv_b", "attn_kv_b"},
                           {"mlp.norm", "ffn_norm"},
                           {"mlp.gate", "ffn_gate"},
                           {"mlp.up", "ffn_up"},
                           {"mlp.down", "ffn_down"},
                           {"moe.router", "ffn_gate_inp"},
                           {"moe.gate", "ffn_gate_exps"},
                           {"moe.up", "ffn_up_exps"},
                           {"moe.down", "ffn_down_exps"},
                           {"moe.shared.gate", "ffn_gate_shexp"},
                           {"moe.shared.up", "ffn_up_shexp"},
                           {"moe.shared.down", "ffn_down_shexp"}};

std::string GgufName(const CanonicalTensor& tensor) {
  if (tensor.suffix == "embed") return "token_embd.weight";
  if (tensor.suffix == "head") return "output.weight";
  if (tensor.suffix == "final_norm") return "output_norm.weight";
  const bool bias = tensor.suffix.ends_with(".bias");
  const std::string canonical = tensor.suffix.substr(0, tensor.suffix.size() - (bias ? 5 : 0));
  for (const Name& name : kNames) {
    if (canonical != name.canonical) continue;
    return "blk." + std::to_string(tensor.layer) + "." + name.gguf + (bias ? ".bias" : ".weight");
  }
  return {};
}

class Mapper {
 public:
  Mapper(const GgufCheckpoint& checkpoint, const ConfigSpec& config)
      : checkpoint_(checkpoint), config_(config) {}

  Status Add(const CanonicalTensor& tensor) {
    TensorSource source = MakeTensorSource(tensor);
    const std::string name = GgufName(tensor);
    if (tensor.suffix == "attn.kv_b" && checkpoint_.Find(name) == nullptr) {
      RETURN_IF_ERROR(AddLatentUp(tensor, &source));
    } else if (tensor.shape.size() == 3 && checkpoint_.Find(name) == nullptr) {
      RETURN_IF_ERROR(AddExperts(tensor, name, &source));
    } else {
      RETURN_IF_ERROR(AddPiece(name, tensor.shape, HeadRows(tensor), &source));
    }
    map_.tensors.push_back(std::move(source));
    return {};
  }

  CheckpointMap Finish() {
    for (const GgufTensor& tensor : checkpoint_.header().tensors) {
      // Read with the configuration: rope factors, and what older files keep of the rotary table.
      const bool rope = tensor.name.starts_with("rope_f") || tensor.name.ends_with("attn_rot_embd");
      // Halves of a kv_b that is there as well.
      const bool half = tensor.name.ends_with("attn_k_b.weight") || tensor.name.ends_with("attn_v_b.weight");
      if (used_.count(&tensor) == 0 && !rope && !half) map_.ignored.push_back(tensor.name);
    }
    return std::move(map_);
  }

 private:
  // llama.cpp reorders the rows of q and k in the files of this family.
  uint64_t HeadRows(const CanonicalTensor& tensor) const {
    if (tensor.layer == CanonicalTensor::kNoLayer) return 0;
    const LayerKind& kind = config_.kinds[config_.layers[tensor.layer]];
    const std::string& suffix = tensor.suffix;
    const bool rotated =
        suffix == "attn.q" || suffix == "attn.k" || suffix == "attn.q.bias" || suffix == "attn.k.bias";
    return rotated && kind.mixer == Mixer::kAttention ? kind.attention.head_dim : 0;
  }

  // Adds the tensor as rows; its shape must be this one.
  Status AddPiece(const std::string& name, const std::vector<uint64_t>& shape, uint64_t head_rows,
                  TensorSource* source) {
    ASSIGN_OR_RETURN(const GgufTensor* tensor, Require(name, shape));
    std::vector<uint64_t> rows = shape;
    if (rows.size() == 3) rows = {shape[0] * shape[1], shape[2]};
    if (rows.size() == 1 && head_rows != 0) rows.push_back(1);  // to be reordered, each element is a row
    ASSIGN_OR_RETURN(auto piece, OpenGgufMatrix(checkpoint_, *tensor, rows, head_rows));
    source->pieces.push_back(std::move(piece));
    return {};
  }

  // Older files have a tensor per expert: "blk.0.ffn_gate.3.weight".
  Status AddExperts(const CanonicalTensor& tensor, const std::string& merged, TensorSource* source) {
    const std::string prefix = merged.substr(0, merged.size() - std::string("_exps.weight").size());
    if (checkpoint_.Find(prefix + ".0.weight") == nullptr) return Require(merged, tensor.shape).status();
    for (uint64_t expert = 0; expert < tensor.shape[0]; ++expert) {
      RETURN_IF_ERROR(AddPiece(prefix + "." + std::to_string(expert) + ".weight",
                               {tensor.shape[1], tensor.shape[2]}, 0, source));
    }
    return {};
  }

  Status AddLatentUp(const CanonicalTensor& tensor, TensorSource* source) {
    const std::string layer = "blk." + std::to_string(tensor.layer);
    const std::string k_name = layer + ".attn_k_b.weight", v_name = layer + ".attn_v_b.weight";
    if (checkpoint_.Find(k_name) == nullptr) return Require(GgufName(tensor), tensor.shape).status();
    const AttentionSpec& spec = config_.kinds[config_.layers[tensor.layer]].attention;
    const uint64_t heads = spec.q_heads, latent = spec.kv_lora_rank, nope = spec.nope_dim, v = spec.v_dim;
    ASSIGN_OR_RETURN(const GgufTensor* k_tensor, Require(k_name, {heads, latent, nope}));
    ASSIGN_OR_RETURN(const GgufTensor* v_tensor, Require(v_name, {heads, v, latent}));
    ASSIGN_OR_RETURN(auto k_b, OpenGgufMatrix(checkpoint_, *k_tensor, {heads * latent, nope}, 0));
    ASSIGN_OR_RETURN(auto v_b, OpenGgufMatrix(checkpoint_, *v_tensor, {heads * v, latent}, 0));
    source->pieces.push_back(JoinLatentUp(std::move(k_b), std::move(v_b), heads));
    return {};
  }

  // Of this shape; some files have the two outer dimensions of three as one.
  Result<const GgufTensor*> Require(const std::string& name, const std::vector<uint64_t>& shape) {
    const GgufTensor* tensor = checkpoint_.Find(name);
    if (tensor == nullptr) {
      return Error(DSOPT_E_CORRUPT, "gguf: tensor '%s' is missing, expected shape %s", name.c_str(),
                   ShapeText(shape).c_str());
    }
    const bool joined =
        shape.size() == 3 && tensor->shape == std::vector<uint64_t>{shape[0] * shape[1], shape[2]};
    if (tensor->shape != shape && !joined) {
      return Error(DSOPT_E_CORRUPT, "gguf: tensor '%s' has shape %s, expected %s from the metadata",
                   name.c_str(), ShapeText(tensor->shape).c_str(), ShapeText(shape).c_str());
    }
    used_.insert(tensor);
    return tensor;
  }

  const GgufCheckpoint& checkpoint_;
  const ConfigSpec& config_;
  std::set<const GgufTensor*> used_;
  CheckpointMap map_;
};

}  // namespace

Result<ModelSpec> DescribeGguf(const GgufCheckpoint& checkpoint, const std::string& license) {
  ModelSpec spec;
  ASSIGN_OR_RETURN(spec.config, ParseGgufConfig(checkpoint));
  const GgufKeys tokenizer(checkpoint.header(), "tokenizer.ggml");
  ASSIGN_OR_RETURN(const std::string model, tokenizer.String("model", "no_vocab"));
  if (model != "no_vocab" && model != "none") {
    ASSIGN_OR_RETURN(spec.tokenizer, ImportGgufVocab(checkpoint.header()));
  }
  Result<std::string> chat_template = ImportGgufChatTemplate(checkpoint.header());
  if (chat_template.ok())
    spec.chat_template = *std::move(chat_template);
  else if (chat_template.status().code() != DSOPT_E_NOT_FOUND)
    return chat_template.status();
  if (spec.tokenizer.pieces.size() > spec.config.vocab) {
    return Error(DSOPT_E_CORRUPT, "%s: %zu tokens, expected at most %u from tensor 'token_embd.weight'",
                 checkpoint.name().c_str(), spec.tokenizer.pieces.size(), spec.config.vocab);
  }
  const GgufKeys general(checkpoint.header(), "general");
  ASSIGN_OR_RETURN(const std::string found, general.String("license", ""));
  FillMetadata(std::filesystem::path(checkpoint.name()).filename().string(), license.empty() ? found : license,
               &spec);
  return spec;
}

Result<CheckpointMap> MapGguf(const GgufCheckpoint& checkpoint, dsopt_dtype dtype, const ConfigSpec& config) {
  Mapper mapper(checkpoint, config);
  for (const CanonicalTensor& tensor : ListCanonicalTensors(config)) RETURN_IF_ERROR(mapper.Add(tensor));
  CheckpointMap map = mapper.Finish();
  ChooseForms(dtype, &map.tensors);
  return map;
}

}  // namespace dsopt
