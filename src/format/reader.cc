#include "format/reader.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "format/chunk_codec.h"
#include "format/layout.h"
#include "format/metadata.h"

namespace dsopt {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is read in place");

using ull = unsigned long long;

Status ReadPreamble(Source& source, Preamble* preamble) {
  const char* name = source.name().c_str();
  if (source.size() < sizeof(Preamble)) {
    return Error(DSOPT_E_CORRUPT, "%s: %llu bytes, a .dsopt file has at least %zu", name, static_cast<ull>(source.size()),
                 sizeof(Preamble));
  }
  RETURN_IF_ERROR(source.ReadAt(0, {reinterpret_cast<uint8_t*>(preamble), sizeof(Preamble)}));
  if (std::memcmp(preamble->magic, kMagic, sizeof kMagic) != 0) {
    return Error(DSOPT_E_CORRUPT, "%s: not a .dsopt file: its first 8 bytes are not the magic number", name);
  }
  if (preamble->major != kFormatMajor) {
    return Error(DSOPT_E_VERSION, "%s: format %u.%u, this library reads %u.x", name, preamble->major, preamble->minor,
                 kFormatMajor);
  }
  const std::span<const uint8_t> checked(reinterpret_cast<const uint8_t*>(preamble),
                                         offsetof(Preamble, preamble_checksum));
  if (Checksum(checked) != preamble->preamble_checksum) {
    return Error(DSOPT_E_CORRUPT, "%s: the checksum of the preamble does not match", name);
  }
  if (preamble->flags != 0 || preamble->reserved != 0) {
    return Error(DSOPT_E_VERSION, "%s: preamble flags 0x%x, this library knows none", name, preamble->flags);
  }
  if (preamble->file_bytes != source.size()) {
    return Error(DSOPT_E_CORRUPT, "%s: %llu bytes, its preamble says %llu: it was cut or appended to", name,
                 static_cast<ull>(source.size()), static_cast<ull>(preamble->file_bytes));
  }
  if (preamble->meta_offset < sizeof(Preamble) ||
      !RangeFits(preamble->meta_offset, preamble->meta_stored, source.size()) || preamble->meta_stored == 0) {
    return Error(DSOPT_E_CORRUPT, "%s: metadata at %llu + %u lies outside of the file", name,
                 static_cast<ull>(preamble->meta_offset), preamble->meta_stored);
  }
  if (preamble->meta_raw == 0 || preamble->meta_raw > kMaxMetaBytes || preamble->meta_stored > kMaxMetaBytes) {
    return Error(DSOPT_E_CORRUPT, "%s: %u bytes of metadata, expected 1 to %u", name, preamble->meta_raw, kMaxMetaBytes);
  }
  return Status();
}

}  // namespace

Result<ModelSpec> ReadModelSpec(Source& source, const dsopt_allocator& allocator) {
  Preamble preamble;
  RETURN_IF_ERROR(ReadPreamble(source, &preamble));
  Buffer stored;
  std::span<const uint8_t> frame = source.View(preamble.meta_offset, preamble.meta_stored);
  if (frame.empty()) {
    ASSIGN_OR_RETURN(stored, Buffer::Allocate(allocator, preamble.meta_stored, "metadata"));
    RETURN_IF_ERROR(source.ReadAt(preamble.meta_offset, stored.span()));
    frame = stored.span();
  }
  if (Checksum(frame) != preamble.meta_checksum) {
    return Error(DSOPT_E_CORRUPT, "%s: the checksum of the metadata does not match", source.name().c_str());
  }
  ASSIGN_OR_RETURN(Buffer raw, Buffer::Allocate(allocator, preamble.meta_raw, "metadata"));
  RETURN_IF_ERROR(DecompressFrame(frame, raw.span(), "metadata"));
  ASSIGN_OR_RETURN(ModelSpec spec,
                   ParseMetadata(raw.span(), source.size(), preamble.meta_offset + preamble.meta_stored));
  spec.format_major = preamble.major;
  spec.format_minor = preamble.minor;
  spec.file_bytes = source.size();
  spec.fingerprint = Checksum(raw.span());
  return spec;
}

struct ChunkReader::Impl {
  const ModelSpec& spec;
  Source& source;
  bool verify;
  ChunkDecoder decoder;
  Buffer stored, raw;  // of the largest chunk; stored is empty when the source gives views
};

Result<ChunkReader> ChunkReader::Create(const ModelSpec& spec, Source& source, const dsopt_allocator& allocator,
                                        bool verify) {
  uint32_t stored_bytes = 0, raw_bytes = 0;
  for (const ChunkSpec& chunk : spec.chunks) {
    stored_bytes = std::max(stored_bytes, chunk.stored_size);
    raw_bytes = std::max(raw_bytes, chunk.raw_size);
  }
  ASSIGN_OR_RETURN(ChunkDecoder decoder, ChunkDecoder::Create(allocator, raw_bytes));
  Buffer stored;
  if (!spec.chunks.empty() && source.View(spec.chunks[0].offset, 1).empty()) {
    ASSIGN_OR_RETURN(stored, Buffer::Allocate(allocator, stored_bytes, "chunk"));
  }
  ASSIGN_OR_RETURN(Buffer raw, Buffer::Allocate(allocator, raw_bytes, "chunk"));
  return ChunkReader(new Impl{spec, source, verify, std::move(decoder), std::move(stored), std::move(raw)});
}

ChunkReader::ChunkReader(ChunkReader&& other) noexcept { std::swap(impl_, other.impl_); }
ChunkReader& ChunkReader::operator=(ChunkReader&& other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}
ChunkReader::~ChunkReader() { delete impl_; }

Result<std::span<const uint8_t>> ChunkReader::Read(uint32_t index) {
  if (index >= impl_->spec.chunks.size()) {
    return Error(DSOPT_E_INTERNAL, "chunk %u: the file has %zu", index, impl_->spec.chunks.size());
  }
  const ChunkSpec& chunk = impl_->spec.chunks[index];
  std::span<const uint8_t> stored = impl_->source.View(chunk.offset, chunk.stored_size);
  if (stored.empty()) {
    const std::span<uint8_t> buffer = impl_->stored.span().first(chunk.stored_size);
    RETURN_IF_ERROR(impl_->source.ReadAt(chunk.offset, buffer));
    stored = buffer;
  }
  if (Checksum(stored) != chunk.stored_checksum) {
    return Error(DSOPT_E_CORRUPT, "%s: chunk %u at %llu: the checksum of its %u bytes does not match",
                 impl_->source.name().c_str(), index, static_cast<ull>(chunk.offset), chunk.stored_size);
  }
  if (chunk.codec == Codec::kStored) return stored;
  const std::span<uint8_t> raw = impl_->raw.span().first(chunk.raw_size);
  if (Status status = impl_->decoder.Decode(chunk, stored, raw); !status.ok()) {
    return Error(status.code(), "%s: chunk %u at %llu: %s", impl_->source.name().c_str(), index,
                 static_cast<ull>(chunk.offset), std::string(status.message()).c_str());
  }
  if (impl_->verify && Checksum(raw) != chunk.raw_checksum) {
    return Error(DSOPT_E_CORRUPT, "%s: chunk %u at %llu: the checksum of its decoded bytes does not match",
                 impl_->source.name().c_str(), index, static_cast<ull>(chunk.offset));
  }
  return std::span<const uint8_t>(raw);
}

}  // namespace dsopt
