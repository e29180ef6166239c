// write_models.cc - writes quantised models for tests of the command line and as seeds of fuzz targets:
// quantised_models FOLDER
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>

#include "tests/quantised/models.h"

namespace {

using namespace dsopt::testing;

void Write(const std::filesystem::path& path, const std::vector<uint8_t>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::runtime_error(path.string() + ": cannot be written");
}

void WriteGguf(const std::filesystem::path& folder) {
  GgufModelOptions options;
  options.type = [](const std::string& suffix) {
    return suffix == "attn.v" || suffix == "mlp.down" ? "Q6_K" : "Q4_K";
  };
  Write(folder / "mixed.gguf", MakeGgufModel(options).files[0]);
  options.hidden = 32;
  options.layers = 1;
  options.type = [](const std::string& suffix) { return suffix == "attn.v" ? "Q5_1" : "Q4_0"; };
  options.biases = options.tied = true;
  Write(folder / "small_llama.gguf", MakeGgufModel(options).files[0]);
  options.biases = options.tied = false;
  options.family = QuantisedFamily::kMixtral;
  options.split_experts = true;
  options.type = [](const std::string&) { return "Q8_0"; };
  Write(folder / "small_mixtral.gguf", MakeGgufModel(options).files[0]);
  options.family = QuantisedFamily::kDeepseekV2;
  options.layers = 2;
  options.split_experts = false;
  options.latent_halves = true;
  options.type = [](const std::string& suffix) { return suffix == "attn.kv_b" ? "F16" : "Q4_1"; };
  Write(folder / "small_deepseek.gguf", MakeGgufModel(options).files[0]);
}

void WriteHf(const std::filesystem::path& folder) {
  const std::pair<const char*, HfModelOptions> models[] = {{"gptq", {HfFormat::kGptq, {}, 1, 32}},
                                                           {"gptq8", {HfFormat::kGptqV2, {.bits = 8}, 1, 32}},
                                                           {"awq", {HfFormat::kAwq, {}, 1, 32}},
                                                           {"fp8", {HfFormat::kFp8Rows, {}, 1, 32}}};
  for (const auto& [name, options] : models) {
    std::filesystem::create_directories(folder / name);
    WriteHfModel(options, folder / name);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    WriteGguf(argv[1]);
    WriteHf(argv[1]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "quantised_models: %s\n", error.what());
    return 1;
  }
}
