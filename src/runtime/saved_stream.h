// saved_stream.h - the buffer of dsopt_stream_save: a header, the tokens, the used cache pages, a checksum.
// Reads hostile buffers: everything is checked before anything is copied. Little-endian.
#ifndef DSOPT_RUNTIME_SAVED_STREAM_H_
#define DSOPT_RUNTIME_SAVED_STREAM_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "dsopt/dsopt.h"

namespace dsopt {

inline constexpr char kSavedMagic[8] = {'D', 'S', 'O', 'P', 'T', 'K', 'V', '\n'};
inline constexpr uint32_t kSavedVersion = 1;
inline constexpr uint64_t kSavedAlign = 64;  // of the pages inside the buffer

struct SavedHeader {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t total_bytes;
  uint64_t checksum;     // XXH64, seed 0, of the whole buffer with this field 0
  uint64_t fingerprint;  // of the model file
  uint64_t page_bytes;
  uint32_t page_tokens;
  uint32_t kv_dtype;  // dsopt_dtype
  uint32_t token_count;
  uint32_t cached_tokens;  // <= token_count; pages = ceil(cached_tokens / page_tokens)
};
static_assert(sizeof(SavedHeader) == 64, "file format");

// What a saved stream must agree with.
struct SavedIdentity {
  uint64_t fingerprint = 0, page_bytes = 0;
  uint32_t page_tokens = 0;
  dsopt_dtype kv_dtype = DSOPT_DTYPE_DEFAULT;
  uint32_t vocab = 0, context = 0;
};

struct SavedStream {
  std::vector<dsopt_token> tokens;
  uint32_t cached_tokens = 0;
  std::span<const uint8_t> pages;  // into the buffer; page_bytes each
};

// Where things are in a buffer of that many tokens and pages.
struct SavedLayout {
  uint64_t pages_offset = 0, total_bytes = 0;
};
SavedLayout LayoutSaved(uint32_t token_count, uint32_t page_count, uint64_t page_bytes);

// Fills in header and tokens; the pages are in place already. buffer has exactly the size of the layout.
void SealSaved(const SavedIdentity& identity, std::span<const dsopt_token> tokens, uint32_t cached_tokens,
               std::span<uint8_t> buffer);

// DSOPT_E_CORRUPT: not a saved stream, cut off or damaged. DSOPT_E_VERSION: written by a newer library.
// DSOPT_E_UNSUPPORTED: of another model or with another cache layout.
Result<SavedStream> ParseSaved(const SavedIdentity& identity, std::span<const uint8_t> buffer);

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_SAVED_STREAM_H_
