#include "import/hf_quantization.h"

#include <string>

#include "import/json_file.h"

namespace dsopt {
namespace {

using nlohmann::json;

Status ParseGroupSize(const JsonKeys& keys, const char* key, uint32_t* group_size) {
  const json* value = keys.Find(key);
  if (value != nullptr && value->is_number_integer() && value->get<int64_t>() == -1) return {};
  ASSIGN_OR_RETURN(*group_size, keys.RequiredUint(key));
  return {};
}

Status ParseGptq(const JsonKeys& keys, HfQuantization* out) {
  out->method = HfMethod::kGptq;
  ASSIGN_OR_RETURN(out->bits, keys.RequiredUint("bits"));
  if (out->bits != 4 && out->bits != 8) return keys.Unsupported("bits", "4 or 8");
  RETURN_IF_ERROR(ParseGroupSize(keys, "group_size", &out->group_size));
  ASSIGN_OR_RETURN(const std::string format, keys.String("checkpoint_format", "gptq"));
  if (format != "gptq" && format != "gptq_v2") return keys.Unsupported("checkpoint_format", "gptq or gptq_v2");
  out->zero_minus_one = format == "gptq";
  return {};
}

Status ParseAwq(const JsonKeys& keys, HfQuantization* out) {
  out->method = HfMethod::kAwq;
  ASSIGN_OR_RETURN(out->bits, keys.Uint("w_bit", 4));
  ASSIGN_OR_RETURN(out->bits, keys.Uint("bits", out->bits));
  if (out->bits != 4) return keys.Unsupported("bits", "4");
  RETURN_IF_ERROR(
      ParseGroupSize(keys, keys.has("q_group_size") ? "q_group_size" : "group_size", &out->group_size));
  ASSIGN_OR_RETURN(const std::string version, keys.String("version", "gemm"));
  if (version != "gemm" && version != "GEMM") return keys.Unsupported("version", "gemm");
  ASSIGN_OR_RETURN(const bool zeros, keys.Bool("zero_point", true));
  return zeros ? Status() : keys.Unsupported("zero_point", "true");
}

Status ParseFp8(const JsonKeys& keys, HfQuantization* out) {
  out->method = HfMethod::kScaled;
  ASSIGN_OR_RETURN(const std::string format, keys.String("fmt", "e4m3"));
  if (format != "e4m3") return keys.Unsupported("fmt", "e4m3");
  const json* block = keys.Find("weight_block_size");
  if (block == nullptr) return {};
  if (*block != json({128, 128})) return keys.Unsupported("weight_block_size", "[128, 128]");
  out->block_rows = out->block_cols = 128;
  return {};
}

// One group of layers of compressed-tensors.
Status ParseScheme(const JsonKeys& weights, HfQuantization* out) {
  ASSIGN_OR_RETURN(const uint32_t bits, weights.RequiredUint("num_bits"));
  if (bits != 8) return weights.Unsupported("num_bits", "8");
  ASSIGN_OR_RETURN(const bool symmetric, weights.Bool("symmetric", true));
  if (!symmetric) return weights.Unsupported("symmetric", "true");
  ASSIGN_OR_RETURN(const std::string strategy, weights.String("strategy", "tensor"));
  if (strategy == "tensor" || strategy == "channel") return {};
  if (strategy != "block") return weights.Unsupported("strategy", "tensor, channel or block");
  const json* block = weights.Find("block_structure");
  if (block == nullptr || *block != json({128, 128}))
    return weights.Unsupported("block_structure", "[128, 128]");
  out->block_rows = out->block_cols = 128;
  return {};
}

Status ParseCompressedTensors(const JsonKeys& keys, HfQuantization* out) {
  out->method = HfMethod::kScaled;
  ASSIGN_OR_RETURN(const std::string format, keys.String("format", ""));
  if (format != "float-quantized" && format != "int-quantized" && format != "naive-quantized") {
    return keys.Unsupported("format", "float-quantized, int-quantized or naive-quantized");
  }
  const json* groups = keys.Find("config_groups");
  if (groups == nullptr || !groups->is_object()) return keys.Unsupported("config_groups", "an object");
  for (const auto& [name, group] : groups->items()) {
    const auto weights = group.is_object() ? group.find("weights") : group.end();
    if (!group.is_object() || weights == group.end() || !weights->is_object()) {
      return keys.Unsupported("config_groups", "groups with an object 'weights'");
    }
    RETURN_IF_ERROR(ParseScheme(JsonKeys(*weights, "config.json: config_groups: " + name + ": weights"), out));
  }
  return {};
}

}  // namespace

Result<HfQuantization> ParseHfQuantization(std::string_view config_json) {
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(config_json, "config.json"));
  const JsonKeys root(object, "config.json");
  HfQuantization quantization;
  const json* config = root.Find("quantization_config");
  if (config == nullptr) return quantization;
  if (!config->is_object()) return root.Unsupported("quantization_config", "an object");
  const JsonKeys keys(*config, "config.json: quantization_config");
  ASSIGN_OR_RETURN(const std::string method, keys.String("quant_method", ""));
  if (method == "gptq")
    RETURN_IF_ERROR(ParseGptq(keys, &quantization));
  else if (method == "awq")
    RETURN_IF_ERROR(ParseAwq(keys, &quantization));
  else if (method == "fp8" || method == "fbgemm_fp8")
    RETURN_IF_ERROR(ParseFp8(keys, &quantization));
  else if (method == "compressed-tensors")
    RETURN_IF_ERROR(ParseCompressedTensors(keys, &quantization));
  else
    return keys.Unsupported("quant_method", "gptq, awq, fp8, fbgemm_fp8 or compressed-tensors");
  return quantization;
}

}  // namespace dsopt
