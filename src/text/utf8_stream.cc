#include "text/utf8_stream.h"

#include "base/utf8.h"

namespace dsopt {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

// Bytes of the maximal invalid subpart at the start of `bytes` (Unicode 3.9, table 3-8): the longest prefix
// that begins some valid character, at least one byte. DecodeUtf8 calls such a prefix incomplete when cut
// there.
size_t InvalidLength(std::string_view bytes) {
  size_t length = 1;
  while (length < bytes.size() && length < 3 && DecodeUtf8(bytes.substr(0, length + 1)).incomplete) ++length;
  return length;
}

}  // namespace

void Utf8Stream::Append(std::string_view bytes, std::string* out) {
  // Complete or refute the pending prefix byte by byte, then run over the rest in place.
  while (pending_len_ > 0 && !bytes.empty()) {
    pending_[pending_len_] = bytes[0];
    const std::string_view joined(pending_, pending_len_ + 1u);
    const Utf8Char c = DecodeUtf8(joined);
    if (c.length > 0) {
      out->append(joined);
      pending_len_ = 0;
      bytes.remove_prefix(1);
    } else if (c.incomplete) {
      ++pending_len_;
      bytes.remove_prefix(1);
    } else {
      out->append(kReplacement);  // the pending bytes are one maximal subpart; this byte starts afresh
      pending_len_ = 0;
    }
  }
  size_t pos = 0, valid_from = 0;
  while (pos < bytes.size()) {
    const Utf8Char c = DecodeUtf8(bytes.substr(pos));
    if (c.length > 0) {
      pos += c.length;
      continue;
    }
    out->append(bytes.substr(valid_from, pos - valid_from));
    if (c.incomplete) {
      for (; pos < bytes.size(); ++pos) pending_[pending_len_++] = bytes[pos];
      return;
    }
    out->append(kReplacement);
    pos += InvalidLength(bytes.substr(pos));
    valid_from = pos;
  }
  out->append(bytes.substr(valid_from));
}

void Utf8Stream::Flush(std::string* out) {
  if (pending_len_ > 0) out->append(kReplacement);
  pending_len_ = 0;
}

}  // namespace dsopt
