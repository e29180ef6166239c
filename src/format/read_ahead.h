// read_ahead.h - the chunks of one file in a known order, decoded on worker threads ahead of their consumer.
// The source is read only by the consumer's thread, inside Read. Not for: random access (reader.h).
#ifndef DSOPT_FORMAT_READ_AHEAD_H_
#define DSOPT_FORMAT_READ_AHEAD_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/memory.h"
#include "base/status.h"
#include "format/source.h"
#include "spec/model_spec.h"

namespace dsopt {

struct ReadAheadOptions {
  bool verify = false;              // also check raw_checksum
  uint32_t workers = 0;             // threads besides the consumer's; 0: Read does everything itself
  uint64_t max_bytes = 256u << 20;  // of the buffers of all chunks under way; at least one chunk is
};

// One consumer. [thread-compatible] Buffers are allocated in Create. The threads start with the first Read and
// end with the object, each after the chunk it is at; where the system gives none, the consumer decodes alone.
class ReadAhead {
 public:
  // order: indices of chunks, in which Read will ask for them. spec, source and allocator must outlive the
  // object.
  static Result<std::unique_ptr<ReadAhead>> Create(const ModelSpec& spec, Source& source,
                                                   const dsopt_allocator& allocator,
                                                   std::vector<uint32_t> order,
                                                   const ReadAheadOptions& options);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  // The decoded bytes of chunk `index`, the next of the order; valid until the next call. Reads at most two
  // chunks from the source, and waits for at most one to be decoded. A failure to read or decode a chunk is
  // returned when it is its turn, whatever is under way behind it.
  Result<std::span<const uint8_t>> Read(uint32_t index);

 private:
  struct Impl;
  explicit ReadAhead(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace dsopt
#endif  // DSOPT_FORMAT_READ_AHEAD_H_
