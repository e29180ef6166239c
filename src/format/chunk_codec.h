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

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace dsopt {

uint64_t Checksum(std::span<const uint8_t> bytes);  // XXH64, seed 0

// [thread-compatible] All memory is allocated in Create; Decode allocates none.
class ChunkDecoder {
 public:
  static Result<ChunkDecoder> Create(const dsopt_allocator& allocator, uint32_t max_raw_bytes);

  // One zstd frame of exactly dst.size() bytes, DSOPT_E_CORRUPT otherwise.
  Status DecodeFrame(std::span<const uint8_t> frame, std::span<uint8_t> dst);
  // dst has chunk.raw_size bytes, stored has chunk.stored_size. Does not look at checksums.
  Status Decode(const ChunkSpec& chunk, std::span<const uint8_t> stored, std::span<uint8_t> dst);

 private:
  struct Free {
    void operator()(ZSTD_DCtx_s* context) const;
  };
  ChunkDecoder() = default;
  std::unique_ptr<ZSTD_DCtx_s, Free> context_;
  Buffer plane_;
};

// [thread-compatible]
class ChunkEncoder {
 public:
  explicit ChunkEncoder(int zstd_level);
  // Elements of 2 bytes as byte planes, others as they are, through zstd; stored if that saves less than 3 % or
  // compress is false. Fills all of *chunk but its offset. The result is raw itself or valid until the next
  // call.
  Result<std::span<const uint8_t>> Encode(std::span<const uint8_t> raw, uint32_t element_bytes, bool compress,
                                          ChunkSpec* chunk);

 private:
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  // As ZSTD_compress2.
  size_t Compress(std::span<const uint8_t> src, std::span<uint8_t> dst, bool exponents);

  std::unique_ptr<ZSTD_CCtx_s, Free> context_;
  int level_;
  std::vector<uint8_t> stored_, high_;
};

}  // namespace dsopt
#endif  // DSOPT_FORMAT_CHUNK_CODEC_H_
