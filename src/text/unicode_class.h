// unicode_class.h - general categories as bits, for pre-tokenizers and white space rules. Data: utf8proc.
#ifndef DSOPT_TEXT_UNICODE_CLASS_H_
#define DSOPT_TEXT_UNICODE_CLASS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace dsopt {

enum : uint8_t {
  kClassLetter = 1,        // \p{L}
  kClassNumber = 2,        // \p{N}
  kClassSpace = 4,         // \s, the White_Space property
  kClassNewline = 8,       // [\r\n]
  kClassPunctuation = 16,  // \p{P}
  kClassSymbol = 32,       // \p{S}
  kClassMark = 64,         // \p{M}
};

uint8_t UnicodeClass(uint32_t code_point);

struct ClassedChar {
  uint32_t code_point = 0;
  uint32_t length = 0;  // bytes; 0 at the end of the text
  uint8_t bits = 0;
  bool Is(uint8_t mask) const { return (bits & mask) != 0; }
};

// The character at text[pos]; text is valid UTF-8 and pos at a character's start or text.size().
ClassedChar CharAt(std::string_view text, size_t pos);

// Bytes of the character that starts with this byte, in valid UTF-8.
inline uint32_t Utf8Length(char first) {
  const auto b = static_cast<unsigned char>(first);
  return b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
}

}  // namespace dsopt
#endif  // DSOPT_TEXT_UNICODE_CLASS_H_
