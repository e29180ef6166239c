#include "format/reader.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>

#include "base/checked.h"
#include "format/chunk_codec.h"
#include "format/chunk_read.h"
#include "format/layout.h"
#include "format/metadata.h"

namespace dsopt {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is read in place");

using ull = unsigned long long;

Status Prefixed(const Source& source, const char* part, const Status& status) {
  return Error(status.code(), "%s: %s%s", source.name().c_str(), part, std::string(status.message()).c_str());
}

// The first 64 bytes, in the order in which they can be trusted: every version has the magic number and the
// version where version 1 has them.
Status ReadPreamble(Source& source, Preamble* preamble) {
  const char* name = source.name().c_str();
  if (source.size() < sizeof(Preamble)) {
    return Error(DSOPT_E_CORRUPT, "%s: %llu bytes, a .dsopt file has at least %zu", name,
                 static_cast<ull>(source.size()), sizeof(Preamble));
  }
  RETURN_IF_ERROR(source.ReadAt(0, {reinterpret_cast<uint8_t*>(preamble), sizeof(Preamble)}));
  if (std::memcmp(preamble->magic, kMagic, sizeof kMagic) != 0) {
    return Error(DSOPT_E_CORRUPT, "%s: its first 8 bytes are not those of a .dsopt file", name);
  }
  if (preamble->major > kFormatMajor) {
    return Error(DSOPT_E_VERSION, "%s: format %u.%u, this library reads up to %u.x", name, preamble->major,
                 preamble->minor, kFormatMajor);
  }
  const std::span<const uint8_t> checked(reinterpret_cast<const uint8_t*>(preamble),
                                         offsetof(Preamble, preamble_checksum));
  if (const uint64_t found = Checksum(checked); found != preamble->preamble_checksum || preamble->major == 0) {
    return Error(DSOPT_E_CORRUPT, "%s: preamble of format %u.%u with checksum %016llx, expected %016llx", name,
                 preamble->major, preamble->minor, static_cast<ull>(found),
                 static_cast<ull>(preamble->preamble_checksum));
  }
  if (preamble->flags != 0 || preamble->reserved != 0) {
    return Error(DSOPT_E_VERSION, "%s: preamble flags 0x%x and reserved 0x%llx, this library knows only 0",
                 name, preamble->flags, static_cast<ull>(preamble->reserved));
  }
  if (preamble->file_bytes != source.size()) {
    return Error(DSOPT_E_CORRUPT, "%s: %llu bytes, its preamble says %llu: it was cut or appended to", name,
                 static_cast<ull>(source.size()), static_cast<ull>(preamble->file_bytes));
  }
  return {};
}

// The sizes and the place of the metadata block, before memory is allocated for it.
Status CheckMetadataBlock(const Source& source, const Preamble& preamble) {
  const char* name = source.name().c_str();
  if (preamble.meta_offset < sizeof(Preamble) || preamble.meta_offset % kChunkAlign != 0 ||
      !RangeFits(preamble.meta_offset, preamble.meta_stored, source.size())) {
    return Error(DSOPT_E_CORRUPT, "%s: metadata at %llu + %u, expected a multiple of 64 inside its %llu bytes",
                 name, static_cast<ull>(preamble.meta_offset), preamble.meta_stored,
                 static_cast<ull>(source.size()));
  }
  if (preamble.meta_raw == 0 || preamble.meta_raw > kMaxMetaBytes || preamble.meta_stored == 0 ||
      preamble.meta_stored > kMaxMetaBytes) {
    return Error(DSOPT_E_CORRUPT, "%s: metadata of %u bytes, %u stored, expected 1 to %u", name,
                 preamble.meta_raw, preamble.meta_stored, kMaxMetaBytes);
  }
  return {};
}

}  // namespace

Result<ModelSpec> ReadModelSpec(Source& source, const dsopt_allocator& allocator) {
  Preamble preamble;
  RETURN_IF_ERROR(ReadPreamble(source, &preamble));
  RETURN_IF_ERROR(CheckMetadataBlock(source, preamble));
  Buffer stored;
  std::span<const uint8_t> frame = source.View(preamble.meta_offset, preamble.meta_stored);
  if (frame.empty()) {
    ASSIGN_OR_RETURN(stored, Buffer::Allocate(allocator, preamble.meta_stored, "metadata"));
    RETURN_IF_ERROR(source.ReadAt(preamble.meta_offset, stored.span()));
    frame = stored.span();
  }
  if (const uint64_t found = Checksum(frame); found != preamble.meta_checksum) {
    return Error(DSOPT_E_CORRUPT, "%s: the checksum of the metadata is %016llx, expected %016llx",
                 source.name().c_str(), static_cast<ull>(found), static_cast<ull>(preamble.meta_checksum));
  }
  ASSIGN_OR_RETURN(Buffer raw, Buffer::Allocate(allocator, preamble.meta_raw, "metadata"));
  ASSIGN_OR_RETURN(ChunkDecoder decoder, ChunkDecoder::Create(allocator, 0));
  if (Status status = decoder.DecodeFrame(frame, raw.span()); !status.ok())
    return Prefixed(source, "metadata: ", status);
  Result<ModelSpec> parsed =
      ParseMetadata(raw.span(), preamble.meta_offset + preamble.meta_stored, source.size());
  if (!parsed.ok()) return Prefixed(source, "", parsed.status());
  ModelSpec& spec = *parsed;
  spec.format_major = preamble.major;
  spec.format_minor = preamble.minor;
  spec.file_bytes = source.size();
  spec.fingerprint = Checksum(raw.span());
  return parsed;
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
  const ChunkBufferBytes bytes = LargestChunk(spec, source);
  ASSIGN_OR_RETURN(ChunkDecoder decoder, ChunkDecoder::Create(allocator, bytes.raw));
  ASSIGN_OR_RETURN(Buffer stored, Buffer::Allocate(allocator, bytes.stored, "chunk"));
  ASSIGN_OR_RETURN(Buffer raw, Buffer::Allocate(allocator, bytes.raw, "chunk"));
  return ChunkReader(new Impl{spec, source, verify, std::move(decoder), std::move(stored), std::move(raw)});
}

ChunkReader::ChunkReader(ChunkReader&& other) noexcept { std::swap(impl_, other.impl_); }
ChunkReader& ChunkReader::operator=(ChunkReader&& other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}
ChunkReader::~ChunkReader() { delete impl_; }

Result<std::span<const uint8_t>> ChunkReader::Read(uint32_t index) {
  Impl& reader = *impl_;
  ASSIGN_OR_RETURN(const std::span<const uint8_t> stored,
                   FetchChunk(reader.spec, reader.source, index, reader.stored.span()));
  return DecodeChunk(reader.spec, reader.source, index, reader.verify, stored, &reader.decoder, reader.raw.span());
}

}  // namespace dsopt
