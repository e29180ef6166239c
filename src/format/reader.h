// reader.h - reads a .dsopt file: metadata once, then any chunk in any order. Checks everything a hostile file
// could say before it allocates. The layout is described in format/layout.h.
#ifndef DSOPT_FORMAT_READER_H_
#define DSOPT_FORMAT_READER_H_

#include <cstdint>
#include <span>

#include "base/memory.h"
#include "base/status.h"
#include "format/source.h"
#include "spec/model_spec.h"

namespace dsopt {

// Preamble, metadata block, flatbuffers verification, semantic checks (verify.h), copy into plain structs.
Result<ModelSpec> ReadModelSpec(Source& source, const dsopt_allocator& allocator);

// Decodes chunks of one file. Scratch memory is allocated once. [thread-compatible]
class ChunkReader {
 public:
  // spec and source must outlive the reader. verify: also check raw_checksum.
  static Result<ChunkReader> Create(const ModelSpec& spec, Source& source, const dsopt_allocator& allocator,
                                    bool verify);
  ChunkReader(ChunkReader&&) noexcept;
  ChunkReader& operator=(ChunkReader&&) noexcept;
  ~ChunkReader();

  // The decoded bytes of chunk `index` (raw_size of them), valid until the next call. A stored, unfiltered
  // chunk of a mapped source is returned in place, without a copy.
  Result<std::span<const uint8_t>> Read(uint32_t index);

 private:
  struct Impl;
  explicit ChunkReader(Impl* impl) : impl_(impl) {}
  Impl* impl_ = nullptr;
};

}  // namespace dsopt
#endif  // DSOPT_FORMAT_READER_H_
