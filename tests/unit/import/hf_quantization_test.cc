// quantization_config: what is understood, and what is refused by key and value.
#include "import/hf_quantization.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

namespace dsopt {
namespace {

using nlohmann::json;

HfQuantization Parse(const json& quantization) {
  const Result<HfQuantization> result = ParseHfQuantization(json{{"quantization_config", quantization}}.dump());
  INFO(std::string(result.status().message()));
  REQUIRE(result.ok());
  return *result;
}

void CheckRefused(const json& quantization, const std::string& key, const std::string& value) {
  const Result<HfQuantization> result = ParseHfQuantization(json{{"quantization_config", quantization}}.dump());
  CAPTURE(key, value);
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().code() == DSOPT_E_UNSUPPORTED);
  CHECK_THAT(std::string(result.status().message()), Catch::Contains(key) && Catch::Contains(value));
}

json Gptq() { return {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 128}}; }

json CompressedTensors() {
  return {{"quant_method", "compressed-tensors"},
          {"format", "float-quantized"},
          {"config_groups", {{"group_0", {{"weights", {{"num_bits", 8}, {"strategy", "channel"}}}}}}}};
}

TEST_CASE("a checkpoint without a quantization_config is not quantised", "[import]") {
  CHECK(ParseHfQuantization("{}")->method == HfMethod::kNone);
  CHECK(ParseHfQuantization(R"({"quantization_config":null})")->method == HfMethod::kNone);
  CHECK(ParseHfQuantization("[]").status().code() == DSOPT_E_CORRUPT);
}

TEST_CASE("GPTQ's zeros are one less than meant, but not in version 2", "[import]") {
  json config = Gptq();
  CHECK(Parse(config).method == HfMethod::kGptq);
  CHECK(Parse(config).zero_minus_one);
  CHECK(Parse(config).group_size == 128);
  config["checkpoint_format"] = "gptq_v2";
  CHECK_FALSE(Parse(config).zero_minus_one);
  config["group_size"] = -1;
  CHECK(Parse(config).group_size == 0);
  config["group_size"] = 0;
  CheckRefused(config, "group_size", "0");
  config = Gptq();
  config["bits"] = 3;
  CheckRefused(config, "bits", "3");
  config["bits"] = 8;
  config["checkpoint_format"] = "marlin";
  CheckRefused(config, "checkpoint_format", "marlin");
}

TEST_CASE("AWQ is understood in its gemm layout", "[import]") {
  json config = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 64}, {"version", "gemm"}};
  CHECK(Parse(config).method == HfMethod::kAwq);
  CHECK(Parse(config).group_size == 64);
  CHECK_FALSE(Parse(config).zero_minus_one);
  config["zero_point"] = false;
  CheckRefused(config, "zero_point", "false");
  config["zero_point"] = true;
  config["version"] = "gemv";
  CheckRefused(config, "version", "gemv");
}

TEST_CASE("fp8 has blocks of 128 x 128 or none", "[import]") {
  json config = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  CHECK(Parse(config).method == HfMethod::kScaled);
  CHECK(Parse(config).block_rows == 128);
  config["weight_block_size"] = {64, 128};
  CheckRefused(config, "weight_block_size", "64");
  config.erase("weight_block_size");
  CHECK(Parse(config).block_rows == 0);
  config["fmt"] = "e5m2";
  CheckRefused(config, "fmt", "e5m2");
}

TEST_CASE("compressed-tensors is understood with weights of 8 bits", "[import]") {
  CHECK(Parse(CompressedTensors()).method == HfMethod::kScaled);
  json config = CompressedTensors();
  config["format"] = "nvfp4-pack-quantized";
  CheckRefused(config, "format", "nvfp4");
  config = CompressedTensors();
  json& weights = config["config_groups"]["group_0"]["weights"];
  weights["num_bits"] = 4;
  CheckRefused(config, "num_bits", "4");
  weights["num_bits"] = 8;
  weights["strategy"] = "group";
  CheckRefused(config, "strategy", "group");
  weights["strategy"] = "block";
  CheckRefused(config, "block_structure", "absent");
  weights["block_structure"] = {128, 128};
  CHECK(Parse(config).block_cols == 128);
  weights["symmetric"] = false;
  CheckRefused(config, "symmetric", "false");
  config["config_groups"] = {{"group_0", 5}};
  CheckRefused(config, "config_groups", "group_0");
  CheckRefused({{"quant_method", "bitsandbytes"}}, "quant_method", "bitsandbytes");
}

}  // namespace
}  // namespace dsopt
