// Hugging Face configurations: every family, old and new keys, and what is refused.
#include "import/hf_config.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "import/json_file.h"

namespace dsopt {
namespace {

using nlohmann::json;

json Llama() {
  return json::parse(R"({"architectures":["LlamaForCausalLM"],"hidden_size":64,"intermediate_size":128,
    "num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":100,
    "max_position_embeddings":2048,"rms_norm_eps":1e-5,"rope_theta":500000.0,"hidden_act":"silu"})");
}

json Deepseek() {
  return json::parse(R"({"architectures":["DeepseekV2ForCausalLM"],"hidden_size":64,"intermediate_size":128,
    "num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":4,"vocab_size":100,
    "max_position_embeddings":2048,"rms_norm_eps":1e-5,"q_lora_rank":null,"kv_lora_rank":32,
    "qk_nope_head_dim":16,
    "qk_rope_head_dim":8,"v_head_dim":12,"n_routed_experts":8,"n_shared_experts":2,"num_experts_per_tok":3,
    "moe_intermediate_size":48,"first_k_dense_replace":1,"moe_layer_freq":1,"routed_scaling_factor":2.5,
    "norm_topk_prob":false,"topk_method":"greedy","n_group":1,"topk_group":1,"scoring_func":"softmax"})");
}

ConfigSpec Parse(const json& config) {
  Result<ConfigSpec> result = ParseHfConfig(config.dump());
  INFO(std::string(result.status().message()));
  REQUIRE(result.ok());
  return *std::move(result);
}

void CheckRefused(const json& config, const std::string& key, const std::string& value) {
  Result<ConfigSpec> result = ParseHfConfig(config.dump());
  CAPTURE(key, value);
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().code() == DSOPT_E_UNSUPPORTED);
  CHECK_THAT(std::string(result.status().message()), Catch::Contains(key) && Catch::Contains(value));
}

TEST_CASE("a Llama configuration gives grouped-query attention with the head size of its hidden size",
          "[import]") {
  const ConfigSpec config = Parse(Llama());
  CHECK(config.architecture == "llama");
  CHECK(config.layers == std::vector<uint8_t>{0, 0, 0});
  REQUIRE(config.kinds.size() == 1);
  const LayerKind& kind = config.kinds[0];
  CHECK(kind.mixer == Mixer::kAttention);
  CHECK(kind.attention.q_heads == 4);
  CHECK(kind.attention.kv_heads == 2);
  CHECK(kind.attention.head_dim == 16);
  CHECK(kind.attention.rope.dim == 16);
  CHECK(kind.attention.rope.theta == 500000.0f);
  CHECK_FALSE(kind.attention.rope.interleaved);
  CHECK(kind.attention.window == 0);
  CHECK(kind.mlp.inner == 128);
  CHECK(kind.norm_eps == 1e-5f);
  CHECK(config.final_norm_eps == 1e-5f);
  CHECK_FALSE(config.tie_embeddings);
}

TEST_CASE("rotary parameters of transformers 5 and of transformers 4 mean the same", "[import]") {
  json old_keys = Llama(), new_keys = Llama();
  old_keys["rope_scaling"] = json::parse(R"({"type":"llama3","factor":8.0,"low_freq_factor":1.0,
    "high_freq_factor":4.0,"original_max_position_embeddings":512})");
  new_keys.erase("rope_theta");
  new_keys["rope_parameters"] = old_keys["rope_scaling"];
  new_keys["rope_parameters"].erase("type");
  new_keys["rope_parameters"]["rope_type"] = "llama3";
  new_keys["rope_parameters"]["rope_theta"] = 500000.0;
  const ConfigSpec old_config = Parse(old_keys), new_config = Parse(new_keys);
  CHECK(old_config.kinds == new_config.kinds);
  const RopeSpec& rope = new_config.kinds[0].attention.rope;
  CHECK(rope.scaling == RopeScaling::kLlama3);
  CHECK(rope.factor == 8.0f);
  CHECK(rope.original_context == 512);
}

TEST_CASE("linear and yarn scaling are read, others refused", "[import]") {
  json config = Llama();
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  CHECK(Parse(config).kinds[0].attention.rope.scaling == RopeScaling::kLinear);
  config["rope_scaling"] = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 512}, {"mscale", 0.7}};
  const RopeSpec rope = Parse(config).kinds[0].attention.rope;
  CHECK(rope.scaling == RopeScaling::kYarn);
  CHECK(rope.original_context == 512);
  CHECK(rope.mscale == 0.0f);  // alone it has no effect outside of DeepSeek
  config["rope_scaling"]["truncate"] = false;
  CheckRefused(config, "truncate", "false");
  config["rope_scaling"] = {{"type", "dynamic"}, {"factor", 4.0}};
  CheckRefused(config, "type", "dynamic");
  config["rope_scaling"] = {{"full_attention", {{"rope_type", "default"}}}};
  CheckRefused(config, "full_attention", "default");
  config["rope_scaling"] = nullptr;
  config["partial_rotary_factor"] = 0.5;
  CheckRefused(config, "partial_rotary_factor", "0.5");
}

TEST_CASE("a Llama configuration with biases says where they are", "[import]") {
  json config = Llama();
  config["attention_bias"] = true;
  config["mlp_bias"] = true;
  const LayerKind kind = Parse(config).kinds[0];
  CHECK(kind.attention.qkv_bias);
  CHECK(kind.attention.out_bias);
  CHECK(kind.mlp.bias);
}

TEST_CASE("Mistral's sliding window is taken, null and absent mean none", "[import]") {
  json config = Llama();
  config["architectures"] = {"MistralForCausalLM"};
  config["head_dim"] = 32;
  CHECK(Parse(config).kinds[0].attention.window == 0);
  CHECK(Parse(config).kinds[0].attention.head_dim == 32);
  config["sliding_window"] = nullptr;
  CHECK(Parse(config).kinds[0].attention.window == 0);
  config["sliding_window"] = 128;
  CHECK(Parse(config).kinds[0].attention.window == 128);
  config["use_sliding_window"] = false;
  CHECK(Parse(config).kinds[0].attention.window == 0);
  config["attention_bias"] = true;
  CheckRefused(config, "attention_bias", "true");
}

TEST_CASE("Mixtral's experts are renormalised", "[import]") {
  json config = Llama();
  config["architectures"] = {"MixtralForCausalLM"};
  config["num_local_experts"] = 8;
  config["num_experts_per_tok"] = 2;
  const MlpSpec mlp = Parse(config).kinds[0].mlp;
  CHECK(mlp.inner == 0);
  CHECK(mlp.moe.experts == 8);
  CHECK(mlp.moe.top_k == 2);
  CHECK(mlp.moe.inner == 128);
  CHECK(mlp.moe.renormalise);
  CHECK(mlp.moe.route_scale == 1.0f);
  config.erase("num_local_experts");
  CheckRefused(config, "num_local_experts", "absent");
}

TEST_CASE("DeepSeek-V2 has dense layers first and latent attention everywhere", "[import]") {
  const ConfigSpec config = Parse(Deepseek());
  CHECK(config.layers == std::vector<uint8_t>{0, 1, 1});
  REQUIRE(config.kinds.size() == 2);
  CHECK(config.kinds[0].mlp.inner == 128);
  CHECK(config.kinds[0].mlp.moe.experts == 0);
  const LayerKind& kind = config.kinds[1];
  CHECK(kind.mixer == Mixer::kMla);
  CHECK(kind.attention.q_lora_rank == 0);
  CHECK(kind.attention.kv_lora_rank == 32);
  CHECK(kind.attention.head_dim == 24);
  CHECK(kind.attention.rope.dim == 8);
  CHECK(kind.attention.rope.interleaved);
  CHECK(kind.latent_norm_eps == 1e-6f);
  CHECK(kind.mlp.moe.shared_inner == 96);
  CHECK(kind.mlp.moe.groups == 0);
  CHECK(kind.mlp.moe.route_scale == 2.5f);
  CHECK_FALSE(kind.mlp.moe.renormalise);
}

TEST_CASE("DeepSeek-V2 either normalises the chosen weights or scales them", "[import]") {
  json config = Deepseek();
  config["norm_topk_prob"] = true;
  CHECK(Parse(config).kinds[1].mlp.moe.renormalise);
  CHECK(Parse(config).kinds[1].mlp.moe.route_scale == 1.0f);
  config["num_experts_per_tok"] = 1;
  CHECK_FALSE(Parse(config).kinds[1].mlp.moe.renormalise);
  CHECK(Parse(config).kinds[1].mlp.moe.route_scale == 2.5f);
}

TEST_CASE("DeepSeek-V2 routing methods, layer patterns and their limits", "[import]") {
  json config = Deepseek();
  config["topk_method"] = "group_limited_greedy";
  config["n_group"] = 4;
  config["topk_group"] = 2;
  CHECK(Parse(config).kinds[1].mlp.moe.groups == 4);
  CHECK(Parse(config).kinds[1].mlp.moe.top_groups == 2);
  config["topk_method"] = "noaux_tc";
  CheckRefused(config, "topk_method", "noaux_tc");
  config = Deepseek();
  config["moe_layer_freq"] = 2;
  CHECK(Parse(config).layers == std::vector<uint8_t>{0, 0, 1});
  config["first_k_dense_replace"] = 0;
  config["moe_layer_freq"] = 1;
  CHECK(Parse(config).layers == std::vector<uint8_t>{0, 0, 0});
  CHECK(Parse(config).kinds.size() == 1);
  CHECK(Parse(config).kinds[0].mlp.moe.experts == 8);
  config["scoring_func"] = "sigmoid";
  CheckRefused(config, "scoring_func", "sigmoid");
  config = Deepseek();
  config["num_key_value_heads"] = 2;
  CheckRefused(config, "num_key_value_heads", "2");
  config = Deepseek();
  config["qk_head_dim"] = 25;
  CheckRefused(config, "qk_head_dim", "25");
}

TEST_CASE("a value that cannot be honoured is refused by key and value", "[import]") {
  const auto with = [](const char* key, const json& value) {
    json config = Llama();
    config[key] = value;
    return config;
  };
  CheckRefused(with("architectures", {"GPT2LMHeadModel"}), "architectures", "GPT2LMHeadModel");
  CheckRefused(with("architectures", nullptr), "architectures", "absent");
  CheckRefused(with("hidden_act", "relu"), "hidden_act", "relu");
  CheckRefused(with("hidden_act", 3), "hidden_act", "3");
  CheckRefused(with("hidden_size", -64), "hidden_size", "-64");
  CheckRefused(with("hidden_size", "64"), "hidden_size", "64");
  CheckRefused(with("hidden_size", 1e30), "hidden_size", "1e+30");
  CheckRefused(with("num_hidden_layers", 1000000), "num_hidden_layers", "1000000");
  CheckRefused(with("num_attention_heads", 5), "num_attention_heads", "5");
  CheckRefused(with("num_attention_heads", 0), "num_attention_heads", "0");
  CheckRefused(with("rms_norm_eps", "small"), "rms_norm_eps", "small");
  CheckRefused(with("tie_word_embeddings", 1), "tie_word_embeddings", "1");
  CheckRefused(with("rope_scaling", 3), "rope_scaling", "3");
  json config = Llama();
  config.erase("vocab_size");
  CheckRefused(config, "vocab_size", "absent");
}

TEST_CASE("text that is not a JSON object is corrupt", "[import]") {
  for (const char* text : {"", "{", "[]", "3", "{\"a\":}", "\xff"}) {
    CAPTURE(text);
    CHECK(ParseHfConfig(text).status().code() == DSOPT_E_CORRUPT);
  }
  CHECK(ParseHfConfig("{\"a\":" + std::string(100000, '[')).status().code() == DSOPT_E_CORRUPT);
}

TEST_CASE("a configuration with any byte changed is read or refused", "[import]") {
  const std::string good = Deepseek().dump();
  for (size_t at = 0; at < good.size(); ++at) {
    for (const char value : {'\0', '"', '{', '}', '[', ',', ':', '9', '-', 'e', '\x80'}) {
      std::string text = good;
      text[at] = value;
      Result<ConfigSpec> config = ParseHfConfig(text);
      const dsopt_code code = config.status().code();
      REQUIRE((code == DSOPT_OK || code == DSOPT_E_CORRUPT || code == DSOPT_E_UNSUPPORTED));
      if (config.ok()) REQUIRE(config->layers.size() <= 4096);
    }
  }
}

TEST_CASE("generation defaults are greedy unless the file samples", "[import]") {
  Result<HfGeneration> greedy = ParseHfGeneration(R"({"temperature":0.6,"top_p":0.9,"eos_token_id":2})");
  REQUIRE(greedy.ok());
  CHECK(greedy->sampling.temperature == 0.0f);
  CHECK(greedy->end_tokens == std::vector<int32_t>{2});
  Result<HfGeneration> sampled = ParseHfGeneration(
      R"({"do_sample":true,"temperature":0.6,"top_p":0.9,"top_k":20,
          "repetition_penalty":1.1,"eos_token_id":[2,7]})");
  REQUIRE(sampled.ok());
  CHECK(sampled->sampling.temperature == 0.6f);
  CHECK(sampled->sampling.top_p == 0.9f);
  CHECK(sampled->sampling.top_k == 20);
  CHECK(sampled->sampling.repeat_penalty == 1.1f);
  CHECK(sampled->end_tokens == std::vector<int32_t>{2, 7});
  CHECK(ParseHfGeneration(R"({"eos_token_id":-3})").status().code() == DSOPT_E_UNSUPPORTED);
  CHECK(ParseHfGeneration("[").status().code() == DSOPT_E_CORRUPT);
}

TEST_CASE("the published configurations are all read", "[import]") {
  const std::filesystem::path folder = DSOPT_SOURCE_DIR "/../shared/data/configs";
  if (!std::filesystem::exists(folder)) {
    std::cout << "skipped: ../shared/data/configs is absent\n";
    return;
  }
  struct Case {
    const char* file;
    uint32_t layers, window, experts, groups, q_rank;
    RopeScaling scaling;
  };
  const Case cases[] = {
      {"Meta-Llama-3-8B", 32, 0, 0, 0, 0, RopeScaling::kNone},
      {"Meta-Llama-3-70B", 80, 0, 0, 0, 0, RopeScaling::kNone},
      {"Llama-3.1-8B", 32, 0, 0, 0, 0, RopeScaling::kLlama3},
      {"Mistral-7B-v0.1", 32, 4096, 0, 0, 0, RopeScaling::kNone},
      {"Mistral-7B-v0.3", 32, 0, 0, 0, 0, RopeScaling::kNone},
      {"Mixtral-8x7B-v0.1", 32, 0, 8, 0, 0, RopeScaling::kNone},
      {"DeepSeek-V2", 60, 0, 160, 8, 1536, RopeScaling::kYarn},
      {"DeepSeek-V2.5", 60, 0, 160, 8, 1536, RopeScaling::kYarn},
      {"DeepSeek-V2-Lite", 27, 0, 64, 0, 0, RopeScaling::kYarn},
  };
  for (const Case& c : cases) {
    CAPTURE(c.file);
    Result<std::string> text = ReadTextFile(folder / (std::string(c.file) + ".json"), 1 << 20);
    REQUIRE(text.ok());
    Result<ConfigSpec> config = ParseHfConfig(*text);
    REQUIRE(config.ok());
    const LayerKind& kind = config->kinds.back();
    CHECK(config->layers.size() == c.layers);
    CHECK(kind.attention.window == c.window);
    CHECK(kind.mlp.moe.experts == c.experts);
    CHECK(kind.mlp.moe.groups == c.groups);
    CHECK(kind.attention.q_lora_rank == c.q_rank);
    CHECK(kind.attention.rope.scaling == c.scaling);
  }
}

}  // namespace
}  // namespace dsopt
