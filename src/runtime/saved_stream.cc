#include "runtime/saved_stream.h"

#include <xxhash.h>

#include <cstring>

namespace dsopt {
namespace {

constexpr size_t kChecksumOffset = offsetof(SavedHeader, checksum);

uint64_t Checksum(std::span<const uint8_t> buffer) {
  SavedHeader header;
  std::memcpy(&header, buffer.data(), sizeof header);
  header.checksum = 0;
  const uint64_t head = XXH64(&header, sizeof header, 0);
  return XXH64(buffer.data() + sizeof header, buffer.size() - sizeof header, head);
}

uint32_t PageCount(uint32_t tokens, uint32_t page_tokens) {
  return static_cast<uint32_t>((static_cast<uint64_t>(tokens) + page_tokens - 1) / page_tokens);
}

Status CheckIdentity(const SavedIdentity& identity, const SavedHeader& header) {
  if (header.fingerprint != identity.fingerprint) {
    return Error(DSOPT_E_UNSUPPORTED, "saved stream: of model %016llx, this session runs %016llx",
                 static_cast<unsigned long long>(header.fingerprint),
                 static_cast<unsigned long long>(identity.fingerprint));
  }
  if (header.kv_dtype != static_cast<uint32_t>(identity.kv_dtype) ||
      header.page_tokens != identity.page_tokens || header.page_bytes != identity.page_bytes) {
    return Error(DSOPT_E_UNSUPPORTED,
                 "saved stream: cache type %u in pages of %u tokens and %llu bytes, this "
                 "session has type %d, %u tokens and %llu bytes",
                 header.kv_dtype, header.page_tokens, static_cast<unsigned long long>(header.page_bytes),
                 static_cast<int>(identity.kv_dtype), identity.page_tokens,
                 static_cast<unsigned long long>(identity.page_bytes));
  }
  return Status();
}

// Counts first: the layout computed from them cannot overflow once they are within the model's limits.
Status CheckCounts(const SavedIdentity& identity, const SavedHeader& header, size_t buffer_bytes) {
  if (header.token_count > identity.context || header.cached_tokens > header.token_count) {
    return Error(DSOPT_E_CORRUPT, "saved stream: %u tokens with %u in the cache, the model's context has %u",
                 header.token_count, header.cached_tokens, identity.context);
  }
  const uint32_t pages = PageCount(header.cached_tokens, identity.page_tokens);
  const SavedLayout layout = LayoutSaved(header.token_count, pages, identity.page_bytes);
  if (layout.total_bytes != buffer_bytes) {
    return Error(DSOPT_E_CORRUPT, "saved stream: %zu bytes, %llu expected for %u tokens and %u pages",
                 buffer_bytes, static_cast<unsigned long long>(layout.total_bytes), header.token_count, pages);
  }
  return Status();
}

}  // namespace

SavedLayout LayoutSaved(uint32_t token_count, uint32_t page_count, uint64_t page_bytes) {
  SavedLayout layout;
  const uint64_t tokens_end = sizeof(SavedHeader) + static_cast<uint64_t>(token_count) * sizeof(dsopt_token);
  layout.pages_offset = (tokens_end + kSavedAlign - 1) / kSavedAlign * kSavedAlign;
  layout.total_bytes = layout.pages_offset + page_count * page_bytes;
  return layout;
}

void SealSaved(const SavedIdentity& identity, std::span<const dsopt_token> tokens, uint32_t cached_tokens,
               std::span<uint8_t> buffer) {
  SavedHeader header = {};
  std::memcpy(header.magic, kSavedMagic, sizeof header.magic);
  header.version = kSavedVersion;
  header.header_bytes = sizeof header;
  header.total_bytes = buffer.size();
  header.fingerprint = identity.fingerprint;
  header.page_bytes = identity.page_bytes;
  header.page_tokens = identity.page_tokens;
  header.kv_dtype = static_cast<uint32_t>(identity.kv_dtype);
  header.token_count = static_cast<uint32_t>(tokens.size());
  header.cached_tokens = cached_tokens;
  const uint32_t pages = PageCount(cached_tokens, identity.page_tokens);
  const uint64_t pages_offset = LayoutSaved(header.token_count, pages, identity.page_bytes).pages_offset;
  std::memset(buffer.data(), 0, pages_offset);  // padding included: equal streams give equal headers
  std::memcpy(buffer.data(), &header, sizeof header);
  if (!tokens.empty()) std::memcpy(buffer.data() + sizeof header, tokens.data(), tokens.size_bytes());
  header.checksum = Checksum(buffer);
  std::memcpy(buffer.data() + kChecksumOffset, &header.checksum, sizeof header.checksum);
}

Result<SavedStream> ParseSaved(const SavedIdentity& identity, std::span<const uint8_t> buffer) {
  SavedHeader header;
  if (buffer.size() < sizeof header) {
    return Error(DSOPT_E_CORRUPT, "saved stream: %zu bytes, at least %zu expected", buffer.size(),
                 sizeof header);
  }
  std::memcpy(&header, buffer.data(), sizeof header);
  if (std::memcmp(header.magic, kSavedMagic, sizeof header.magic) != 0) {
    return Error(DSOPT_E_CORRUPT, "saved stream: the buffer does not begin with its magic");
  }
  if (header.version > kSavedVersion) {
    return Error(DSOPT_E_VERSION, "saved stream: version %u, this library reads up to %u", header.version,
                 kSavedVersion);
  }
  if (header.version == 0 || header.header_bytes != sizeof header || header.total_bytes != buffer.size()) {
    return Error(DSOPT_E_CORRUPT,
                 "saved stream: version %u, header of %u bytes, %llu bytes in all; the buffer has "
                 "%zu",
                 header.version, header.header_bytes, static_cast<unsigned long long>(header.total_bytes),
                 buffer.size());
  }
  if (const uint64_t checksum = Checksum(buffer); checksum != header.checksum) {
    return Error(DSOPT_E_CORRUPT, "saved stream: checksum %016llx, %016llx expected",
                 static_cast<unsigned long long>(checksum), static_cast<unsigned long long>(header.checksum));
  }
  RETURN_IF_ERROR(CheckIdentity(identity, header));
  RETURN_IF_ERROR(CheckCounts(identity, header, buffer.size()));
  SavedStream saved;
  saved.cached_tokens = header.cached_tokens;
  saved.tokens.resize(header.token_count);
  if (!saved.tokens.empty()) {
    std::memcpy(saved.tokens.data(), buffer.data() + sizeof header, saved.tokens.size() * sizeof(dsopt_token));
  }
  for (dsopt_token token : saved.tokens) {
    if (token < 0 || static_cast<uint32_t>(token) >= identity.vocab) {
      return Error(DSOPT_E_CORRUPT, "saved stream: token %d, expected 0 to %u", token, identity.vocab - 1);
    }
  }
  const uint32_t pages = PageCount(header.cached_tokens, identity.page_tokens);
  saved.pages = buffer.subspan(LayoutSaved(header.token_count, pages, identity.page_bytes).pages_offset);
  return saved;
}

}  // namespace dsopt
