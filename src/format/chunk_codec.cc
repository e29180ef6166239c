#include "format/chunk_codec.h"

#include <xxhash.h>
#include <zstd.h>

#include <cstring>
#include <utility>

#include "format/filter.h"

namespace dsopt {
namespace {

constexpr uint64_t kWorthIt = 97;  // percent of the raw size

Status Decompress(void* context, std::span<const uint8_t> frame, std::span<uint8_t> dst, const char* what) {
  const unsigned long long content = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (content != dst.size()) {
    return Error(DSOPT_E_CORRUPT, "%s: its zstd frame says %lld bytes, expected %zu", what, static_cast<long long>(content),
                 dst.size());
  }
  const size_t got = context != nullptr
                         ? ZSTD_decompressDCtx(static_cast<ZSTD_DCtx*>(context), dst.data(), dst.size(), frame.data(),
                                               frame.size())
                         : ZSTD_decompress(dst.data(), dst.size(), frame.data(), frame.size());
  if (ZSTD_isError(got)) return Error(DSOPT_E_CORRUPT, "%s: zstd: %s", what, ZSTD_getErrorName(got));
  if (got != dst.size()) {
    return Error(DSOPT_E_CORRUPT, "%s: its zstd frame gives %zu bytes, expected %zu", what, got, dst.size());
  }
  return Status();
}

}  // namespace

uint64_t Checksum(std::span<const uint8_t> bytes) { return XXH64(bytes.data(), bytes.size(), 0); }

Status DecompressFrame(std::span<const uint8_t> frame, std::span<uint8_t> dst, const char* what) {
  return Decompress(nullptr, frame, dst, what);
}

Result<ChunkDecoder> ChunkDecoder::Create(const dsopt_allocator& allocator, uint32_t max_raw_bytes) {
  ChunkDecoder decoder;
  ASSIGN_OR_RETURN(decoder.plane_, Buffer::Allocate(allocator, max_raw_bytes / 2, "chunk decoder"));
  decoder.context_ = ZSTD_createDCtx();
  if (decoder.context_ == nullptr) return Error(DSOPT_E_OUT_OF_MEMORY, "chunk decoder: zstd context");
  return decoder;
}

ChunkDecoder::ChunkDecoder(ChunkDecoder&& other) noexcept { *this = std::move(other); }
ChunkDecoder& ChunkDecoder::operator=(ChunkDecoder&& other) noexcept {
  std::swap(context_, other.context_);
  std::swap(plane_, other.plane_);
  return *this;
}
ChunkDecoder::~ChunkDecoder() { ZSTD_freeDCtx(static_cast<ZSTD_DCtx*>(context_)); }

Status ChunkDecoder::Decode(const ChunkSpec& chunk, std::span<const uint8_t> stored, std::span<uint8_t> dst) {
  if (stored.size() != chunk.stored_size || dst.size() != chunk.raw_size) {
    return Error(DSOPT_E_INTERNAL, "chunk: buffers of %zu and %zu bytes, expected %u and %u", stored.size(), dst.size(),
                 chunk.stored_size, chunk.raw_size);
  }
  if (chunk.codec == Codec::kStored) {
    if (chunk.stored_size != chunk.raw_size) return Error(DSOPT_E_CORRUPT, "chunk: stored and raw sizes differ");
    std::memcpy(dst.data(), stored.data(), dst.size());
    return Status();
  }
  if (chunk.filter == Filter::kNone) return Decompress(context_, stored, dst, "chunk");
  const size_t count = chunk.raw_size / 2;
  if (chunk.raw_size % 2 != 0 || stored.size() <= count || count > plane_.size()) {
    return Error(DSOPT_E_CORRUPT, "chunk: %u bytes cannot be byte planes of %zu stored bytes", chunk.raw_size,
                 stored.size());
  }
  RETURN_IF_ERROR(Decompress(context_, stored.subspan(count), plane_.span().first(count), "chunk"));
  JoinPlanes(stored.data(), plane_.data(), count, dst.data());
  return Status();
}

ChunkEncoder::ChunkEncoder(int zstd_level) : context_(ZSTD_createCCtx()), level_(zstd_level) {}
ChunkEncoder::~ChunkEncoder() { ZSTD_freeCCtx(static_cast<ZSTD_CCtx*>(context_)); }

Result<std::span<const uint8_t>> ChunkEncoder::Encode(std::span<const uint8_t> raw, uint32_t element_bytes,
                                                      bool compress, ChunkSpec* chunk) {
  chunk->raw_size = static_cast<uint32_t>(raw.size());
  chunk->raw_checksum = Checksum(raw);
  chunk->codec = Codec::kStored;
  chunk->filter = Filter::kNone;
  chunk->element_bytes = static_cast<uint8_t>(element_bytes);
  std::span<const uint8_t> out = raw;
  if (compress) {
    if (context_ == nullptr) return Error(DSOPT_E_OUT_OF_MEMORY, "chunk encoder: zstd context");
    const bool planes = element_bytes == 2 && raw.size() % 2 == 0;
    const size_t plain = planes ? raw.size() / 2 : 0;
    std::span<const uint8_t> packed = raw;
    stored_.resize(plain + ZSTD_compressBound(raw.size() - plain));
    if (planes) {
      high_.resize(plain);
      SplitPlanes(raw.data(), plain, stored_.data(), high_.data());
      packed = high_;
    }
    const size_t size = ZSTD_compressCCtx(static_cast<ZSTD_CCtx*>(context_), stored_.data() + plain,
                                          stored_.size() - plain, packed.data(), packed.size(), level_);
    if (ZSTD_isError(size)) return Error(DSOPT_E_INTERNAL, "chunk encoder: zstd: %s", ZSTD_getErrorName(size));
    if ((plain + size) * 100 < raw.size() * kWorthIt) {
      out = std::span<const uint8_t>(stored_).first(plain + size);
      chunk->codec = Codec::kZstd;
      chunk->filter = planes ? Filter::kBytePlanes : Filter::kNone;
    }
  }
  chunk->stored_size = static_cast<uint32_t>(out.size());
  chunk->stored_checksum = Checksum(out);
  return out;
}

}  // namespace dsopt
