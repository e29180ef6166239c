// hf_config_fuzz.cc - any bytes as config.json and as generation_config.json.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "import/hf_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const dsopt::Result<dsopt::ConfigSpec> config = dsopt::ParseHfConfig(text);
  if (config.ok() && (config->layers.size() > 4096 || config->kinds.empty())) std::abort();
  const dsopt::Result<dsopt::HfGeneration> generation = dsopt::ParseHfGeneration(text);
  if (generation.ok() && generation->end_tokens.size() > size) std::abort();
  return 0;
}
