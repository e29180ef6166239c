// chunk_codec.h - one chunk: raw bytes <-> stored bytes. Knows no files and no tensors.
#ifndef DSOPT_FORMAT_CHUNK_CODEC_H_
#define DSOPT_FORMAT_CHUNK_CODEC_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/memory.h"
#include "base/status.h"
#include "spec/model_spec.h"

namespace dsopt {

uint64_t Checksum(std::span<const uint8_t> bytes);  // XXH64, seed 0

// One zstd frame whose content size must be exactly dst.size(). what names it in messages.
Status DecompressFrame(std::span<const uint8_t> frame, std::span<uint8_t> dst, const char* what);

// [thread-compatible] Allocates its scratch in Create; Decode allocates nothing of its own.
class ChunkDecoder {
 public:
  static Result<ChunkDecoder> Create(const dsopt_allocator& allocator, uint32_t max_raw_bytes);
  ChunkDecoder(ChunkDecoder&&) noexcept;
  ChunkDecoder& operator=(ChunkDecoder&&) noexcept;
  ~ChunkDecoder();
  // dst has chunk.raw_size bytes. Does not look at checksums.
  Status Decode(const ChunkSpec& chunk, std::span<const uint8_t> stored, std::span<uint8_t> dst);

 private:
  ChunkDecoder() = default;
  void* context_ = nullptr;  // ZSTD_DCtx
  Buffer plane_;
};

// [thread-compatible]
class ChunkEncoder {
 public:
  explicit ChunkEncoder(int zstd_level);
  ~ChunkEncoder();
  ChunkEncoder(const ChunkEncoder&) = delete;
  ChunkEncoder& operator=(const ChunkEncoder&) = delete;
  // Encodes raw (of elements of element_bytes) as it is smallest; below 3 % saved it is stored as it is. Fills codec,
  // filter, element_bytes, sizes and checksums of *chunk. The result is valid until the next call.
  Result<std::span<const uint8_t>> Encode(std::span<const uint8_t> raw, uint32_t element_bytes, bool compress,
                                          ChunkSpec* chunk);

 private:
  void* context_;  // ZSTD_CCtx
  int level_;
  std::vector<uint8_t> stored_, high_;
};

}  // namespace dsopt
#endif  // DSOPT_FORMAT_CHUNK_CODEC_H_
