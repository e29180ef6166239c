// chunk_read.h - the two halves of reading a chunk: fetching its stored bytes, which uses the source, and
// decoding them, which does not. What ChunkReader does one after the other and ReadAhead on different threads.
#ifndef DSOPT_FORMAT_CHUNK_READ_H_
#define DSOPT_FORMAT_CHUNK_READ_H_

#include <cstdint>
#include <span>

#include "base/status.h"
#include "format/chunk_codec.h"
#include "format/source.h"
#include "spec/model_spec.h"

namespace dsopt {

// Bytes that the buffers of any chunk of the file must have.
struct ChunkBufferBytes {
  uint32_t stored = 0;  // 0: the source gives its bytes in place
  uint32_t raw = 0;
};
ChunkBufferBytes LargestChunk(const ModelSpec& spec, Source& source);

// The stored bytes of a chunk: in place, or read into buffer.
Result<std::span<const uint8_t>> FetchChunk(const ModelSpec& spec, Source& source, uint32_t index,
                                            std::span<uint8_t> buffer);

// Checks and decodes stored bytes into raw (at least raw_size of the chunk); a stored chunk is returned in
// place. source is asked for its name only. verify: also check raw_checksum.
Result<std::span<const uint8_t>> DecodeChunk(const ModelSpec& spec, const Source& source, uint32_t index,
                                             bool verify, std::span<const uint8_t> stored,
                                             ChunkDecoder* decoder, std::span<uint8_t> raw);

}  // namespace dsopt
#endif  // DSOPT_FORMAT_CHUNK_READ_H_
