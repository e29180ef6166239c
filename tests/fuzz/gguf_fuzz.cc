// gguf_fuzz.cc - any bytes as a GGUF file: refused, or every tensor can be copied into a .dsopt file or is
// refused.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "import/gguf_import.h"
#include "tests/fuzz/copy_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const dsopt::Result<dsopt::GgufCheckpoint> checkpoint =
      dsopt::GgufCheckpoint::FromSource(dsopt::MakeMemorySource({data, size}));
  if (!checkpoint.ok()) return 0;
  for (const dsopt::GgufTensor& tensor : checkpoint->header().tensors) {
    if (tensor.offset > size || tensor.bytes > size - tensor.offset) std::abort();
  }
  dsopt::Result<dsopt::ModelSpec> spec = dsopt::DescribeGguf(*checkpoint, "");
  if (!spec.ok()) return 0;
  for (const dsopt_dtype dtype : {DSOPT_DTYPE_DEFAULT, DSOPT_BF16}) {
    const dsopt::Result<dsopt::CheckpointMap> map = dsopt::MapGguf(*checkpoint, dtype, spec->config);
    if (map.ok()) dsopt::testing::CopyModel(*spec, *map);
  }
  return 0;
}
