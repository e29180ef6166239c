#include "import/hf_config.h"

#include <string>

#include "import/json_file.h"

namespace dsopt {
namespace {

using nlohmann::json;

// Defaults of the published configuration classes for keys that a file may leave out.
struct FamilyDefaults {
  float rms_norm_eps, rope_theta;
};

Status ParseYarn(const JsonKeys& keys, bool deepseek, uint32_t context, RopeSpec* rope) {
  ASSIGN_OR_RETURN(rope->factor, keys.Float("factor", 0));
  if (rope->factor == 0)
    rope->factor = static_cast<float>(context) / static_cast<float>(rope->original_context);
  ASSIGN_OR_RETURN(rope->beta_fast, keys.Float("beta_fast", 32.0f));
  ASSIGN_OR_RETURN(rope->beta_slow, keys.Float("beta_slow", 1.0f));
  ASSIGN_OR_RETURN(rope->mscale, keys.Float("mscale", 0));
  ASSIGN_OR_RETURN(rope->mscale_all_dim, keys.Float("mscale_all_dim", 0));
  ASSIGN_OR_RETURN(rope->attention_factor, keys.Float("attention_factor", 0));
  // Outside of DeepSeek one of the two alone has no effect.
  if (!deepseek && (rope->mscale == 0 || rope->mscale_all_dim == 0)) rope->mscale = rope->mscale_all_dim = 0;
  ASSIGN_OR_RETURN(const bool truncate, keys.Bool("truncate", true));
  return truncate ? Status() : keys.Unsupported("truncate", "true");
}

// rope_parameters (transformers 5), or rope_theta and rope_scaling (4). rope->dim is set by the caller.
Status ParseRope(const JsonKeys& root, const FamilyDefaults& defaults, bool deepseek, uint32_t context,
                 RopeSpec* rope) {
  static const json kEmpty = json::object();
  const char* key = root.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const json* object = root.Find(key);
  if (object != nullptr && !object->is_object()) return root.Unsupported(key, "an object or null");
  const JsonKeys keys(object != nullptr ? *object : kEmpty, std::string("config.json: ") + key);
  for (const auto& [name, value] : (object != nullptr ? *object : kEmpty).items()) {
    if (value.is_object()) return keys.Unsupported(name.c_str(), "a value that holds for all layers");
  }
  ASSIGN_OR_RETURN(const float root_theta, root.Float("rope_theta", defaults.rope_theta));
  ASSIGN_OR_RETURN(rope->theta, keys.Float("rope_theta", root_theta));
  for (const JsonKeys* place : {&root, &keys}) {
    ASSIGN_OR_RETURN(const float partial, place->Float("partial_rotary_factor", 1.0f));
    if (partial != 1.0f) return place->Unsupported("partial_rotary_factor", "1");
  }
  ASSIGN_OR_RETURN(const std::string old_type, keys.String("type", "default"));
  ASSIGN_OR_RETURN(const std::string type, keys.String("rope_type", old_type.c_str()));
  if (type == "default") return {};
  ASSIGN_OR_RETURN(rope->factor, keys.Float("factor", 1.0f));
  if (type == "linear") {
    rope->scaling = RopeScaling::kLinear;
    return {};
  }
  ASSIGN_OR_RETURN(const uint32_t original, root.Uint("original_max_position_embeddings", context));
  ASSIGN_OR_RETURN(rope->original_context, keys.Uint("original_max_position_embeddings", original));
  if (type == "llama3") {
    rope->scaling = RopeScaling::kLlama3;
    ASSIGN_OR_RETURN(rope->low_freq_factor, keys.Float("low_freq_factor", 1.0f));
    ASSIGN_OR_RETURN(rope->high_freq_factor, keys.Float("high_freq_factor", 4.0f));
    return {};
  }
  if (type == "yarn") {
    rope->scaling = RopeScaling::kYarn;
    return ParseYarn(keys, deepseek, context, rope);
  }
  return keys.Unsupported(keys.has("rope_type") ? "rope_type" : "type", "default, linear, llama3 or yarn");
}

Status ParseActivation(const JsonKeys& root, Activation* activation) {
  ASSIGN_OR_RETURN(const std::string name, root.String("hidden_act", "silu"));
  if (name == "silu" || name == "swish")
    *activation = Activation::kSilu;
  else if (name == "gelu_pytorch_tanh" || name == "gelu_new")
    *activation = Activation::kGeluTanh;
  else
    return root.Unsupported("hidden_act", "silu, swish, gelu_pytorch_tanh or gelu_new");
  return {};
}

// Keys that every family has.
Status ParseCommon(const JsonKeys& root, const FamilyDefaults& defaults, ConfigSpec* config, LayerKind* kind,
                   uint32_t* layers) {
  ASSIGN_OR_RETURN(config->hidden, root.RequiredUint("hidden_size"));
  ASSIGN_OR_RETURN(config->vocab, root.RequiredUint("vocab_size"));
  ASSIGN_OR_RETURN(config->context, root.RequiredUint("max_position_embeddings"));
  ASSIGN_OR_RETURN(config->tie_embeddings, root.Bool("tie_word_embeddings", false));
  ASSIGN_OR_RETURN(kind->norm_eps, root.Float("rms_norm_eps", defaults.rms_norm_eps));
  config->final_norm_eps = kind->norm_eps;
  ASSIGN_OR_RETURN(*layers, root.RequiredUint("num_hidden_layers"));
  if (*layers > 4096) return root.Unsupported("num_hidden_layers", "at most 4096");
  ASSIGN_OR_RETURN(kind->attention.q_heads, root.RequiredUint("num_attention_heads"));
  ASSIGN_OR_RETURN(kind->attention.kv_heads, root.Uint("num_key_value_heads", kind->attention.q_heads));
  ASSIGN_OR_RETURN(kind->mlp.inner, root.RequiredUint("intermediate_size"));
  return ParseActivation(root, &kind->mlp.activation);
}

// Grouped-query attention: Llama, Mistral, Mixtral.
Status ParseAttention(const JsonKeys& root, const FamilyDefaults& defaults, const ConfigSpec& config,
                      AttentionSpec* attention) {
  ASSIGN_OR_RETURN(attention->head_dim, root.Uint("head_dim", 0));
  if (attention->head_dim == 0) {
    if (config.hidden % attention->q_heads != 0) {
      return root.Unsupported("num_attention_heads", "a divisor of hidden_size, or a head_dim");
    }
    attention->head_dim = config.hidden / attention->q_heads;
  }
  RETURN_IF_ERROR(ParseRope(root, defaults, false, config.context, &attention->rope));
  attention->rope.dim = attention->head_dim;
  return {};
}

Status ParseWindow(const JsonKeys& root, AttentionSpec* attention) {
  ASSIGN_OR_RETURN(const bool use, root.Bool("use_sliding_window", true));
  ASSIGN_OR_RETURN(const uint32_t window, root.Uint("sliding_window", 0));
  attention->window = use ? window : 0;
  return {};
}

Status RefuseBiases(const JsonKeys& root) {
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    ASSIGN_OR_RETURN(const bool bias, root.Bool(key, false));
    if (bias) return root.Unsupported(key, "false");
  }
  return {};
}

Status ParseLlama(const JsonKeys& root, ConfigSpec* config) {
  const FamilyDefaults defaults = {1e-6f, 10000.0f};
  LayerKind kind;
  uint32_t layers = 0;
  RETURN_IF_ERROR(ParseCommon(root, defaults, config, &kind, &layers));
  RETURN_IF_ERROR(ParseAttention(root, defaults, *config, &kind.attention));
  ASSIGN_OR_RETURN(const bool bias, root.Bool("attention_bias", false));
  kind.attention.qkv_bias = kind.attention.out_bias = bias;
  ASSIGN_OR_RETURN(kind.mlp.bias, root.Bool("mlp_bias", false));
  config->architecture = "llama";
  config->kinds = {kind};
  config->layers.assign(layers, 0);
  return {};
}

Status ParseMistral(const JsonKeys& root, ConfigSpec* config) {
  const FamilyDefaults defaults = {1e-6f, 10000.0f};
  LayerKind kind;
  uint32_t layers = 0;
  RETURN_IF_ERROR(ParseCommon(root, defaults, config, &kind, &layers));
  RETURN_IF_ERROR(ParseAttention(root, defaults, *config, &kind.attention));
  RETURN_IF_ERROR(ParseWindow(root, &kind.attention));
  RETURN_IF_ERROR(RefuseBiases(root));
  config->architecture = "mistral";
  config->kinds = {kind};
  config->layers.assign(layers, 0);
  return {};
}

Status ParseMixtral(const JsonKeys& root, ConfigSpec* config) {
  const FamilyDefaults defaults = {1e-5f, 1000000.0f};
  LayerKind kind;
  uint32_t layers = 0;
  RETURN_IF_ERROR(ParseCommon(root, defaults, config, &kind, &layers));
  RETURN_IF_ERROR(ParseAttention(root, defaults, *config, &kind.attention));
  RETURN_IF_ERROR(ParseWindow(root, &kind.attention));
  RETURN_IF_ERROR(RefuseBiases(root));
  MoeSpec& moe = kind.mlp.moe;
  ASSIGN_OR_RETURN(moe.experts, root.RequiredUint("num_local_experts"));
  ASSIGN_OR_RETURN(moe.top_k, root.RequiredUint("num_experts_per_tok"));
  moe.inner = kind.mlp.inner;
  kind.mlp.inner = 0;
  moe.renormalise = true;
  config->architecture = "mixtral";
  config->kinds = {kind};
  config->layers.assign(layers, 0);
  return {};
}

Status ParseMla(const JsonKeys& root, const ConfigSpec& config, LayerKind* kind) {
  AttentionSpec& attention = kind->attention;
  kind->mixer = Mixer::kMla;
  kind->latent_norm_eps = 1e-6f;  // the reference never passes rms_norm_eps to these two norms
  if (attention.kv_heads != attention.q_heads)
    return root.Unsupported("num_key_value_heads", "num_attention_heads");
  ASSIGN_OR_RETURN(attention.q_lora_rank, root.Uint("q_lora_rank", 0));
  ASSIGN_OR_RETURN(attention.kv_lora_rank, root.RequiredUint("kv_lora_rank"));
  ASSIGN_OR_RETURN(attention.nope_dim, root.RequiredUint("qk_nope_head_dim"));
  ASSIGN_OR_RETURN(attention.v_dim, root.RequiredUint("v_head_dim"));
  RETURN_IF_ERROR(ParseRope(root, {1e-6f, 10000.0f}, true, config.context, &attention.rope));
  ASSIGN_OR_RETURN(attention.rope.dim, root.RequiredUint("qk_rope_head_dim"));
  attention.rope.interleaved = true;
  attention.head_dim = attention.nope_dim + attention.rope.dim;
  ASSIGN_OR_RETURN(const uint32_t head_dim, root.Uint("qk_head_dim", attention.head_dim));
  if (head_dim != attention.head_dim)
    return root.Unsupported("qk_head_dim", "qk_nope_head_dim + qk_rope_head_dim");
  ASSIGN_OR_RETURN(const bool bias, root.Bool("attention_bias", false));
  attention.qkv_bias = attention.out_bias = bias;
  return {};
}

Status ParseDeepseekMoe(const JsonKeys& root, MoeSpec* moe) {
  ASSIGN_OR_RETURN(moe->top_k, root.RequiredUint("num_experts_per_tok"));
  ASSIGN_OR_RETURN(moe->inner, root.RequiredUint("moe_intermediate_size"));
  ASSIGN_OR_RETURN(const uint32_t shared, root.Uint("n_shared_experts", 0));
  if (shared > 1024 || moe->inner > UINT32_MAX / 1024)
    return root.Unsupported("n_shared_experts", "at most 1024");
  moe->shared_inner = shared * moe->inner;
  ASSIGN_OR_RETURN(const std::string scoring, root.String("scoring_func", "softmax"));
  if (scoring != "softmax") return root.Unsupported("scoring_func", "softmax");
  ASSIGN_OR_RETURN(const std::string method, root.String("topk_method", "greedy"));
  if (method == "group_limited_greedy") {
    ASSIGN_OR_RETURN(moe->groups, root.RequiredUint("n_group"));
    ASSIGN_OR_RETURN(moe->top_groups, root.RequiredUint("topk_group"));
  } else if (method != "greedy") {
    return root.Unsupported("topk_method", "greedy or group_limited_greedy");
  }
  // The reference either normalises the chosen weights or scales them, not both.
  ASSIGN_OR_RETURN(const bool normalise, root.Bool("norm_topk_prob", false));
  ASSIGN_OR_RETURN(const float scale, root.Float("routed_scaling_factor", 1.0f));
  moe->renormalise = normalise && moe->top_k > 1;
  moe->route_scale = moe->renormalise ? 1.0f : scale;
  return {};
}

Status ParseDeepseekV2(const JsonKeys& root, ConfigSpec* config) {
  LayerKind dense;
  uint32_t layers = 0;
  RETURN_IF_ERROR(ParseCommon(root, {1e-6f, 10000.0f}, config, &dense, &layers));
  RETURN_IF_ERROR(ParseMla(root, *config, &dense));
  ASSIGN_OR_RETURN(const bool mlp_bias, root.Bool("mlp_bias", false));
  if (mlp_bias) return root.Unsupported("mlp_bias", "false");
  LayerKind mixture = dense;
  ASSIGN_OR_RETURN(mixture.mlp.moe.experts, root.Uint("n_routed_experts", 0));
  if (mixture.mlp.moe.experts != 0) RETURN_IF_ERROR(ParseDeepseekMoe(root, &mixture.mlp.moe));
  mixture.mlp.inner = 0;
  ASSIGN_OR_RETURN(const uint32_t first, root.Uint("first_k_dense_replace", 0));
  ASSIGN_OR_RETURN(const uint32_t every, root.Uint("moe_layer_freq", 1));
  if (every == 0) return root.Unsupported("moe_layer_freq", "at least 1");
  config->architecture = "deepseek_v2";
  bool any[2] = {};
  for (uint32_t layer = 0; layer < layers; ++layer) {
    const bool is_mixture = mixture.mlp.moe.experts != 0 && layer >= first && layer % every == 0;
    any[is_mixture] = true;
    config->layers.push_back(is_mixture ? 1 : 0);
  }
  if (any[0]) config->kinds.push_back(dense);
  if (any[1]) config->kinds.push_back(mixture);
  if (!any[0]) config->layers.assign(layers, 0);
  return {};
}

struct Family {
  const char* architecture;
  Status (*parse)(const JsonKeys& root, ConfigSpec* config);
};
constexpr Family kFamilies[] = {{"LlamaForCausalLM", ParseLlama},
                                {"MistralForCausalLM", ParseMistral},
                                {"MixtralForCausalLM", ParseMixtral},
                                {"DeepseekV2ForCausalLM", ParseDeepseekV2}};

}  // namespace

Result<ConfigSpec> ParseHfConfig(std::string_view text) {
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, "config.json"));
  const JsonKeys root(object, "config.json");
  const json* names = root.Find("architectures");
  const bool usable = names != nullptr && names->is_array() && names->size() == 1 && (*names)[0].is_string();
  for (const Family& family : kFamilies) {
    if (!usable || (*names)[0].get<std::string>() != family.architecture) continue;
    ConfigSpec config;
    RETURN_IF_ERROR(family.parse(root, &config));
    return config;
  }
  return root.Unsupported(
      "architectures",
      "one of LlamaForCausalLM, MistralForCausalLM, MixtralForCausalLM, DeepseekV2ForCausalLM");
}

Result<HfGeneration> ParseHfGeneration(std::string_view text) {
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, "generation_config.json"));
  const JsonKeys keys(object, "generation_config.json");
  HfGeneration generation;
  SamplingSpec& sampling = generation.sampling;
  ASSIGN_OR_RETURN(const bool sample, keys.Bool("do_sample", false));
  if (sample) {
    ASSIGN_OR_RETURN(sampling.temperature, keys.Float("temperature", 1.0f));
    ASSIGN_OR_RETURN(sampling.top_k, keys.Uint("top_k", 0));
    ASSIGN_OR_RETURN(sampling.top_p, keys.Float("top_p", 0));
    ASSIGN_OR_RETURN(sampling.min_p, keys.Float("min_p", 0));
  }
  ASSIGN_OR_RETURN(sampling.repeat_penalty, keys.Float("repetition_penalty", 0));
  const json* eos = keys.Find("eos_token_id");
  if (eos == nullptr) return generation;
  const json ids = eos->is_array() ? *eos : json::array({*eos});
  for (const json& id : ids) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      return keys.Unsupported("eos_token_id", "token ids");
    }
    generation.end_tokens.push_back(static_cast<int32_t>(id.get<uint64_t>()));
  }
  return generation;
}

}  // namespace dsopt
