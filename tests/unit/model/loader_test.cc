// Loading: every element arrives once, at its place, in any number of steps; failures leave nothing behind.
#include "model/loader.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <map>

#include "base/float_types.h"
#include "format/reader.h"
#include "format/writer.h"
#include "tests/tiny_model.h"
#include "tests/unit/model/fake_device.h"

namespace dsopt {
namespace {

using test::Fake;
using test::FakeWeight;
using test::MakeFakeDevice;
using testing::TinyFamily;
using testing::TinyModelBytes;
using testing::TinySpec;

// The decoded tensors of a file, widened to float.
std::map<std::string, std::vector<float>> FileTensors(const std::vector<uint8_t>& file) {
  std::unique_ptr<Source> source = MakeMemorySource(file);
  Result<ModelSpec> spec = ReadModelSpec(*source, DefaultAllocator());
  REQUIRE(spec.ok());
  Result<ChunkReader> reader = ChunkReader::Create(*spec, *source, DefaultAllocator(), true);
  REQUIRE(reader.ok());
  std::map<std::string, std::vector<float>> tensors;
  for (const TensorSpec& tensor : spec->tensors) {
    std::vector<float>& values = tensors[tensor.name];
    for (uint32_t i = 0; i < tensor.chunk_count; ++i) {
      Result<std::span<const uint8_t>> chunk = reader->Read(tensor.first_chunk + i);
      REQUIRE(chunk.ok());
      const size_t count = chunk->size() / ElementBytes(tensor.dtype);
      values.resize(values.size() + count);
      ConvertElements(tensor.dtype, chunk->data(), DSOPT_F32, values.data() + values.size() - count, count);
    }
  }
  return tensors;
}

std::vector<float> Values(const std::string& name) {
  const FakeWeight& weight = Fake().weights.at(name);
  std::vector<float> values(weight.writes.size());
  ConvertElements(weight.desc.dtype, weight.bytes.data(), DSOPT_F32, values.data(), values.size());
  return values;
}

std::vector<float> Rows(const std::vector<float>& tensor, uint64_t cols, uint64_t first, uint64_t rows) {
  return {tensor.begin() + static_cast<ptrdiff_t>(first * cols),
          tensor.begin() + static_cast<ptrdiff_t>((first + rows) * cols)};
}

std::vector<float> Concatenate(std::initializer_list<std::vector<float>> parts) {
  std::vector<float> all;
  for (const std::vector<float>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

struct Loading {
  std::shared_ptr<Device> device;
  std::shared_ptr<Model> model;
  std::unique_ptr<ModelLoader> loader;
  Status status;
};

Loading Start(const std::vector<uint8_t>& file, const LoadOptions& options = {},
              uint64_t memory_free = 1u << 30) {
  Loading loading;
  loading.device = MakeFakeDevice();
  Fake().memory_free = memory_free;
  std::unique_ptr<Source> source = MakeMemorySource(file);
  Result<std::shared_ptr<Model>> model = Model::FromSource(*source, DefaultAllocator(), Logger());
  INFO(std::string(model.status().message()));
  REQUIRE(model.ok());
  loading.model = *std::move(model);
  Result<std::unique_ptr<ModelLoader>> loader =
      ModelLoader::Create(loading.model, std::move(source), loading.device, DefaultAllocator(), options);
  loading.status = loader.status();
  if (loader.ok()) loading.loader = *std::move(loader);
  return loading;
}

TEST_CASE("every element of every weight is written exactly once, in steps of one chunk", "[model]") {
  for (TinyFamily family : testing::kTinyFamilies) {
    for (bool compress : {true, false}) {
      const std::vector<uint8_t> file = TinyModelBytes({.family = family, .compress = compress});
      Loading loading = Start(file);
      CAPTURE(loading.model->config().architecture, compress);
      REQUIRE(loading.status.ok());
      CHECK(loading.model->weight_bytes() == loading.model->raw_weight_bytes());
      bool done = false;
      float progress = 0, last = -1;
      int steps = 0;
      while (!done) {
        REQUIRE_FALSE(loading.model->loaded());
        REQUIRE(loading.loader->Step(0, &done, &progress).ok());
        REQUIRE(progress > last);
        last = progress;
        ++steps;
      }
      CHECK(steps > 10);
      CHECK(progress == 1.0f);
      CHECK(loading.model->loaded());
      CHECK(Fake().finishes == 1);
      for (const auto& [name, weight] : Fake().weights) {
        CAPTURE(name);
        CHECK(
            std::all_of(weight.writes.begin(), weight.writes.end(), [](uint8_t count) { return count == 1; }));
      }
      CHECK(loading.loader->Step(0, &done, &progress).ok());
      CHECK(done);
    }
  }
}

TEST_CASE("rows of fused and split weights are where the backend expects them", "[model]") {
  std::vector<uint8_t> file = TinyModelBytes({.family = TinyFamily::kLlama});
  std::map<std::string, std::vector<float>> tensors = FileTensors(file);
  Loading loading = Start(file);
  bool done = false;
  REQUIRE(loading.loader->Step(UINT64_MAX, &done, nullptr).ok());
  REQUIRE(done);
  const std::string layer = "layers.1.";
  CHECK(Values(layer + "attn.qkv") ==
        Concatenate({tensors[layer + "attn.q"], tensors[layer + "attn.k"], tensors[layer + "attn.v"]}));
  CHECK(Values(layer + "mlp.gate_up") == Concatenate({tensors[layer + "mlp.gate"], tensors[layer + "mlp.up"]}));
  CHECK(Values("head") == tensors["head"]);

  file = TinyModelBytes({.family = TinyFamily::kDeepseekV2});
  tensors = FileTensors(file);
  loading = Start(file);
  REQUIRE(loading.loader->Step(UINT64_MAX, &done, nullptr).ok());
  CHECK(Values(layer + "attn.down") ==
        Concatenate({tensors[layer + "attn.q_a"], tensors[layer + "attn.kv_a"]}));
  std::vector<float> k_up, v_up, gate_up;
  for (uint64_t head = 0; head < 4; ++head) {
    k_up = Concatenate({k_up, Rows(tensors[layer + "attn.kv_b"], 32, head * 32, 16)});
    v_up = Concatenate({v_up, Rows(tensors[layer + "attn.kv_b"], 32, head * 32 + 16, 16)});
  }
  CHECK(Values(layer + "attn.k_up") == k_up);
  CHECK(Values(layer + "attn.v_up") == v_up);
  for (uint64_t expert = 0; expert < 4; ++expert) {
    gate_up = Concatenate({gate_up, Rows(tensors[layer + "moe.gate"], 64, expert * 32, 32),
                           Rows(tensors[layer + "moe.up"], 64, expert * 32, 32)});
  }
  CHECK(Values(layer + "moe.gate_up") == gate_up);
}

// A tiny model whose v matrix is f32 while q and k are bf16, in chunks of an odd number of rows.
std::vector<uint8_t> MixedTypeFile() {
  ModelSpec spec = TinySpec({.family = TinyFamily::kLlama});
  std::vector<uint8_t> data;
  for (TensorSpec& tensor : spec.tensors) {
    if (tensor.name == "layers.0.attn.v") tensor.dtype = DSOPT_F32;
    uint64_t count = 1;
    for (uint64_t extent : tensor.shape) count *= extent;
    tensor.raw_bytes = count * ElementBytes(tensor.dtype);
    for (uint64_t i = 0; i < count; ++i) {
      const float value = 1.0f + static_cast<float>(i % 64) / 64;
      const size_t at = data.size();
      data.resize(at + ElementBytes(tensor.dtype));
      ConvertElements(DSOPT_F32, &value, tensor.dtype, data.data() + at, 1);
    }
  }
  WriterOptions options;
  options.chunk_bytes = 4096;
  Result<Writer> writer = Writer::Create("", std::move(spec), options);
  REQUIRE(writer.ok());
  REQUIRE(writer->Append(data).ok());
  REQUIRE(writer->Finish().ok());
  return writer->TakeBytes();
}

TEST_CASE("parts of different types are converted to the wider one while loading", "[model]") {
  const std::vector<uint8_t> file = MixedTypeFile();
  std::map<std::string, std::vector<float>> tensors = FileTensors(file);
  Loading loading = Start(file);
  REQUIRE(loading.status.ok());
  bool done = false;
  REQUIRE(loading.loader->Step(UINT64_MAX, &done, nullptr).ok());
  CHECK(Fake().weights.at("layers.0.attn.qkv").desc.dtype == DSOPT_F32);
  CHECK(Values("layers.0.attn.qkv") ==
        Concatenate({tensors["layers.0.attn.q"], tensors["layers.0.attn.k"], tensors["layers.0.attn.v"]}));
}

TEST_CASE("a model that does not fit is refused before a weight is allocated", "[model]") {
  const std::vector<uint8_t> file = TinyModelBytes();
  Loading loading = Start(file, {.max_device_bytes = 1000});
  CHECK(loading.status.code() == DSOPT_E_DEVICE_MEMORY);
  CHECK_THAT(std::string(loading.status.message()), Catch::Contains("1000"));
  CHECK(Fake().weights.empty());
  CHECK(loading.model->device() == nullptr);
  loading = Start(file, {}, 2000);
  CHECK(loading.status.code() == DSOPT_E_DEVICE_MEMORY);
  CHECK_THAT(std::string(loading.status.message()), Catch::Contains("2000"));
  CHECK(Fake().weights.empty());
}

TEST_CASE("a cancelled load ends with its status and frees its weights", "[model]") {
  const std::vector<uint8_t> file = TinyModelBytes();
  std::atomic<bool> cancel{false};
  Loading loading = Start(file, {.cancel = &cancel});
  bool done = false;
  REQUIRE(loading.loader->Step(0, &done, nullptr).ok());
  CHECK(Fake().live_weights > 0);
  cancel = true;
  CHECK(loading.loader->Step(UINT64_MAX, &done, nullptr).code() == DSOPT_E_CANCELLED);
  CHECK_FALSE(done);
  CHECK(Fake().live_weights == 0);
  cancel = false;
  CHECK(loading.loader->Step(UINT64_MAX, &done, nullptr).code() == DSOPT_E_CANCELLED);
  CHECK_FALSE(loading.model->loaded());
}

TEST_CASE("workers that decode ahead change nothing but the time", "[model]") {
  for (TinyFamily family : testing::kTinyFamilies) {
    const std::vector<uint8_t> file = TinyModelBytes({.family = family});
    Loading alone = Start(file);
    bool done = false;
    REQUIRE(alone.loader->Step(UINT64_MAX, &done, nullptr).ok());
    REQUIRE(done);
    std::map<std::string, std::vector<uint8_t>> expected;
    for (const auto& [name, weight] : Fake().weights) expected[name] = weight.bytes;
    Loading helped = Start(file, {.verify = true, .workers = 3});
    done = false;
    while (!done) REQUIRE(helped.loader->Step(0, &done, nullptr).ok());
    CHECK(Fake().weights.size() == expected.size());
    for (const auto& [name, weight] : Fake().weights) {
      CAPTURE(name);
      CHECK(weight.bytes == expected[name]);
    }
  }
}

TEST_CASE("a failing device ends the load and frees its weights", "[model]") {
  const std::vector<uint8_t> file = TinyModelBytes();
  Loading loading = Start(file);
  Fake().fail_write_at = 5;
  bool done = false;
  CHECK(loading.loader->Step(UINT64_MAX, &done, nullptr).code() == DSOPT_E_DEVICE_LOST);
  CHECK(Fake().live_weights == 0);
  CHECK_FALSE(loading.model->loaded());
}

TEST_CASE("synthetic tensors are filled, not read", "[model]") {
  ModelSpec spec = TinySpec({.family = TinyFamily::kMixtral});
  for (TensorSpec& tensor : spec.tensors) {
    tensor.synthetic = true;
    tensor.synthetic_seed = 3;
    tensor.synthetic_stddev = 0.02f;
  }
  Result<Writer> writer = Writer::Create("", std::move(spec), WriterOptions());
  REQUIRE(writer.ok());
  REQUIRE(writer->Finish().ok());
  const std::vector<uint8_t> file = writer->TakeBytes();
  Loading loading = Start(file);
  REQUIRE(loading.status.ok());
  bool done = false;
  REQUIRE(loading.loader->Step(UINT64_MAX, &done, nullptr).ok());
  REQUIRE(done);
  for (const auto& [name, weight] : Fake().weights) {
    CAPTURE(name);
    CHECK(weight.filled);
  }
}

TEST_CASE("a program plan refers to the packed weights and owns its tables", "[model]") {
  const std::vector<uint8_t> file = TinyModelBytes({.family = TinyFamily::kMistral});
  Loading loading = Start(file);
  bool done = false;
  REQUIRE(loading.loader->Step(UINT64_MAX, &done, nullptr).ok());
  Result<std::unique_ptr<const ProgramPlan>> plan =
      loading.model->Plan(DSOPT_DTYPE_DEFAULT, DSOPT_PRECISION_REFERENCE);
  REQUIRE(plan.ok());
  dsopt_program_desc desc = {};
  (*plan)->Fill(&desc);
  CHECK(desc.kv_dtype == DSOPT_F32);
  CHECK(desc.precision == DSOPT_PRECISION_REFERENCE);
  CHECK(desc.page_tokens == 64);
  CHECK(desc.page_bytes == 64 * loading.model->kv_bytes_per_token(DSOPT_F32));
  REQUIRE(desc.block_count == 6);
  CHECK(desc.blocks[0].kind == DSOPT_BLOCK_EMBED);
  CHECK(desc.blocks[1].kind == DSOPT_BLOCK_ATTENTION);
  CHECK(desc.blocks[2].kind == DSOPT_BLOCK_MLP);
  CHECK(desc.blocks[5].kind == DSOPT_BLOCK_HEAD);
  CHECK(desc.blocks[5].u.head.weight == desc.blocks[0].u.embed.table);  // tied
  CHECK(desc.blocks[3].u.attention.window == testing::kTinyWindow);
  CHECK(desc.blocks[3].u.attention.cache_offset == desc.page_bytes / 2);
  CHECK(desc.blocks[3].u.attention.qkv != nullptr);
  CHECK(desc.blocks[3].u.attention.qkv_bias == nullptr);
  REQUIRE(desc.rope_count == 1);
  CHECK(desc.ropes[0].inv_freq[0] == 1.0f);
  CHECK(loading.model->Plan(DSOPT_F16, DSOPT_PRECISION_FAST).status().code() == DSOPT_E_UNSUPPORTED);
  Result<std::unique_ptr<const ProgramPlan>> fast =
      loading.model->Plan(DSOPT_DTYPE_DEFAULT, DSOPT_PRECISION_FAST);
  REQUIRE(fast.ok());
  CHECK((*fast)->kv_dtype() == DSOPT_BF16);
  CHECK((*fast)->page_bytes() * 2 == (*plan)->page_bytes());
}

}  // namespace
}  // namespace dsopt
