// copy_model.h - for fuzz targets of importers: the second half of convert, into memory. What was copied must
// be readable, and failures must be typed.
#ifndef DSOPT_TESTS_FUZZ_COPY_MODEL_H_
#define DSOPT_TESTS_FUZZ_COPY_MODEL_H_

#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "base/memory.h"
#include "format/reader.h"
#include "format/writer.h"
#include "import/tensor_copy.h"

namespace dsopt::testing {

inline void CopyModel(ModelSpec spec, const CheckpointMap& map) {
  for (const TensorSource& source : map.tensors) DeclareTensors(source, &spec.tensors);
  WriterOptions options;
  options.compress = false;
  Result<Writer> writer = Writer::Create("", std::move(spec), options);
  if (!writer.ok()) return;
  const CopyOptions copy;
  TensorCopier copier(*writer, copy, 0);
  for (const TensorSource& source : map.tensors) {
    const Status status = copier.Copy(source);
    if (status.ok()) continue;
    if (status.code() == DSOPT_E_INTERNAL || status.code() == DSOPT_E_INVALID_STATE) std::abort();
    return;
  }
  if (!writer->Finish().ok()) std::abort();
  const std::vector<uint8_t> bytes = writer->TakeBytes();
  const std::unique_ptr<Source> source = MakeMemorySource(bytes);
  if (!ReadModelSpec(*source, DefaultAllocator()).ok()) std::abort();
}

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_FUZZ_COPY_MODEL_H_
