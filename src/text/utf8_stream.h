// utf8_stream.h - bytes of tokens in, whole UTF-8 characters out. Tokens may cut a character anywhere.
#ifndef DSOPT_TEXT_UTF8_STREAM_H_
#define DSOPT_TEXT_UTF8_STREAM_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace dsopt {

// [thread-compatible] Holds at most 3 pending bytes; allocates nothing itself.
class Utf8Stream {
 public:
  // Appends to *out every character that is complete; an invalid sequence becomes U+FFFD (one per maximal
  // invalid subpart, as the Unicode standard recommends, section 3.9).
  void Append(std::string_view bytes, std::string* out);
  // End of text: pending bytes become U+FFFD.
  void Flush(std::string* out);
  void Reset() { pending_len_ = 0; }

 private:
  char pending_[4] = {};
  uint8_t pending_len_ = 0;
};

}  // namespace dsopt
#endif  // DSOPT_TEXT_UTF8_STREAM_H_
