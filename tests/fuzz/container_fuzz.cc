// A .dsopt file from a stranger: its metadata, then every chunk. Checksums would keep a fuzzer out, so the
// input is taken in one of two ways, chosen by its first byte:
//   even  the bytes of a file as they are
//   odd   u32 length | flatbuffer | bytes from the first chunk on: wrapped with right checksums, as an attacker
//   would
#include <zstd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "format/chunk_codec.h"
#include "format/layout.h"
#include "format/reader.h"

namespace dsopt {
namespace {

constexpr uint64_t kMaxRawBytes = 8u << 20;  // decoded per input: a file may honestly ask for much more

std::vector<uint8_t> Wrap(std::span<const uint8_t> metadata, std::span<const uint8_t> data) {
  std::vector<uint8_t> frame(ZSTD_compressBound(metadata.size()));
  const uint64_t data_begin = AlignUp(sizeof(Preamble) + frame.size(), kChunkAlign);
  frame.resize(ZSTD_compress(frame.data(), frame.size(), metadata.data(), metadata.size(), 1));
  std::vector<uint8_t> file(data_begin + data.size());
  Preamble preamble = {};
  std::memcpy(preamble.magic, kMagic, sizeof kMagic);
  preamble.major = kFormatMajor;
  preamble.meta_offset = sizeof(Preamble);
  preamble.meta_stored = static_cast<uint32_t>(frame.size());
  preamble.meta_raw = static_cast<uint32_t>(metadata.size());
  preamble.meta_checksum = Checksum(frame);
  preamble.file_bytes = file.size();
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(&preamble), sizeof preamble);
  preamble.preamble_checksum = Checksum(bytes.first(offsetof(Preamble, preamble_checksum)));
  std::memcpy(file.data(), &preamble, sizeof preamble);
  std::copy(frame.begin(), frame.end(), file.begin() + sizeof preamble);
  std::copy(data.begin(), data.end(), file.begin() + static_cast<ptrdiff_t>(data_begin));
  return file;
}

void ReadFile(std::span<const uint8_t> file, bool fix_checksums) {
  const auto source = MakeMemorySource(file);
  Result<ModelSpec> spec = ReadModelSpec(*source, DefaultAllocator());
  if (!spec.ok()) return;
  if (fix_checksums) {
    for (ChunkSpec& chunk : spec->chunks) {
      chunk.stored_checksum = Checksum(source->View(chunk.offset, chunk.stored_size));
    }
  }
  Result<ChunkReader> reader = ChunkReader::Create(*spec, *source, DefaultAllocator(), !fix_checksums);
  if (!reader.ok()) return;
  uint64_t decoded = 0;
  for (uint32_t i = 0; i < spec->chunks.size() && decoded < kMaxRawBytes; ++i) {
    decoded += spec->chunks[i].raw_size;
    Result<std::span<const uint8_t>> chunk = reader->Read(i);
    if (chunk.ok() && chunk->size() != spec->chunks[i].raw_size) std::abort();
  }
  for (const TensorSpec& tensor : spec->tensors) {  // what the model relies on
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < tensor.chunk_count; ++i) bytes += spec->chunks[tensor.first_chunk + i].raw_size;
    if (!tensor.synthetic && bytes != tensor.raw_bytes) std::abort();
  }
}

}  // namespace
}  // namespace dsopt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const std::span<const uint8_t> input(data + 1, size - 1);
  if (data[0] % 2 == 0) {
    dsopt::ReadFile(input, false);
    return 0;
  }
  uint32_t length = 0;
  if (input.size() < sizeof length) return 0;
  std::memcpy(&length, input.data(), sizeof length);
  const std::span<const uint8_t> rest = input.subspan(sizeof length);
  const size_t metadata = length < rest.size() ? length : rest.size();
  dsopt::ReadFile(dsopt::Wrap(rest.first(metadata), rest.subspan(metadata)), true);
  return 0;
}
