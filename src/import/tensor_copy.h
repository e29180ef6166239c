// tensor_copy.h - streams tensors from a checkpoint into a .dsopt file, in bounded memory: values, or codes,
// scales and offsets, as ChooseForms decided.
#ifndef DSOPT_IMPORT_TENSOR_COPY_H_
#define DSOPT_IMPORT_TENSOR_COPY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"
#include "format/writer.h"
#include "import/tensor_source.h"

namespace dsopt {

// Appends to *tensors what the writer has to declare for a source, in the order in which Copy brings it.
void DeclareTensors(const TensorSource& source, std::vector<TensorSpec>* tensors);

struct CopyOptions {
  const std::atomic<bool>* cancel = nullptr;  // read between buffers; set: DSOPT_E_CANCELLED
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;  // after each buffer
};

// [thread-compatible]
class TensorCopier {
 public:
  // total_bytes: raw bytes of all declared tensors.
  TensorCopier(Writer& writer, const CopyOptions& options, uint64_t total_bytes);

  Status Copy(const TensorSource& source);

 private:
  Status CopyValues(const TensorSource& source, MatrixSource* piece);
  Status CopyCodes(const TensorSource& source, MatrixSource* piece);
  // Of one piece: its scales, or its offsets.
  Status CopyScales(const TensorSource& source, MatrixSource* piece, bool offsets);
  Status Append(std::span<const uint8_t> bytes);

  Writer& writer_;
  const CopyOptions& options_;
  const uint64_t total_bytes_;
  uint64_t done_bytes_ = 0;
  std::vector<uint8_t> bytes_;
  std::vector<int8_t> codes_;
  std::vector<float> scales_, offsets_, grid_;
};

}  // namespace dsopt
#endif  // DSOPT_IMPORT_TENSOR_COPY_H_
