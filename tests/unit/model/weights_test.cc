// Matching the weights that a model needs with the tensors that a file has.
#include "model/weights.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "model/arch/architecture.h"
#include "model/decoder.h"
#include "tests/tiny_model.h"

namespace dsopt {
namespace {

using testing::TinyFamily;
using testing::TinySpec;

ModelSpec SortedSpec(TinyFamily family) {
  ModelSpec spec = TinySpec({.family = family});
  std::sort(spec.tensors.begin(), spec.tensors.end(),
            [](const TensorSpec& a, const TensorSpec& b) { return a.name < b.name; });
  return spec;
}

std::vector<WeightDeclaration> Declarations(const ModelSpec& spec) {
  Result<const Architecture*> architecture = FindArchitecture(spec.config.architecture);
  REQUIRE(architecture.ok());
  return RecordDecoder(**architecture, spec.config, MakePageLayout(spec.config, DSOPT_BF16), nullptr)
      .declarations;
}

TensorSpec& Tensor(ModelSpec* spec, const std::string& name) {
  for (TensorSpec& tensor : spec->tensors) {
    if (tensor.name == name) return tensor;
  }
  FAIL("no tensor " << name);
  return spec->tensors[0];
}

const dsopt_weight_desc& Desc(const LoadPlan& plan, const std::string& name) {
  for (const dsopt_weight_desc& desc : plan.weights) {
    if (name == desc.name) return desc;
  }
  FAIL("no weight " << name);
  return plan.weights[0];
}

TEST_CASE("every tensor of the four families is used, and every weight has its shape", "[model]") {
  for (TinyFamily family : testing::kTinyFamilies) {
    const ModelSpec spec = SortedSpec(family);
    CAPTURE(spec.config.architecture);
    const std::vector<WeightDeclaration> declarations = Declarations(spec);
    Result<LoadPlan> plan = MakeLoadPlan(declarations, spec, Logger());
    REQUIRE(plan.ok());
    CHECK(plan->tensors.size() == spec.tensors.size());
    CHECK(plan->fills.empty());
    uint64_t elements = 0;
    for (const dsopt_weight_desc& desc : plan->weights) elements += desc.batch * desc.rows * desc.cols;
    uint64_t expected = 0;
    for (const TensorSpec& tensor : spec.tensors) expected += tensor.raw_bytes / ElementBytes(tensor.dtype);
    CHECK(elements == expected);
    CHECK(CountParameters(declarations) == expected);
  }
}

TEST_CASE("fused weights have the kinds and shapes of the backend interface", "[model]") {
  const ModelSpec llama = SortedSpec(TinyFamily::kLlama), deepseek = SortedSpec(TinyFamily::kDeepseekV2);
  const std::vector<WeightDeclaration> llama_weights = Declarations(llama),
                                       deepseek_weights = Declarations(deepseek);
  Result<LoadPlan> plan = MakeLoadPlan(llama_weights, llama, Logger());
  REQUIRE(plan.ok());
  const dsopt_weight_desc& qkv = Desc(*plan, "layers.1.attn.qkv");
  CHECK(qkv.kind == DSOPT_WEIGHT_MATRIX);
  CHECK(qkv.rows == 64 + 32 + 32);
  CHECK(qkv.cols == 64);
  CHECK(Desc(*plan, "layers.0.mlp.gate_up").kind == DSOPT_WEIGHT_GATE_UP);
  CHECK(Desc(*plan, "embed").tied == 0);
  plan = MakeLoadPlan(deepseek_weights, deepseek, Logger());
  REQUIRE(plan.ok());
  const dsopt_weight_desc& k_up = Desc(*plan, "layers.0.attn.k_up");
  CHECK(k_up.kind == DSOPT_WEIGHT_TRANSPOSED);
  CHECK(k_up.batch == 4);
  CHECK(k_up.rows == 16);
  CHECK(k_up.cols == 32);
  CHECK(Desc(*plan, "layers.0.attn.down").rows == 32 + 32 + 8);
  const dsopt_weight_desc& experts = Desc(*plan, "layers.1.moe.gate_up");
  CHECK(experts.batch == 4);
  CHECK(experts.rows == 2 * 32);
  CHECK(Desc(*plan, "layers.1.moe.down").kind == DSOPT_WEIGHT_EXPERTS);
  CHECK(Desc(*plan, "layers.1.moe.router").kind == DSOPT_WEIGHT_ROUTER);
}

TEST_CASE("a missing tensor, a wrong shape and a wrong type are named", "[model]") {
  ModelSpec spec = SortedSpec(TinyFamily::kLlama);
  const std::vector<WeightDeclaration> declarations = Declarations(spec);
  Tensor(&spec, "layers.1.attn.k").shape = {64, 32};
  Status status = MakeLoadPlan(declarations, spec, Logger()).status();
  CHECK(status.code() == DSOPT_E_CORRUPT);
  CHECK_THAT(std::string(status.message()),
             Catch::Contains("layers.1.attn.k") && Catch::Contains("[64, 32]") && Catch::Contains("[32, 64]"));
  spec = SortedSpec(TinyFamily::kLlama);
  Tensor(&spec, "layers.1.attn.k").dtype = DSOPT_I8;
  status = MakeLoadPlan(declarations, spec, Logger()).status();
  CHECK(status.code() == DSOPT_E_UNSUPPORTED);
  CHECK_THAT(std::string(status.message()), Catch::Contains("i8"));
  spec = SortedSpec(TinyFamily::kLlama);
  std::erase_if(spec.tensors, [](const TensorSpec& tensor) { return tensor.name == "head"; });
  status = MakeLoadPlan(declarations, spec, Logger()).status();
  CHECK(status.code() == DSOPT_E_CORRUPT);
  CHECK_THAT(std::string(status.message()),
             Catch::Contains("'head' is missing") && Catch::Contains("[272, 64]"));
}

void CountWarnings(void* user, dsopt_log_level, const char*, const char* message) {
  if (std::string(message).find("ignored") != std::string::npos) ++*static_cast<int*>(user);
}

TEST_CASE("tensors that nothing needs are logged and ignored", "[model]") {
  ModelSpec spec = SortedSpec(TinyFamily::kLlama);
  const std::vector<WeightDeclaration> declarations = Declarations(spec);
  TensorSpec extra = spec.tensors.back();
  extra.name = "zzz";
  spec.tensors.push_back(extra);
  int warnings = 0;
  REQUIRE(MakeLoadPlan(declarations, spec, Logger(CountWarnings, &warnings, DSOPT_LOG_WARN)).ok());
  CHECK(warnings == 1);
}

TEST_CASE("parts of different types give a weight of the wider type", "[model]") {
  ModelSpec spec = SortedSpec(TinyFamily::kLlama);
  const std::vector<WeightDeclaration> declarations = Declarations(spec);
  Tensor(&spec, "layers.0.attn.k").dtype = DSOPT_F16;
  Tensor(&spec, "layers.1.attn.v").dtype = DSOPT_F32;
  Result<LoadPlan> plan = MakeLoadPlan(declarations, spec, Logger());
  REQUIRE(plan.ok());
  CHECK(Desc(*plan, "layers.0.attn.qkv").dtype == DSOPT_F32);
  CHECK(Desc(*plan, "layers.1.attn.qkv").dtype == DSOPT_F32);
  CHECK(Desc(*plan, "layers.1.attn.o").dtype == DSOPT_BF16);
}

TEST_CASE("synthetic tensors become fills, and weights cut from one tensor differ", "[model]") {
  ModelSpec spec = SortedSpec(TinyFamily::kDeepseekV2);
  const std::vector<WeightDeclaration> declarations = Declarations(spec);
  for (TensorSpec& tensor : spec.tensors) {
    tensor.synthetic = true;
    tensor.synthetic_seed = 7;
    tensor.synthetic_stddev = 0.02f;
  }
  Result<LoadPlan> plan = MakeLoadPlan(declarations, spec, Logger());
  REQUIRE(plan.ok());
  CHECK(plan->tensors.empty());
  CHECK(plan->fills.size() == plan->weights.size());
  uint64_t k_seed = 0, v_seed = 0;
  for (const WeightFill& fill : plan->fills) {
    if (declarations[fill.weight].name == "layers.0.attn.k_up") k_seed = fill.seed;
    if (declarations[fill.weight].name == "layers.0.attn.v_up") v_seed = fill.seed;
  }
  CHECK(k_seed != v_seed);
  Tensor(&spec, "layers.0.attn.kv_a").synthetic = false;
  CHECK(MakeLoadPlan(declarations, spec, Logger()).status().code() == DSOPT_E_UNSUPPORTED);
}

}  // namespace
}  // namespace dsopt
