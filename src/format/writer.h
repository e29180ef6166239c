// writer.h - writes a .dsopt file with bounded memory: tensors are declared first, then streamed in declaration
// order, then the metadata goes to the front. Writes to PATH.part and renames, so PATH is never half-written.
#ifndef DSOPT_FORMAT_WRITER_H_
#define DSOPT_FORMAT_WRITER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "spec/model_spec.h"

namespace dsopt {

struct WriterOptions {
  uint32_t chunk_bytes = 1u << 20;  // raw bytes per chunk
  bool compress = true;             // false: every chunk stored, aligned to 4096, mappable
  int zstd_level = 1;               // of chunks that are not byte planes: those have parameters of their own
};

// [thread-compatible]
class Writer {
 public:
  // spec.config, tokenizer, metadata, ... must be final; spec.tensors lists name, dtype, shape (and synthetic
  // fields) in the order in which Append will bring their bytes; spec.chunks is ignored. An empty path writes
  // to memory: see TakeBytes.
  static Result<Writer> Create(const std::string& path, ModelSpec spec, const WriterOptions& options);
  Writer(Writer&&) noexcept;
  Writer& operator=(Writer&&) noexcept;
  ~Writer();  // without Finish: removes the partial file

  // Next bytes of the tensor data, in declaration order, row-major; any split, also across tensors.
  Status Append(std::span<const uint8_t> bytes);
  // All bytes must have come. Writes the metadata, syncs and renames.
  Status Finish();
  // After Finish, path empty: the whole file.
  std::vector<uint8_t> TakeBytes();
  uint64_t stored_bytes() const;  // so far

 private:
  struct Impl;
  explicit Writer(Impl* impl) : impl_(impl) {}
  Impl* impl_ = nullptr;
};

}  // namespace dsopt
#endif  // DSOPT_FORMAT_WRITER_H_
