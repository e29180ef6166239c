#include "base/utf8.h"

namespace dsopt {

Utf8Char DecodeUtf8(std::string_view text) {
  Utf8Char out;
  if (text.empty()) return out;
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[i])); };
  const uint32_t first = byte(0);
  if (first < 0x80) {
    out.code_point = first;
    out.length = 1;
    return out;
  }
  // Range of the second byte depends on the first: it excludes overlong forms, surrogates and > U+10FFFF.
  uint32_t length, low = 0x80, high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return out;
  }
  uint32_t code_point = first & (0xFFu >> (length + 1));
  for (uint32_t i = 1; i < length; ++i) {
    if (i >= text.size()) {
      out.incomplete = true;
      return out;
    }
    const uint32_t b = byte(i);
    if (b < low || b > high) return out;
    low = 0x80;
    high = 0xBF;
    code_point = code_point << 6 | (b & 0x3F);
  }
  out.code_point = code_point;
  out.length = length;
  return out;
}

size_t InvalidUtf8Offset(std::string_view text) {
  size_t pos = 0;
  while (pos < text.size()) {
    const Utf8Char c = DecodeUtf8(text.substr(pos));
    if (c.length == 0) return pos;
    pos += c.length;
  }
  return std::string_view::npos;
}

bool IsValidUtf8(std::string_view text) { return InvalidUtf8Offset(text) == std::string_view::npos; }

void AppendUtf8(uint32_t cp, std::string* out) {
  if (cp < 0x80) {
    out->push_back(static_cast<char>(cp));
  } else if (cp < 0x800) {
    out->push_back(static_cast<char>(0xC0 | cp >> 6));
    out->push_back(static_cast<char>(0x80 | (cp & 0x3F)));
  } else if (cp < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | cp >> 12));
    out->push_back(static_cast<char>(0x80 | (cp >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (cp & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | cp >> 18));
    out->push_back(static_cast<char>(0x80 | (cp >> 12 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (cp >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (cp & 0x3F)));
  }
}

}  // namespace dsopt
