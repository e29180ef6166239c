// quantized_hf_fuzz.cc - a line of JSON as config.json and the bytes after it as model.safetensors: refused, or
// every tensor can be copied into a .dsopt file or is refused.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "import/hf_checkpoint.h"
#include "import/hf_config.h"
#include "tests/fuzz/copy_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const uint8_t* line = std::find(data, data + size, uint8_t{'\n'});
  if (line == data + size) return 0;
  const std::string_view config(reinterpret_cast<const char*>(data), static_cast<size_t>(line - data));
  const dsopt::Result<dsopt::ConfigSpec> parsed = dsopt::ParseHfConfig(config);
  const dsopt::Result<dsopt::HfQuantization> quantization = dsopt::ParseHfQuantization(config);
  if (!parsed.ok() || !quantization.ok()) return 0;
  const dsopt::Result<dsopt::SafetensorsCheckpoint> checkpoint = dsopt::SafetensorsCheckpoint::FromSource(
      dsopt::MakeMemorySource({line + 1, static_cast<size_t>(data + size - line - 1)}));
  if (!checkpoint.ok()) return 0;
  for (const dsopt_dtype dtype : {DSOPT_DTYPE_DEFAULT, DSOPT_BF16}) {
    dsopt::ModelSpec spec;
    spec.config = *parsed;
    const dsopt::Result<dsopt::CheckpointMap> map =
        dsopt::MapHfCheckpoint(*checkpoint, *quantization, dtype, &spec.config);
    if (map.ok()) dsopt::testing::CopyModel(spec, *map);
  }
  return 0;
}
