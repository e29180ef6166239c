// layout.h - the bytes of a .dsopt file, version 1. All numbers are little-endian, checksums are XXH64, seed 0.
//
//   0    preamble, 64 bytes: struct Preamble
//   64   metadata block: one zstd frame, with its content size, of the flatbuffer of dsopt_model.fbs
//   ...  chunks, at multiples of 64 (of 4096 in a file written without compression, which can be mapped)
//
// A tensor is a run of consecutive chunks, row-major: chunk_bytes raw bytes each, the last one may be shorter.
// Each chunk decodes alone, by its codec and filter:
//
//   stored             raw_size bytes as they are
//   zstd               one zstd frame with its content size
//   zstd, byte planes  of 16-bit elements, rotated left by one bit: first their raw_size / 2 low bytes as they
//                      are (of bf16: mantissa and sign, incompressible), then one zstd frame of their high
//                      bytes (of bf16: the exponent)
//
// Bytes between the parts are zero and are not read.
#ifndef DSOPT_FORMAT_LAYOUT_H_
#define DSOPT_FORMAT_LAYOUT_H_

#include <cstdint>

namespace dsopt {

inline constexpr uint8_t kMagic[8] = {0x89, 'D', 'S', 'O', 'P', 'T', 0x0D, 0x0A};
inline constexpr uint16_t kFormatMajor = 1;  // a reader refuses a larger one
inline constexpr uint16_t kFormatMinor = 0;  // and accepts a larger one of these

struct Preamble {
  uint8_t magic[8];
  uint16_t major, minor;
  uint32_t flags;  // 0
  uint64_t meta_offset;
  uint32_t meta_stored;    // bytes of the zstd frame
  uint32_t meta_raw;       // bytes of the flatbuffer
  uint64_t meta_checksum;  // of the stored bytes
  uint64_t file_bytes;
  uint64_t reserved;           // 0
  uint64_t preamble_checksum;  // of the 56 bytes before it
};
static_assert(sizeof(Preamble) == 64);

inline constexpr uint64_t kChunkAlign = 64;
inline constexpr uint64_t kMappedChunkAlign = 4096;
inline constexpr uint32_t kMaxMetaBytes = 64u << 20;
inline constexpr uint32_t kMaxChunkBytes = 64u << 20;

inline uint64_t AlignUp(uint64_t value, uint64_t align) { return (value + align - 1) / align * align; }

}  // namespace dsopt
#endif  // DSOPT_FORMAT_LAYOUT_H_
