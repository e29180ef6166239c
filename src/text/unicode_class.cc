#include "text/unicode_class.h"

#include <utf8proc.h>

#include <array>

namespace dsopt {
namespace {

bool IsWhiteSpace(uint32_t cp) {
  return (cp >= 9 && cp <= 13) || cp == 0x20 || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
         (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F ||
         cp == 0x3000;
}

constexpr std::array<uint8_t, 128> MakeAscii() {
  std::array<uint8_t, 128> out{};
  for (uint32_t c = 0; c < 128; ++c) {
    uint8_t bits = 0;
    if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
      bits = kClassLetter;
    else if (c >= '0' && c <= '9')
      bits = kClassNumber;
    else if (c == '\r' || c == '\n')
      bits = kClassSpace | kClassNewline;
    else if ((c >= 9 && c <= 13) || c == ' ')
      bits = kClassSpace;
    else if (c == '$' || c == '+' || c == '<' || c == '=' || c == '>' || c == '^' || c == '`' || c == '|' ||
             c == '~')
      bits = kClassSymbol;
    else if (c > ' ' && c < 127)
      bits = kClassPunctuation;
    out[c] = bits;
  }
  return out;
}
constexpr std::array<uint8_t, 128> kAscii = MakeAscii();

}  // namespace

uint8_t UnicodeClass(uint32_t cp) {
  if (cp < 128) return kAscii[cp];
  const auto space = static_cast<uint8_t>(IsWhiteSpace(cp) ? kClassSpace : 0);
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(cp));
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return kClassLetter;
  if (category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME) return kClassMark;
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return kClassNumber;
  if (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO) return kClassPunctuation;
  if (category >= UTF8PROC_CATEGORY_SM && category <= UTF8PROC_CATEGORY_SO) return kClassSymbol;
  return space;
}

ClassedChar CharAt(std::string_view text, size_t pos) {
  ClassedChar out;
  if (pos >= text.size()) return out;
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[pos + i])); };
  const uint32_t first = byte(0);
  if (first < 0x80) {
    out.code_point = first;
    out.length = 1;
    out.bits = kAscii[first];
    return out;
  }
  out.length = Utf8Length(text[pos]);
  if (pos + out.length > text.size()) out.length = 1;  // not reached for valid text
  uint32_t cp = out.length == 1 ? 0xFFFD : first & (0xFFu >> (out.length + 1));
  for (uint32_t i = 1; i < out.length; ++i) cp = cp << 6 | (byte(i) & 0x3F);
  out.code_point = cp;
  out.bits = UnicodeClass(cp);
  return out;
}

}  // namespace dsopt
