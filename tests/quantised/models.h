// models.h - small quantised models as published files have them, each with the float32 values that it means by
// canonical name: what an import has to reproduce. Seeded; not trained.
#ifndef DSOPT_TESTS_QUANTISED_MODELS_H_
#define DSOPT_TESTS_QUANTISED_MODELS_H_

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "spec/model_spec.h"
#include "tests/quantised/packed.h"

namespace dsopt::testing {

inline constexpr uint32_t kQuantisedVocab = 288;

enum class QuantisedFamily { kLlama, kMistral, kMixtral, kDeepseekV2 };

using CanonicalValues = std::map<std::string, std::vector<float>>;

struct QuantisedModel {
  ConfigSpec config;
  CanonicalValues values;
};

struct GgufModelOptions {
  QuantisedFamily family = QuantisedFamily::kLlama;
  // ggml type of a matrix by its canonical name without the layer ("attn.q", "embed"); vectors are F32.
  std::function<std::string(const std::string& suffix)> type = [](const std::string&) { return "Q8_0"; };
  bool split_experts = false;  // a tensor per expert
  bool latent_halves = false;  // attn_k_b and attn_v_b instead of attn_kv_b
  bool biases = false;         // of q, k, v
  bool tied = false;
  uint32_t layers = 2;
  uint32_t hidden = 256;  // K types need a multiple of 256, other quantised types of 32
  uint32_t version = 3;
  uint32_t files = 1;  // the tensors in turn
};

struct GgufModel : QuantisedModel {
  std::vector<std::vector<uint8_t>> files;
};
GgufModel MakeGgufModel(const GgufModelOptions& options);

// A Llama as a Hugging Face folder.
enum class HfFormat { kGptq, kGptqV2, kAwq, kFp8Tensor, kFp8Rows, kFp8Blocks, kInt8Rows };
struct HfModelOptions {
  HfFormat format = HfFormat::kGptq;
  LinearOptions linear;  // of GPTQ and AWQ
  uint32_t layers = 2;
  uint32_t hidden = 256;
};
// Writes config.json and model.safetensors.
QuantisedModel WriteHfModel(const HfModelOptions& options, const std::filesystem::path& folder);

// The same model as a .dsopt file of float32 values, in memory.
std::vector<uint8_t> FloatModelBytes(const QuantisedModel& model);

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_QUANTISED_MODELS_H_
