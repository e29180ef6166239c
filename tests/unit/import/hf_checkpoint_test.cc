// Which checkpoint tensors become which canonical tensors.
#include "import/hf_checkpoint.h"

#include <catch2/catch.hpp>

#include "tests/unit/import/checkpoint_writer.h"

namespace dsopt {
namespace {

using test::Bf16Tensor;
using test::F32Tensor;
using test::FileTensor;
using test::SafetensorsBytes;
using test::TempFolder;
using test::WriteText;

ConfigSpec TinyLlama() {
  ConfigSpec config;
  config.architecture = "llama";
  config.hidden = 8;
  config.vocab = 10;
  config.context = 64;
  LayerKind kind;
  kind.attention.q_heads = 2;
  kind.attention.kv_heads = 1;
  kind.attention.head_dim = kind.attention.rope.dim = 4;
  kind.mlp.inner = 6;
  config.kinds = {kind};
  config.layers = {0};
  return config;
}

std::vector<FileTensor> TinyLlamaTensors() {
  const std::string layer = "model.layers.0.";
  return {F32Tensor("model.embed_tokens.weight", {10, 8}, 0),
          F32Tensor(layer + "input_layernorm.weight", {8}, 1),
          F32Tensor(layer + "self_attn.q_proj.weight", {8, 8}, 2),
          F32Tensor(layer + "self_attn.k_proj.weight", {4, 8}, 3),
          F32Tensor(layer + "self_attn.v_proj.weight", {4, 8}, 4),
          F32Tensor(layer + "self_attn.o_proj.weight", {8, 8}, 5),
          F32Tensor(layer + "self_attn.rotary_emb.inv_freq", {2}, 5),
          F32Tensor(layer + "post_attention_layernorm.weight", {8}, 6),
          F32Tensor(layer + "mlp.gate_proj.weight", {6, 8}, 7),
          F32Tensor(layer + "mlp.up_proj.weight", {6, 8}, 8),
          F32Tensor(layer + "mlp.down_proj.weight", {8, 6}, 9),
          F32Tensor("model.norm.weight", {8}, 10),
          F32Tensor("lm_head.weight", {10, 8}, 11)};
}

// Keeps the checkpoint that the map points into.
struct Mapped {
  TempFolder folder;
  std::unique_ptr<SafetensorsCheckpoint> checkpoint;
  Result<CheckpointMap> map = Status(DSOPT_E_INTERNAL, "not mapped");
};

std::unique_ptr<Mapped> Map(const std::vector<FileTensor>& tensors, ConfigSpec* config,
                            dsopt_dtype dtype = DSOPT_DTYPE_DEFAULT,
                            const std::map<std::string, std::string>& metadata = {}) {
  auto mapped = std::make_unique<Mapped>();
  WriteText(mapped->folder.path() / "model.safetensors", SafetensorsBytes(tensors, metadata));
  Result<SafetensorsCheckpoint> checkpoint = SafetensorsCheckpoint::Open(mapped->folder.path());
  REQUIRE(checkpoint.ok());
  mapped->checkpoint = std::make_unique<SafetensorsCheckpoint>(*std::move(checkpoint));
  mapped->map = MapHfCheckpoint(*mapped->checkpoint, HfQuantization(), dtype, config);
  return mapped;
}

void Erase(const std::string& name, std::vector<FileTensor>* tensors) {
  std::erase_if(*tensors, [&](const FileTensor& tensor) { return tensor.name == name; });
}

TEST_CASE("a checkpoint is mapped in the order in which the model uses it", "[import]") {
  ConfigSpec config = TinyLlama();
  std::vector<FileTensor> tensors = TinyLlamaTensors();
  tensors.push_back(F32Tensor("extra", {1}, 0));
  const auto mapped = Map(tensors, &config);
  REQUIRE(mapped->map.ok());
  std::vector<std::string> names;
  for (const TensorSource& source : mapped->map->tensors) names.push_back(source.spec.name);
  CHECK(names == std::vector<std::string>{"embed", "layers.0.attn.norm", "layers.0.attn.q", "layers.0.attn.k",
                                          "layers.0.attn.v", "layers.0.attn.o", "layers.0.mlp.norm",
                                          "layers.0.mlp.gate", "layers.0.mlp.up", "layers.0.mlp.down",
                                          "final_norm", "head"});
  CHECK(mapped->map->ignored == std::vector<std::string>{"extra"});
}

TEST_CASE("a missing tensor and a wrong shape are named", "[import]") {
  ConfigSpec config = TinyLlama();
  std::vector<FileTensor> tensors = TinyLlamaTensors();
  Erase("model.norm.weight", &tensors);
  auto mapped = Map(tensors, &config);
  CHECK(mapped->map.status().code() == DSOPT_E_CORRUPT);
  CHECK_THAT(std::string(mapped->map.status().message()),
             Catch::Contains("model.norm.weight") && Catch::Contains("missing") && Catch::Contains("[8]"));
  tensors.push_back(F32Tensor("model.norm.weight", {9}, 0));
  mapped = Map(tensors, &config);
  CHECK(mapped->map.status().code() == DSOPT_E_CORRUPT);
  CHECK_THAT(std::string(mapped->map.status().message()), Catch::Contains("[9]") && Catch::Contains("[8]"));
  Erase("model.norm.weight", &tensors);
  tensors.push_back({"model.norm.weight", "I64", {8}, std::vector<uint8_t>(64)});
  mapped = Map(tensors, &config);
  CHECK(mapped->map.status().code() == DSOPT_E_UNSUPPORTED);
  CHECK_THAT(std::string(mapped->map.status().message()), Catch::Contains("I64"));
}

TEST_CASE("tied embeddings are found under either name and by the alias of the file", "[import]") {
  ConfigSpec config = TinyLlama();
  config.tie_embeddings = true;
  std::vector<FileTensor> tensors = TinyLlamaTensors();
  Erase("lm_head.weight", &tensors);
  auto mapped = Map(tensors, &config);
  REQUIRE(mapped->map.ok());
  CHECK(mapped->map->tensors.back().spec.name == "final_norm");

  tensors = TinyLlamaTensors();
  Erase("model.embed_tokens.weight", &tensors);
  mapped = Map(tensors, &config);
  REQUIRE(mapped->map.ok());
  CHECK(mapped->map->tensors[0].pieces[0]->name() == "lm_head.weight");

  config.tie_embeddings = false;
  mapped = Map(tensors, &config);
  CHECK(mapped->map.status().code() == DSOPT_E_CORRUPT);
  mapped = Map(tensors, &config, DSOPT_DTYPE_DEFAULT, {{"model.embed_tokens.weight", "lm_head.weight"}});
  REQUIRE(mapped->map.ok());
  CHECK(config.tie_embeddings);
  CHECK(mapped->map->tensors[0].pieces[0]->name() == "lm_head.weight");
  CHECK(mapped->map->tensors.back().spec.name == "final_norm");
}

TEST_CASE("a requested type changes matrices and leaves vectors", "[import]") {
  ConfigSpec config = TinyLlama();
  const auto mapped = Map(TinyLlamaTensors(), &config, DSOPT_BF16);
  REQUIRE(mapped->map.ok());
  for (const TensorSource& source : mapped->map->tensors) {
    CHECK(source.spec.dtype == (source.spec.shape.size() == 1 ? DSOPT_F32 : DSOPT_BF16));
  }
}

TEST_CASE("experts are stacked in their order, in the widest of their types", "[import]") {
  ConfigSpec config = TinyLlama();
  config.architecture = "mixtral";
  config.kinds[0].mlp.inner = 0;
  config.kinds[0].mlp.moe.experts = 12;
  config.kinds[0].mlp.moe.top_k = 2;
  config.kinds[0].mlp.moe.inner = 6;
  std::vector<FileTensor> tensors = TinyLlamaTensors();
  std::erase_if(tensors,
                [](const FileTensor& tensor) { return tensor.name.find(".mlp.") != std::string::npos; });
  const std::string moe = "model.layers.0.block_sparse_moe.";
  tensors.push_back(F32Tensor(moe + "gate.weight", {12, 8}, 0));
  for (int e = 0; e < 12; ++e) {
    const std::string expert = moe + "experts." + std::to_string(e);
    tensors.push_back(e == 3 ? F32Tensor(expert + ".w1.weight", {6, 8}, 0)
                             : Bf16Tensor(expert + ".w1.weight", {6, 8}, 0));
    tensors.push_back(Bf16Tensor(expert + ".w3.weight", {6, 8}, 0));
    tensors.push_back(Bf16Tensor(expert + ".w2.weight", {8, 6}, 0));
  }
  const auto mapped = Map(tensors, &config);
  REQUIRE(mapped->map.ok());
  const TensorSource* gate = nullptr;
  for (const TensorSource& source : mapped->map->tensors) {
    if (source.spec.name == "layers.0.moe.gate") gate = &source;
    if (source.spec.name == "layers.0.moe.up") CHECK(source.spec.dtype == DSOPT_BF16);
  }
  REQUIRE(gate != nullptr);
  CHECK(gate->spec.shape == std::vector<uint64_t>{12, 6, 8});
  CHECK(gate->spec.dtype == DSOPT_F32);
  REQUIRE(gate->pieces.size() == 12);
  for (size_t e = 0; e < 12; ++e)
    CHECK(gate->pieces[e]->name() == moe + "experts." + std::to_string(e) + ".w1.weight");
}

}  // namespace
}  // namespace dsopt
