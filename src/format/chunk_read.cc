#include "format/chunk_read.h"

#include <algorithm>
#include <string>

namespace dsopt {
namespace {

using ull = unsigned long long;

// Names the file and the chunk.
Status InChunk(const Source& source, const ChunkSpec& chunk, uint32_t index, const Status& status) {
  return Error(status.code(), "%s: chunk %u at %llu: %s", source.name().c_str(), index,
               static_cast<ull>(chunk.offset), std::string(status.message()).c_str());
}

Status ChecksumError(const char* what, uint32_t bytes, uint64_t found, uint64_t expected) {
  return Error(DSOPT_E_CORRUPT, "the checksum of its %u %s is %016llx, expected %016llx", bytes, what,
               static_cast<ull>(found), static_cast<ull>(expected));
}

}  // namespace

ChunkBufferBytes LargestChunk(const ModelSpec& spec, Source& source) {
  ChunkBufferBytes bytes;
  for (const ChunkSpec& chunk : spec.chunks) {
    bytes.stored = std::max(bytes.stored, chunk.stored_size);
    if (chunk.codec != Codec::kStored) bytes.raw = std::max(bytes.raw, chunk.raw_size);
  }
  if (spec.chunks.empty() || !source.View(spec.chunks[0].offset, 1).empty()) bytes.stored = 0;
  return bytes;
}

Result<std::span<const uint8_t>> FetchChunk(const ModelSpec& spec, Source& source, uint32_t index,
                                            std::span<uint8_t> buffer) {
  if (index >= spec.chunks.size()) {
    return Error(DSOPT_E_INTERNAL, "chunk %u: the file has %zu", index, spec.chunks.size());
  }
  const ChunkSpec& chunk = spec.chunks[index];
  const std::span<const uint8_t> view = source.View(chunk.offset, chunk.stored_size);
  if (!view.empty()) return view;
  if (chunk.stored_size > buffer.size()) {  // the source gave a view of the first chunk, but not of this one
    return InChunk(source, chunk, index, Error(DSOPT_E_CORRUPT, "lies outside of the file"));
  }
  const std::span<uint8_t> stored = buffer.first(chunk.stored_size);
  RETURN_IF_ERROR(source.ReadAt(chunk.offset, stored));
  return std::span<const uint8_t>(stored);
}

Result<std::span<const uint8_t>> DecodeChunk(const ModelSpec& spec, const Source& source, uint32_t index,
                                             bool verify, std::span<const uint8_t> stored,
                                             ChunkDecoder* decoder, std::span<uint8_t> raw) {
  const ChunkSpec& chunk = spec.chunks[index];
  if (const uint64_t found = Checksum(stored); found != chunk.stored_checksum) {
    return InChunk(source, chunk, index,
                   ChecksumError("bytes", chunk.stored_size, found, chunk.stored_checksum));
  }
  if (chunk.codec == Codec::kStored) return stored;  // verify.cc: both checksums are the same
  const std::span<uint8_t> out = raw.first(chunk.raw_size);
  if (Status status = decoder->Decode(chunk, stored, out); !status.ok()) {
    return InChunk(source, chunk, index, status);
  }
  if (!verify) return std::span<const uint8_t>(out);
  if (const uint64_t found = Checksum(out); found != chunk.raw_checksum) {
    return InChunk(source, chunk, index,
                   ChecksumError("decoded bytes", chunk.raw_size, found, chunk.raw_checksum));
  }
  return std::span<const uint8_t>(out);
}

}  // namespace dsopt
