// gguf_model.cc - models as llama.cpp's converter writes them.
#include <algorithm>

#include "import/canonical_tensors.h"
#include "tests/quantised/gguf_builder.h"
#include "tests/quantised/models.h"

namespace dsopt::testing {
namespace {

LayerKind DenseKind(const GgufModelOptions& options) {
  LayerKind kind;
  kind.norm_eps = kind.latent_norm_eps = 1e-5f;
  kind.attention.q_heads = 4;
  kind.attention.kv_heads = 2;
  kind.attention.head_dim = kind.attention.rope.dim = options.hidden / 4;
  kind.attention.qkv_bias = options.biases;
  kind.mlp.inner = 2 * options.hidden;
  return kind;
}

void MakeMla(uint32_t hidden, AttentionSpec* attention) {
  attention->kv_heads = attention->q_heads;
  attention->rope.dim = attention->nope_dim = attention->head_dim / 2;
  attention->rope.interleaved = true;
  attention->v_dim = attention->head_dim;
  attention->q_lora_rank = attention->kv_lora_rank = hidden;
}

MoeSpec Experts(uint32_t experts, uint32_t top_k, uint32_t inner) {
  MoeSpec moe;
  moe.experts = experts;
  moe.top_k = top_k;
  moe.inner = inner;
  return moe;
}

ConfigSpec MakeConfig(const GgufModelOptions& options) {
  ConfigSpec config;
  config.architecture = "llama";
  config.hidden = options.hidden;
  config.vocab = kQuantisedVocab;
  config.context = 512;
  config.final_norm_eps = 1e-5f;
  config.tie_embeddings = options.tied;
  config.kinds = {DenseKind(options)};
  config.layers.assign(options.layers, 0);
  LayerKind& only = config.kinds[0];
  if (options.family == QuantisedFamily::kMistral) {
    config.architecture = "mistral";
    only.attention.window = 32;
  } else if (options.family == QuantisedFamily::kMixtral) {
    config.architecture = "mixtral";
    only.mlp.inner = 0;
    only.mlp.moe = Experts(4, 2, options.hidden);
    only.mlp.moe.renormalise = true;
  } else if (options.family == QuantisedFamily::kDeepseekV2) {
    config.architecture = "deepseek_v2";
    only.mixer = Mixer::kMla;
    MakeMla(options.hidden, &only.attention);
    LayerKind mixture = only;
    mixture.mlp.inner = 0;
    mixture.mlp.moe = Experts(8, 3, options.hidden);
    mixture.mlp.moe.shared_inner = 2 * options.hidden;
    mixture.mlp.moe.groups = 4;
    mixture.mlp.moe.top_groups = 2;
    mixture.mlp.moe.route_scale = 2.0f;
    config.kinds.push_back(mixture);
    std::fill(config.layers.begin() + 1, config.layers.end(), uint8_t{1});
  }
  return config;
}

void PutMla(const AttentionSpec& a, bool latent_halves, GgufBuilder* file) {
  const std::string prefix = "deepseek2.";
  file->Uint(prefix + "attention.head_count_kv", latent_halves ? 1 : a.q_heads);
  file->Uint(prefix + "attention.q_lora_rank", a.q_lora_rank);
  file->Uint(prefix + "attention.kv_lora_rank", a.kv_lora_rank);
  file->Uint(prefix + "attention.key_length", latent_halves ? a.kv_lora_rank + a.rope.dim : a.head_dim);
  file->Uint(prefix + "attention.value_length", latent_halves ? a.kv_lora_rank : a.v_dim);
  if (latent_halves) file->Uint(prefix + "attention.key_length_mla", a.head_dim);
  if (latent_halves) file->Uint(prefix + "attention.value_length_mla", a.v_dim);
}

void PutConfig(const ConfigSpec& config, bool latent_halves, GgufBuilder* file) {
  const LayerKind& kind = config.kinds.back();
  const std::string prefix = kind.mixer == Mixer::kMla ? "deepseek2." : "llama.";
  file->String("general.architecture", prefix.substr(0, prefix.size() - 1));
  file->String("general.license", "mit");
  file->Uint(prefix + "context_length", config.context);
  file->Uint(prefix + "embedding_length", config.hidden);
  file->Uint(prefix + "block_count", static_cast<uint32_t>(config.layers.size()));
  file->Uint(prefix + "attention.head_count", kind.attention.q_heads);
  file->Float(prefix + "attention.layer_norm_rms_epsilon", kind.norm_eps);
  file->Float(prefix + "rope.freq_base", kind.attention.rope.theta);
  file->Uint(prefix + "rope.dimension_count", kind.attention.rope.dim);
  if (kind.attention.window != 0) file->Uint(prefix + "attention.sliding_window", kind.attention.window);
  const MoeSpec& moe = kind.mlp.moe;
  if (moe.experts != 0) {
    file->Uint(prefix + "expert_count", moe.experts);
    file->Uint(prefix + "expert_used_count", moe.top_k);
  }
  if (kind.mixer != Mixer::kMla) {
    file->Uint(prefix + "attention.head_count_kv", kind.attention.kv_heads);
    file->Uint(prefix + "feed_forward_length", moe.experts != 0 ? moe.inner : kind.mlp.inner);
    return;
  }
  PutMla(kind.attention, latent_halves, file);
  file->Uint(prefix + "feed_forward_length", config.kinds[0].mlp.inner);
  file->Uint(prefix + "leading_dense_block_count", 1);
  file->Uint(prefix + "expert_feed_forward_length", moe.inner);
  file->Uint(prefix + "expert_shared_count", moe.shared_inner / moe.inner);
  file->Float(prefix + "expert_weights_scale", moe.route_scale);
  file->Bool(prefix + "expert_weights_norm", false);
  file->Uint(prefix + "expert_group_count", moe.groups);
  file->Uint(prefix + "expert_group_used_count", moe.top_groups);
}

// Bytes by themselves and a few words.
void PutVocabulary(GgufBuilder* file) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    const char* digits = "0123456789ABCDEF";
    tokens.push_back(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">");
    types.push_back(6);
  }
  for (const char* word :
       {"\u2581", "t", "h", "e", "\u2581t", "he", "\u2581the", "a", "<|eot_id|>", "[call]"}) {
    tokens.push_back(word);
    types.push_back(word[0] == '<' ? 3 : word[0] == '[' ? 4 : 1);
  }
  std::vector<float> scores;
  for (size_t i = 0; i < tokens.size(); ++i) scores.push_back(-static_cast<float>(i % 50));
  file->String("tokenizer.ggml.model", "llama");
  file->String("tokenizer.ggml.pre", "default");
  file->Strings("tokenizer.ggml.tokens", tokens);
  file->Floats("tokenizer.ggml.scores", scores);
  file->Ints("tokenizer.ggml.token_type", types);
  file->Uint("tokenizer.ggml.bos_token_id", 1);
  file->Uint("tokenizer.ggml.eos_token_id", 2);
  file->Bool("tokenizer.ggml.add_bos_token", true);
  file->String("tokenizer.chat_template", "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}");
}

std::string GgufSuffix(const std::string& canonical) {
  static const std::map<std::string, std::string> kNames = {{"attn.norm", "attn_norm"},
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
                                                            {"moe.shared.down", "ffn_down_shexp"},
                                                            {"embed", "token_embd"},
                                                            {"head", "output"},
                                                            {"final_norm", "output_norm"}};
  return kNames.at(canonical);
}

class Maker {
 public:
  explicit Maker(const GgufModelOptions& options)
      : options_(options), random_(7), files_(options.files, GgufBuilder(options.version)) {
    model_.config = MakeConfig(options);
  }

  GgufModel Make() {
    PutConfig(model_.config, options_.latent_halves, &files_[0]);
    PutVocabulary(&files_[0]);
    for (uint32_t i = 0; options_.files > 1 && i < options_.files; ++i) {
      files_[i].Uint("split.no", i);
      files_[i].Uint("split.count", options_.files);
    }
    for (const CanonicalTensor& tensor : ListCanonicalTensors(model_.config)) {
      if (tensor.shape.size() == 1)
        PutVector(tensor);
      else if (tensor.suffix == "attn.kv_b" && options_.latent_halves)
        PutHalves(tensor);
      else
        PutMatrix(tensor);
    }
    for (const GgufBuilder& file : files_) model_.files.push_back(file.Bytes());
    return std::move(model_);
  }

 private:
  GgufBuilder& NextFile() { return files_[next_++ % files_.size()]; }

  std::string Name(const CanonicalTensor& tensor, const std::string& gguf) const {
    return tensor.layer == CanonicalTensor::kNoLayer ? gguf
                                                     : "blk." + std::to_string(tensor.layer) + "." + gguf;
  }

  // Where the file has row `row`: it pairs (2i, 2i + 1) of a head where the canonical order pairs (i, i +
  // half).
  uint64_t FileRow(const std::string& suffix, uint64_t row) const {
    const LayerKind& kind = model_.config.kinds[0];
    const bool rotated =
        suffix == "attn.q" || suffix == "attn.k" || suffix == "attn.q.bias" || suffix == "attn.k.bias";
    if (!rotated || kind.mixer == Mixer::kMla) return row;
    const uint64_t head = kind.attention.head_dim, half = head / 2;
    const uint64_t i = row % head;
    return row / head * head + (i < half ? 2 * i : 2 * (i - half) + 1);
  }

  void PutVector(const CanonicalTensor& tensor) {
    const bool bias = tensor.suffix.ends_with(".bias");
    Packed packed = PackGguf("F32", tensor.shape[0], &random_);
    if (!bias) {
      for (float& value : packed.values) value += 1;
    }
    std::vector<float> in_file(packed.values.size());
    for (uint64_t i = 0; i < in_file.size(); ++i) in_file[FileRow(tensor.suffix, i)] = packed.values[i];
    const auto* raw = reinterpret_cast<const uint8_t*>(in_file.data());
    const std::string base = bias ? tensor.suffix.substr(0, tensor.suffix.size() - 5) : tensor.suffix;
    NextFile().Tensor(Name(tensor, GgufSuffix(base) + (bias ? ".bias" : ".weight")), 0, tensor.shape,
                      {raw, raw + 4 * in_file.size()});
    model_.values[tensor.name()] = packed.values;
  }

  void PutMatrix(const CanonicalTensor& tensor) {
    const std::string type = tensor.suffix == "moe.router" ? "F32" : options_.type(tensor.suffix);
    const uint64_t cols = tensor.shape.back();
    uint64_t rows = 1;
    for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
    std::vector<std::vector<uint8_t>> in_file(rows);
    std::vector<float>& values = model_.values[tensor.name()];
    for (uint64_t row = 0; row < rows; ++row) {
      Packed packed = PackGguf(type, cols, &random_);
      values.insert(values.end(), packed.values.begin(), packed.values.end());
      in_file[FileRow(tensor.suffix, row)] = std::move(packed.bytes);
    }
    const auto join = [&](uint64_t first, uint64_t count) {
      std::vector<uint8_t> bytes;
      for (uint64_t i = 0; i < count; ++i) {
        bytes.insert(bytes.end(), in_file[first + i].begin(), in_file[first + i].end());
      }
      return bytes;
    };
    const std::string name = Name(tensor, GgufSuffix(tensor.suffix));
    if (tensor.shape.size() == 3 && options_.split_experts) {
      for (uint64_t e = 0; e < tensor.shape[0]; ++e) {
        NextFile().Tensor(name.substr(0, name.size() - 5) + "." + std::to_string(e) + ".weight",
                          GgufTypeNumber(type), {tensor.shape[1], cols},
                          join(e * tensor.shape[1], tensor.shape[1]));
      }
      return;
    }
    NextFile().Tensor(name + ".weight", GgufTypeNumber(type), tensor.shape, join(0, rows));
  }

  // k_b has each head's keys transposed, v_b the values as they are.
  void PutHalves(const CanonicalTensor& tensor) {
    const AttentionSpec& a = model_.config.kinds[0].attention;
    const uint64_t heads = a.q_heads, latent = a.kv_lora_rank, nope = a.nope_dim, v = a.v_dim;
    const std::string type = options_.type(tensor.suffix);
    const Packed keys = PackGguf(type, heads * latent * nope, &random_);
    const Packed values = PackGguf(type, heads * v * latent, &random_);
    std::vector<float>& out = model_.values[tensor.name()];
    for (uint64_t h = 0; h < heads; ++h) {
      for (uint64_t i = 0; i < nope * latent; ++i) {
        out.push_back(keys.values[(h * latent + i % latent) * nope + i / latent]);
      }
      const auto from = values.values.begin() + static_cast<std::ptrdiff_t>(h * v * latent);
      out.insert(out.end(), from, from + static_cast<std::ptrdiff_t>(v * latent));
    }
    NextFile().Tensor(Name(tensor, "attn_k_b.weight"), GgufTypeNumber(type), {heads, latent, nope}, keys.bytes);
    NextFile().Tensor(Name(tensor, "attn_v_b.weight"), GgufTypeNumber(type), {heads, v, latent}, values.bytes);
  }

  const GgufModelOptions& options_;
  Random random_;
  std::vector<GgufBuilder> files_;
  size_t next_ = 0;
  GgufModel model_;
};

}  // namespace

GgufModel MakeGgufModel(const GgufModelOptions& options) { return Maker(options).Make(); }

}  // namespace dsopt::testing
