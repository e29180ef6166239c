// Whole conversions: bytes in the .dsopt file equal the checkpoint's.
#include "import/convert.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <iostream>

#include "base/float_types.h"
#include "base/memory.h"
#include "format/reader.h"
#include "import/safetensors.h"
#include "tests/unit/import/checkpoint_writer.h"

namespace dsopt {
namespace {

using test::Bf16Tensor;
using test::F32Tensor;
using test::ReadBytes;
using test::SafetensorsBytes;
using test::TempFolder;
using test::WriteText;

const char kConfig[] = R"({"architectures":["LlamaForCausalLM"],"hidden_size":8,"intermediate_size":6,
  "num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"vocab_size":10,"head_dim":4,
  "max_position_embeddings":64,"rms_norm_eps":1e-5,"tie_word_embeddings":true})";

void WriteCheckpoint(const std::filesystem::path& folder) {
  const std::string layer = "model.layers.0.";
  WriteText(folder / "config.json", kConfig);
  WriteText(folder / "generation_config.json", R"({"do_sample":true,"temperature":0.5,"eos_token_id":2})");
  WriteText(folder / "README.md", "---\ntags: [a]\nlicense: mit\n---\nlicense: no\n");
  WriteText(folder / "model.safetensors",
            SafetensorsBytes({Bf16Tensor("model.embed_tokens.weight", {10, 8}, 0),
                              F32Tensor(layer + "input_layernorm.weight", {8}, 1),
                              Bf16Tensor(layer + "self_attn.q_proj.weight", {8, 8}, 2),
                              Bf16Tensor(layer + "self_attn.k_proj.weight", {4, 8}, 3),
                              Bf16Tensor(layer + "self_attn.v_proj.weight", {4, 8}, 4),
                              Bf16Tensor(layer + "self_attn.o_proj.weight", {8, 8}, 5),
                              F32Tensor(layer + "post_attention_layernorm.weight", {8}, 6),
                              Bf16Tensor(layer + "mlp.gate_proj.weight", {6, 8}, 7),
                              Bf16Tensor(layer + "mlp.up_proj.weight", {6, 8}, 8),
                              Bf16Tensor(layer + "mlp.down_proj.weight", {8, 6}, 9),
                              F32Tensor("model.norm.weight", {8}, 10)}));
}

struct Opened {
  std::unique_ptr<Source> source;
  ModelSpec spec;
};

Opened OpenModel(const std::filesystem::path& path) {
  Opened opened;
  Result<std::unique_ptr<Source>> source = OpenFileSource(path.string(), false);
  REQUIRE(source.ok());
  opened.source = *std::move(source);
  Result<ModelSpec> spec = ReadModelSpec(*opened.source, DefaultAllocator());
  INFO(std::string(spec.status().message()));
  REQUIRE(spec.ok());
  opened.spec = *std::move(spec);
  return opened;
}

std::vector<uint8_t> TensorBytes(Opened& opened, const std::string& name) {
  Result<ChunkReader> reader = ChunkReader::Create(opened.spec, *opened.source, DefaultAllocator(), true);
  REQUIRE(reader.ok());
  std::vector<uint8_t> bytes;
  for (const TensorSpec& tensor : opened.spec.tensors) {
    if (tensor.name != name) continue;
    for (uint32_t i = 0; i < tensor.chunk_count; ++i) {
      Result<std::span<const uint8_t>> chunk = reader->Read(tensor.first_chunk + i);
      REQUIRE(chunk.ok());
      bytes.insert(bytes.end(), chunk->begin(), chunk->end());
    }
  }
  return bytes;
}

TEST_CASE("a converted folder holds the checkpoint's tensors, defaults and licence", "[import]") {
  TempFolder folder;
  WriteCheckpoint(folder.path());
  const std::filesystem::path output = folder.path() / "out.dsopt";
  uint64_t last_done = 0, last_total = 0;
  ConvertOptions options;
  options.progress = [&](uint64_t done, uint64_t total) {
    CHECK(done > last_done);
    last_done = done;
    last_total = total;
  };
  Result<ConvertSummary> summary = ConvertHfFolder(folder.path(), output, options);
  INFO(std::string(summary.status().message()));
  REQUIRE(summary.ok());
  CHECK(summary->architecture == "llama");
  CHECK_FALSE(summary->has_tokenizer);
  CHECK(summary->parameters == 80 + 64 + 32 + 32 + 64 + 3 * 48 + 3 * 8);
  CHECK(summary->raw_bytes == last_total);
  CHECK(last_done == last_total);
  CHECK(summary->file_bytes == std::filesystem::file_size(output));
  Opened opened = OpenModel(output);
  CHECK(opened.spec.metadata.at("license") == "mit");
  CHECK(opened.spec.metadata.at("source") == folder.path().filename().string());
  CHECK(opened.spec.metadata.at("generator") == "dsopt 1.0.0");
  CHECK(opened.spec.sampling.temperature == 0.5f);
  CHECK(opened.spec.config.tie_embeddings);
  CHECK(TensorBytes(opened, "layers.0.attn.k") == Bf16Tensor("", {4, 8}, 3).bytes);
  CHECK(TensorBytes(opened, "final_norm") == F32Tensor("", {8}, 10).bytes);
}

TEST_CASE("a conversion to another type converts matrices element by element", "[import]") {
  TempFolder folder;
  WriteCheckpoint(folder.path());
  const std::filesystem::path output = folder.path() / "out.dsopt";
  ConvertOptions options;
  options.dtype = DSOPT_F32;
  options.writer.compress = false;
  options.license = "mine";
  REQUIRE(ConvertHfFolder(folder.path(), output, options).ok());
  Opened opened = OpenModel(output);
  CHECK(opened.spec.metadata.at("license") == "mine");
  CHECK(TensorBytes(opened, "layers.0.attn.k") == F32Tensor("", {4, 8}, 3).bytes);
}

TEST_CASE("a failed or cancelled conversion leaves the output as it was", "[import]") {
  TempFolder folder;
  WriteCheckpoint(folder.path());
  const std::filesystem::path output = folder.path() / "out.dsopt";
  WriteText(output, "before");
  const auto files = [&] {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) ++count;
    return count;
  };
  const size_t count = files();
  std::atomic<bool> cancel{true};
  ConvertOptions options;
  options.cancel = &cancel;
  CHECK(ConvertHfFolder(folder.path(), output, options).status().code() == DSOPT_E_CANCELLED);
  CHECK(ReadBytes(output) == "before");
  CHECK(files() == count);
  // Data that ends too early: the last tensor's range is past the end of the file.
  const std::string good = ReadBytes(folder.path() / "model.safetensors");
  WriteText(folder.path() / "model.safetensors", good.substr(0, good.size() - 8));
  options.cancel = nullptr;
  CHECK(ConvertHfFolder(folder.path(), output, options).status().code() == DSOPT_E_CORRUPT);
  CHECK(ReadBytes(output) == "before");
  CHECK(files() == count);
  std::filesystem::remove(folder.path() / "config.json");
  CHECK(ConvertHfFolder(folder.path(), output, options).status().code() == DSOPT_E_NOT_FOUND);
}

TEST_CASE("converted checkpoints of every family hold exactly the checkpoint's bytes", "[import]") {
  struct Case {
    const char* folder;
    const char* architecture;
    const char* tensor;  // canonical
    const char* hf;
  };
  const Case cases[] = {
      {"llama-12m", "llama", "layers.2.attn.q", "model.layers.2.self_attn.q_proj.weight"},
      {"mistral-10m", "mistral", "embed", "model.embed_tokens.weight"},
      {"mixtral-13m", "mixtral", "layers.1.moe.router", "model.layers.1.block_sparse_moe.gate.weight"},
      {"deepseek-v2-14m", "deepseek_v2", "layers.4.attn.kv_b", "model.layers.4.self_attn.kv_b_proj.weight"},
      {"tinystories-656k", "llama", "embed", "lm_head.weight"},
  };
  for (const Case& c : cases) {
    const std::filesystem::path folder =
        std::filesystem::path(DSOPT_SOURCE_DIR "/../shared/data/checkpoints") / c.folder;
    if (!std::filesystem::exists(folder)) {
      std::cout << "skipped: ../shared/data/checkpoints/" << c.folder << " is absent\n";
      continue;
    }
    CAPTURE(c.folder);
    TempFolder temp;
    const std::filesystem::path output = temp.path() / "out.dsopt";
    Result<ConvertSummary> summary = ConvertHfFolder(folder, output, ConvertOptions());
    INFO(std::string(summary.status().message()));
    REQUIRE(summary.ok());
    CHECK(summary->architecture == c.architecture);
    CHECK(summary->has_tokenizer);
    CHECK(summary->ignored.empty());
    Opened opened = OpenModel(output);
    Result<SafetensorsCheckpoint> checkpoint = SafetensorsCheckpoint::Open(folder);
    REQUIRE(checkpoint.ok());
    const SafetensorsEntry* entry = checkpoint->Find(c.hf);
    REQUIRE(entry != nullptr);
    std::vector<uint8_t> expected(entry->bytes);
    REQUIRE(checkpoint->Read(*entry, 0, expected).ok());
    CHECK(TensorBytes(opened, c.tensor) == expected);
  }
}

}  // namespace
}  // namespace dsopt
