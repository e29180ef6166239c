// gguf_config.cc - the configuration in a GGUF file's metadata, and in the presence of some tensors.
#include <algorithm>
#include <cmath>

#include "import/gguf_import.h"
#include "import/gguf_rope.h"

namespace dsopt {
namespace {

constexpr uint32_t kMostLayers = 4096;

bool Has(const GgufCheckpoint& checkpoint, const char* tensor) { return checkpoint.Find(tensor) != nullptr; }

// Keys of other families that share the name of the architecture, and would change the result.
Status RefuseKeys(const GgufKeys& keys, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (keys.Find(name) != nullptr) return keys.Unsupported(name, "no such key");
  }
  return {};
}

// The number of rows of the embedding: files disagree about "vocab_size".
Status ParseVocab(const GgufCheckpoint& checkpoint, ConfigSpec* config) {
  const GgufTensor* embed = checkpoint.Find("token_embd.weight");
  if (embed == nullptr || embed->shape.size() != 2 || embed->shape[0] > UINT32_MAX) {
    return Error(DSOPT_E_CORRUPT, "%s: tensor 'token_embd.weight' is missing or no matrix",
                 checkpoint.name().c_str());
  }
  config->vocab = static_cast<uint32_t>(embed->shape[0]);
  config->tie_embeddings = !Has(checkpoint, "output.weight");
  return {};
}

// Keys that every family has.
Status ParseCommon(const GgufCheckpoint& checkpoint, const GgufKeys& keys, ConfigSpec* config, LayerKind* kind,
                   uint32_t* layers) {
  ASSIGN_OR_RETURN(config->hidden, keys.RequiredUint("embedding_length"));
  ASSIGN_OR_RETURN(config->context, keys.RequiredUint("context_length"));
  ASSIGN_OR_RETURN(*layers, keys.RequiredUint("block_count"));
  if (*layers > kMostLayers) return keys.Unsupported("block_count", "at most 4096");
  RETURN_IF_ERROR(ParseVocab(checkpoint, config));
  if (keys.Find("attention.layer_norm_rms_epsilon") == nullptr) {
    return keys.Unsupported("attention.layer_norm_rms_epsilon", "a number");
  }
  ASSIGN_OR_RETURN(kind->norm_eps, keys.Float("attention.layer_norm_rms_epsilon", 0));
  config->final_norm_eps = kind->latent_norm_eps = kind->norm_eps;
  AttentionSpec& attention = kind->attention;
  ASSIGN_OR_RETURN(attention.q_heads, keys.UintOfAllLayers("attention.head_count", *layers, 0));
  ASSIGN_OR_RETURN(attention.kv_heads,
                   keys.UintOfAllLayers("attention.head_count_kv", *layers, attention.q_heads));
  ASSIGN_OR_RETURN(const bool causal, keys.Bool("attention.causal", true));
  if (!causal) return keys.Unsupported("attention.causal", "true");
  ASSIGN_OR_RETURN(attention.scale, keys.Float("attention.scale", 0));
  return RefuseKeys(keys, {"logit_scale", "residual_scale", "embedding_scale", "attention.clamp_kqv",
                           "attention.temperature_scale", "attn_logit_softcapping", "final_logit_softcapping",
                           "attention.sliding_window_pattern", "nextn_predict_layers"});
}

Status ParseLlama(const GgufCheckpoint& checkpoint, const GgufKeys& keys, ConfigSpec* config) {
  LayerKind kind;
  uint32_t layers = 0;
  RETURN_IF_ERROR(ParseCommon(checkpoint, keys, config, &kind, &layers));
  AttentionSpec& attention = kind.attention;
  ASSIGN_OR_RETURN(attention.head_dim, keys.Uint("attention.key_length", config->hidden / attention.q_heads));
  ASSIGN_OR_RETURN(const uint32_t value_length, keys.Uint("attention.value_length", attention.head_dim));
  if (value_length != attention.head_dim)
    return keys.Unsupported("attention.value_length", "attention.key_length");
  ASSIGN_OR_RETURN(attention.rope.dim, keys.Uint("rope.dimension_count", attention.head_dim));
  if (attention.rope.dim != attention.head_dim)
    return keys.Unsupported("rope.dimension_count", "the size of a head");
  RETURN_IF_ERROR(ParseGgufRope(checkpoint, keys, config->context, &attention.rope));
  ASSIGN_OR_RETURN(attention.window, keys.Uint("attention.sliding_window", 0));
  attention.qkv_bias = Has(checkpoint, "blk.0.attn_q.bias");
  attention.out_bias = Has(checkpoint, "blk.0.attn_output.bias");
  kind.mlp.bias = Has(checkpoint, "blk.0.ffn_gate.bias");
  ASSIGN_OR_RETURN(const uint32_t inner, keys.UintOfAllLayers("feed_forward_length", layers, 0));
  ASSIGN_OR_RETURN(kind.mlp.moe.experts, keys.Uint("expert_count", 0));
  config->architecture = attention.window != 0 ? "mistral" : "llama";
  if (kind.mlp.moe.experts == 0) {
    kind.mlp.inner = inner;
  } else {
    config->architecture = "mixtral";
    ASSIGN_OR_RETURN(kind.mlp.moe.top_k, keys.RequiredUint("expert_used_count"));
    kind.mlp.moe.inner = inner;
    kind.mlp.moe.renormalise = true;
  }
  config->kinds = {kind};
  config->layers.assign(layers, 0);
  return {};
}

// Files from before the latent cache say whole heads; newer ones the latent sizes, and the heads under
// "..._mla".
Status ParseMla(const GgufCheckpoint& checkpoint, const GgufKeys& keys, const ConfigSpec& config,
                AttentionSpec* attention) {
  const bool latent = keys.Find("attention.key_length_mla") != nullptr;
  ASSIGN_OR_RETURN(attention->head_dim,
                   keys.RequiredUint(latent ? "attention.key_length_mla" : "attention.key_length"));
  ASSIGN_OR_RETURN(attention->v_dim,
                   keys.RequiredUint(latent ? "attention.value_length_mla" : "attention.value_length"));
  attention->kv_heads = attention->q_heads;
  ASSIGN_OR_RETURN(attention->q_lora_rank, keys.Uint("attention.q_lora_rank", 0));
  ASSIGN_OR_RETURN(attention->kv_lora_rank, keys.RequiredUint("attention.kv_lora_rank"));
  ASSIGN_OR_RETURN(attention->rope.dim, keys.RequiredUint("rope.dimension_count"));
  if (attention->rope.dim >= attention->head_dim) {
    return keys.Unsupported("rope.dimension_count", "less than the size of a head");
  }
  attention->nope_dim = attention->head_dim - attention->rope.dim;
  RETURN_IF_ERROR(ParseGgufRope(checkpoint, keys, config.context, &attention->rope));
  attention->rope.interleaved = true;
  if (attention->rope.scaling == RopeScaling::kYarn) {
    // Rotated values keep their length; the scores' scale grows by a multiple of log(factor).
    ASSIGN_OR_RETURN(const float multiplier, keys.Float("rope.scaling.yarn_log_multiplier", 0));
    attention->rope.mscale = attention->rope.mscale_all_dim = multiplier * 10;
    attention->rope.attention_factor = 1;
  }
  return {};
}

Status ParseExperts(const GgufKeys& keys, MoeSpec* moe) {
  ASSIGN_OR_RETURN(moe->top_k, keys.RequiredUint("expert_used_count"));
  ASSIGN_OR_RETURN(moe->inner, keys.RequiredUint("expert_feed_forward_length"));
  ASSIGN_OR_RETURN(const uint32_t shared, keys.Uint("expert_shared_count", 0));
  if (shared > 1024 || moe->inner > UINT32_MAX / 1024)
    return keys.Unsupported("expert_shared_count", "at most 1024");
  moe->shared_inner = shared * moe->inner;
  ASSIGN_OR_RETURN(const uint32_t gating, keys.Uint("expert_gating_func", 1));
  if (gating > 1) return keys.Unsupported("expert_gating_func", "1, softmax");
  ASSIGN_OR_RETURN(moe->groups, keys.Uint("expert_group_count", 0));
  if (moe->groups > 1) {
    ASSIGN_OR_RETURN(moe->top_groups, keys.RequiredUint("expert_group_used_count"));
  } else {
    moe->groups = 0;
  }
  ASSIGN_OR_RETURN(moe->renormalise, keys.Bool("expert_weights_norm", false));
  ASSIGN_OR_RETURN(moe->route_scale, keys.Float("expert_weights_scale", 1));
  if (moe->route_scale == 0) moe->route_scale = 1;  // how writers say that there is none
  return {};
}

Status ParseDeepseek2(const GgufCheckpoint& checkpoint, const GgufKeys& keys, ConfigSpec* config) {
  LayerKind dense;
  uint32_t layers = 0;
  RETURN_IF_ERROR(ParseCommon(checkpoint, keys, config, &dense, &layers));
  dense.mixer = Mixer::kMla;
  RETURN_IF_ERROR(ParseMla(checkpoint, keys, *config, &dense.attention));
  LayerKind mixture = dense;
  ASSIGN_OR_RETURN(const uint32_t first, keys.Uint("leading_dense_block_count", 0));
  ASSIGN_OR_RETURN(mixture.mlp.moe.experts, keys.Uint("expert_count", 0));
  const uint32_t dense_layers = mixture.mlp.moe.experts == 0 ? layers : std::min(first, layers);
  if (dense_layers > 0) {
    ASSIGN_OR_RETURN(dense.mlp.inner, keys.UintOfAllLayers("feed_forward_length", layers, 0));
    config->kinds.push_back(dense);
  }
  if (dense_layers < layers) {
    RETURN_IF_ERROR(ParseExperts(keys, &mixture.mlp.moe));
    config->kinds.push_back(mixture);
  }
  config->architecture = "deepseek_v2";
  config->layers.assign(layers, static_cast<uint8_t>(config->kinds.size() - 1));
  std::fill_n(config->layers.begin(), dense_layers, uint8_t{0});
  for (const GgufTensor& tensor : checkpoint.header().tensors) {
    if (tensor.name.find("exp_probs_b") == std::string::npos) continue;
    return Error(DSOPT_E_UNSUPPORTED, "gguf: tensor '%s' is of DeepSeek-V3's routing, expected DeepSeek-V2's",
                 tensor.name.c_str());
  }
  return {};
}

}  // namespace

Result<ConfigSpec> ParseGgufConfig(const GgufCheckpoint& checkpoint) {
  const GgufKeys general(checkpoint.header(), "general");
  ASSIGN_OR_RETURN(const std::string architecture, general.String("architecture", ""));
  const GgufKeys keys(checkpoint.header(), architecture);
  ConfigSpec config;
  if (architecture == "llama") {
    RETURN_IF_ERROR(ParseLlama(checkpoint, keys, &config));
  } else if (architecture == "deepseek2") {
    RETURN_IF_ERROR(ParseDeepseek2(checkpoint, keys, &config));
  } else {
    return general.Unsupported("architecture", "llama (also Mistral and Mixtral) or deepseek2");
  }
  return config;
}

}  // namespace dsopt
