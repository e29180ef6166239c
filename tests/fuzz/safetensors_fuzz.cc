// safetensors_fuzz.cc - any bytes as a safetensors file: refused, or every tensor lies inside the file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "import/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::unique_ptr<dsopt::Source> source = dsopt::MakeMemorySource({data, size});
  uint64_t data_offset = 0;
  const dsopt::Result<dsopt::SafetensorsHeader> header = dsopt::ReadSafetensorsHeader(*source, &data_offset);
  if (!header.ok()) return 0;
  for (const dsopt::SafetensorsEntry& entry : header->tensors) {
    if (data_offset > size || entry.offset > size - data_offset ||
        entry.bytes > size - data_offset - entry.offset) {
      std::abort();
    }
  }
  return 0;
}
