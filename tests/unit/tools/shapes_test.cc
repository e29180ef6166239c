#include "tools/shapes.h"

#include <catch2/catch.hpp>

#include "format/reader.h"

namespace dsopt::tools {
namespace {

uint64_t Parameters(const char* shape) {
  const Result<ModelSpec> spec = MakeShape(shape, 0, DSOPT_BF16);
  REQUIRE(spec.ok());
  return WeightBytes(*spec) / 2;
}

TEST_CASE("shapes have the published numbers of parameters", "[tools]") {
  REQUIRE(Parameters("tinyllama-1.1b") == 1100048384u);
  REQUIRE(Parameters("llama-3.2-1b") == 1235814400u);
  REQUIRE(Parameters("llama-3-8b") == 8030261248u);
  REQUIRE(Parameters("llama-3-70b") == 70553706496u);
  REQUIRE(Parameters("mistral-7b") == 7241732096u);
  REQUIRE(Parameters("mixtral-8x7b") == 46702792704u);
  REQUIRE(Parameters("deepseek-v2-lite") == 15706484224u);
  REQUIRE(Parameters("deepseek-v2") == 235741434880u);
}

TEST_CASE("a step reads the head and one embedding row, or the tied table once", "[tools]") {
  const Result<ModelSpec> untied = MakeShape("tinyllama-1.1b", 0, DSOPT_BF16);
  REQUIRE(untied.ok());
  REQUIRE(StepWeightBytes(*untied, 1) == Approx(2.0 * (1100048384.0 - 32000 * 2048 + 2048)).epsilon(1e-12));
  const Result<ModelSpec> tied = MakeShape("llama-3.2-1b", 0, DSOPT_BF16);
  REQUIRE(tied.ok());
  REQUIRE(StepWeightBytes(*tied, 1) == Approx(2.0 * 1235814400.0).epsilon(1e-12));
}

TEST_CASE("a step of a mixture reads the experts it is expected to touch", "[tools]") {
  const Result<ModelSpec> spec = MakeShape("mixtral-8x7b", 0, DSOPT_BF16);
  REQUIRE(spec.ok());
  const double experts = 2.0 * 32 * 8 * 3 * 4096.0 * 14336;
  const double rest = StepWeightBytes(*spec, 1) - experts * 2 / 8;
  REQUIRE(rest == Approx(2.0 * (46702792704.0 - 32000 * 4096 + 4096) - experts).epsilon(1e-9));
  // two rows: 1 - (6/8)^2 of the experts
  const double two = StepWeightBytes(*spec, 2) - 2.0 * 4096;  // another embedding row
  REQUIRE(two - rest == Approx(experts * (1 - 0.75 * 0.75)).epsilon(1e-9));
}

TEST_CASE("cache bytes of a step follow the window and the latent", "[tools]") {
  const auto bytes = [](const char* name, uint32_t context) {
    const Result<ModelSpec> spec = MakeShape(name, 0, DSOPT_BF16);
    REQUIRE(spec.ok());
    return StepCacheBytes(*spec, context, DSOPT_BF16);
  };
  REQUIRE(bytes("tinyllama-1.1b", 100) == 22.0 * 2 * 4 * 64 * 100 * 2);
  REQUIRE(bytes("mistral-7b", 10000) == 32.0 * 2 * 8 * 128 * 4096 * 2);
  REQUIRE(bytes("deepseek-v2", 100) == 60.0 * 576 * 100 * 2);
}

TEST_CASE("the file of a shape is metadata only and reads back", "[tools]") {
  for (const std::string& name : ShapeNames()) {
    CAPTURE(name);
    const Result<ModelSpec> spec = MakeShape(name, 2, DSOPT_F16);
    REQUIRE(spec.ok());
    const Result<std::vector<uint8_t>> file = ShapeFile(*spec);
    REQUIRE(file.ok());
    REQUIRE(file->size() < 65536);
    const std::unique_ptr<Source> source = MakeMemorySource(*file);
    const Result<ModelSpec> read = ReadModelSpec(*source, DefaultAllocator());
    REQUIRE(read.ok());
    REQUIRE(read->config.layers.size() == 2);
    REQUIRE(read->config.kinds == spec->config.kinds);
    REQUIRE(read->chunks.empty());
    REQUIRE(read->tensors.size() == spec->tensors.size());
    for (const TensorSpec& tensor : read->tensors) REQUIRE((tensor.synthetic && tensor.dtype == DSOPT_F16));
  }
}

TEST_CASE("unknown shapes and too many layers are refused", "[tools]") {
  REQUIRE(MakeShape("gpt-9", 0, DSOPT_BF16).status().code() == DSOPT_E_NOT_FOUND);
  REQUIRE(MakeShape("tinyllama-1.1b", 23, DSOPT_BF16).status().code() == DSOPT_E_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace dsopt::tools
