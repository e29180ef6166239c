// utf8.h - decoding and validation of UTF-8 (RFC 3629: no surrogates, no overlong forms, <= U+10FFFF).
#ifndef DSOPT_BASE_UTF8_H_
#define DSOPT_BASE_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dsopt {

struct Utf8Char {
  uint32_t code_point = 0;
  uint32_t length = 0;      // bytes; 0: text is empty or starts with an invalid or incomplete sequence
  bool incomplete = false;  // a valid prefix of a character that the text cuts off
};

// Decodes the first character.
Utf8Char DecodeUtf8(std::string_view text);
// Of the first byte that is not part of a whole character; npos: all are.
size_t InvalidUtf8Offset(std::string_view text);
bool IsValidUtf8(std::string_view text);
// Appends the encoding of code_point (<= 0x10FFFF, not a surrogate).
void AppendUtf8(uint32_t code_point, std::string* out);

}  // namespace dsopt
#endif  // DSOPT_BASE_UTF8_H_
