// hf_model.cc - Llamas as GPTQ, AWQ and fp8 tools write them, and any model as a file of floats.
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "base/float_types.h"
#include "format/writer.h"
#include "import/canonical_tensors.h"
#include "tests/quantised/models.h"
#include "tests/unit/import/checkpoint_writer.h"

namespace dsopt::testing {
namespace {

using nlohmann::json;
using test::FileTensor;

ConfigSpec MakeConfig(uint32_t layers, uint32_t hidden) {
  ConfigSpec config;
  config.architecture = "llama";
  config.hidden = hidden;
  config.vocab = kQuantisedVocab;
  config.context = 512;
  config.final_norm_eps = 1e-5f;
  LayerKind kind;
  kind.norm_eps = 1e-5f;
  kind.attention.q_heads = 4;
  kind.attention.kv_heads = 2;
  kind.attention.head_dim = kind.attention.rope.dim = hidden / 4;
  kind.mlp.inner = 2 * hidden;
  config.kinds = {kind};
  config.layers.assign(layers, 0);
  return config;
}

json Quantization(const HfModelOptions& options) {
  const json scheme = {{"num_bits", 8},
                       {"type", options.format == HfFormat::kInt8Rows ? "int" : "float"},
                       {"strategy", "channel"},
                       {"symmetric", true}};
  switch (options.format) {
    case HfFormat::kGptq:
    case HfFormat::kGptqV2:
      return {{"quant_method", "gptq"},
              {"bits", options.linear.bits},
              {"group_size", static_cast<int64_t>(options.linear.group_size)},
              {"desc_act", options.linear.act_order},
              {"sym", options.linear.symmetric},
              {"checkpoint_format", options.format == HfFormat::kGptq ? "gptq" : "gptq_v2"}};
    case HfFormat::kAwq:
      return {{"quant_method", "awq"},
              {"bits", 4},
              {"group_size", static_cast<int64_t>(options.linear.group_size)},
              {"version", "gemm"},
              {"zero_point", true}};
    case HfFormat::kFp8Tensor:
      return {{"quant_method", "fp8"}, {"activation_scheme", "static"}};
    case HfFormat::kFp8Blocks:
      return {{"quant_method", "fp8"}, {"fmt", "e4m3"}, {"weight_block_size", {128, 128}}};
    case HfFormat::kFp8Rows:
    case HfFormat::kInt8Rows:
      return {{"quant_method", "compressed-tensors"},
              {"format", options.format == HfFormat::kInt8Rows ? "int-quantized" : "float-quantized"},
              {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", scheme}}}}}};
  }
  return {};
}

std::string HfName(const CanonicalTensor& tensor) {
  static const std::map<std::string, std::string> kNames = {{"attn.norm", "input_layernorm"},
                                                            {"attn.q", "self_attn.q_proj"},
                                                            {"attn.k", "self_attn.k_proj"},
                                                            {"attn.v", "self_attn.v_proj"},
                                                            {"attn.o", "self_attn.o_proj"},
                                                            {"mlp.norm", "post_attention_layernorm"},
                                                            {"mlp.gate", "mlp.gate_proj"},
                                                            {"mlp.up", "mlp.up_proj"},
                                                            {"mlp.down", "mlp.down_proj"},
                                                            {"embed", "model.embed_tokens"},
                                                            {"head", "lm_head"},
                                                            {"final_norm", "model.norm"}};
  const std::string& name = kNames.at(tensor.suffix);
  return tensor.layer == CanonicalTensor::kNoLayer
             ? name
             : "model.layers." + std::to_string(tensor.layer) + "." + name;
}

template <typename T>
std::vector<uint8_t> Raw(const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  return {bytes, bytes + values.size() * sizeof(T)};
}

std::vector<float> AddPacked(const HfModelOptions& options, const std::string& name,
                             const std::vector<uint64_t>& shape, Random* random,
                             std::vector<FileTensor>* tensors) {
  const uint64_t outputs = shape[0], inputs = shape[1], per_word = 32 / options.linear.bits;
  LinearOptions linear = options.linear;
  linear.zero_minus_one = options.format == HfFormat::kGptq;
  const bool awq = options.format == HfFormat::kAwq;
  PackedLinear packed =
      awq ? PackAwq(outputs, inputs, linear, random) : PackGptq(outputs, inputs, linear, random);
  const uint64_t groups = packed.scales.size() / 2 / outputs;
  const std::vector<uint64_t> codes = {awq ? inputs : inputs / per_word, awq ? outputs / per_word : outputs};
  tensors->push_back({name + ".qweight", "I32", codes, std::move(packed.codes)});
  tensors->push_back({name + ".qzeros", "I32", {groups, outputs / per_word}, std::move(packed.zeros)});
  tensors->push_back({name + ".scales", "F16", {groups, outputs}, std::move(packed.scales)});
  if (!awq) tensors->push_back({name + ".g_idx", "I32", {inputs}, Raw(packed.group_index)});
  return std::move(packed.values);
}

std::vector<float> AddScaled(const HfModelOptions& options, const std::string& name,
                             const std::vector<uint64_t>& shape, Random* random,
                             std::vector<FileTensor>* tensors) {
  const HfFormat format = options.format;
  const bool fp8 = format != HfFormat::kInt8Rows, blocks = format == HfFormat::kFp8Blocks;
  const uint64_t rows = format == HfFormat::kFp8Tensor ? 0 : blocks ? 128 : 1;
  PackedScaled packed =
      PackScaled(fp8, shape[0], shape[1], rows, blocks ? 128 : shape[1], options.linear.all_codes, random);
  tensors->push_back({name + ".weight", fp8 ? "F8_E4M3" : "I8", shape, std::move(packed.codes)});
  tensors->push_back(
      {name + (blocks ? ".weight_scale_inv" : ".weight_scale"), "F32", packed.scale_shape, Raw(packed.scales)});
  if (rows == 0) tensors->push_back({name + ".input_scale", "F32", {}, Raw(std::vector<float>{0.25f})});
  return std::move(packed.values);
}

}  // namespace

QuantisedModel WriteHfModel(const HfModelOptions& options, const std::filesystem::path& folder) {
  QuantisedModel model;
  model.config = MakeConfig(options.layers, options.hidden);
  Random random(11);
  std::vector<FileTensor> tensors;
  for (const CanonicalTensor& tensor : ListCanonicalTensors(model.config)) {
    const std::string name = HfName(tensor);
    std::vector<float>& values = model.values[tensor.name()];
    const bool linear = tensor.layer != CanonicalTensor::kNoLayer && tensor.shape.size() == 2;
    if (!linear) {
      const std::string type = tensor.shape.size() == 1 ? "F32" : "BF16";
      Packed packed =
          PackGguf(type, tensor.shape[0] * (tensor.shape.size() == 1 ? 1 : tensor.shape[1]), &random);
      values = std::move(packed.values);
      tensors.push_back({name + ".weight", type, tensor.shape, std::move(packed.bytes)});
    } else if (options.format <= HfFormat::kAwq) {
      values = AddPacked(options, name, tensor.shape, &random, &tensors);
    } else {
      values = AddScaled(options, name, tensor.shape, &random, &tensors);
    }
  }
  const AttentionSpec& attention = model.config.kinds[0].attention;
  const json config = {{"architectures", {"LlamaForCausalLM"}},
                       {"hidden_size", model.config.hidden},
                       {"intermediate_size", model.config.kinds[0].mlp.inner},
                       {"num_hidden_layers", options.layers},
                       {"num_attention_heads", attention.q_heads},
                       {"num_key_value_heads", attention.kv_heads},
                       {"vocab_size", model.config.vocab},
                       {"max_position_embeddings", model.config.context},
                       {"rms_norm_eps", 1e-5},
                       {"quantization_config", Quantization(options)}};
  test::WriteText(folder / "config.json", config.dump());
  test::WriteText(folder / "model.safetensors", test::SafetensorsBytes(tensors));
  return model;
}

std::vector<uint8_t> FloatModelBytes(const QuantisedModel& model) {
  ModelSpec spec;
  spec.config = model.config;
  const std::vector<CanonicalTensor> tensors = ListCanonicalTensors(model.config);
  for (const CanonicalTensor& tensor : tensors) {
    TensorSpec& entry = spec.tensors.emplace_back();
    entry.name = tensor.name();
    entry.dtype = DSOPT_F32;
    entry.shape = tensor.shape;
  }
  Result<Writer> writer = Writer::Create("", std::move(spec), WriterOptions());
  if (!writer.ok()) throw std::runtime_error(std::string(writer.status().message()));
  for (const CanonicalTensor& tensor : tensors) {
    if (const Status status = writer->Append(Raw(model.values.at(tensor.name()))); !status.ok()) {
      throw std::runtime_error(std::string(status.message()));
    }
  }
  if (const Status status = writer->Finish(); !status.ok())
    throw std::runtime_error(std::string(status.message()));
  return writer->TakeBytes();
}

}  // namespace dsopt::testing
