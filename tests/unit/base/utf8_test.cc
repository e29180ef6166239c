// UTF-8 against the table of RFC 3629, section 4, written as ranges of bytes: every sequence of up to three
// bytes, and all of four with boundary values at each place.
#include "base/utf8.h"

#include <catch2/catch.hpp>
#include <set>
#include <vector>

namespace dsopt {
namespace {

struct Range {
  unsigned low, high;
};
using Form = std::vector<Range>;  // one range per byte

const std::vector<Form> kForms = {
    {{0x00, 0x7F}},
    {{0xC2, 0xDF}, {0x80, 0xBF}},
    {{0xE0, 0xE0}, {0xA0, 0xBF}, {0x80, 0xBF}},
    {{0xE1, 0xEC}, {0x80, 0xBF}, {0x80, 0xBF}},
    {{0xED, 0xED}, {0x80, 0x9F}, {0x80, 0xBF}},
    {{0xEE, 0xEF}, {0x80, 0xBF}, {0x80, 0xBF}},
    {{0xF0, 0xF0}, {0x90, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}},
    {{0xF1, 0xF3}, {0x80, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}},
    {{0xF4, 0xF4}, {0x80, 0x8F}, {0x80, 0xBF}, {0x80, 0xBF}},
};

// How many leading bytes of text are allowed by the form.
size_t Matching(const Form& form, std::string_view text) {
  size_t n = 0;
  while (n < form.size() && n < text.size()) {
    const unsigned byte = static_cast<unsigned char>(text[n]);
    if (byte < form[n].low || byte > form[n].high) break;
    ++n;
  }
  return n;
}

Utf8Char Expected(std::string_view text) {
  Utf8Char out;
  for (const Form& form : kForms) {
    const size_t matching = Matching(form, text);
    if (matching == form.size()) {
      static const unsigned kLeadBits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
      out.code_point = static_cast<unsigned char>(text[0]) & kLeadBits[form.size()];
      for (size_t i = 1; i < form.size(); ++i) {
        out.code_point = out.code_point << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
      }
      out.length = static_cast<uint32_t>(form.size());
      return out;
    }
    if (!text.empty() && matching == text.size()) out.incomplete = true;
  }
  return out;
}

bool Agrees(std::string_view text) {
  const Utf8Char found = DecodeUtf8(text), expected = Expected(text);
  return found.length == expected.length && found.incomplete == expected.incomplete &&
         (expected.length == 0 || found.code_point == expected.code_point);
}

TEST_CASE("every sequence of up to three bytes decodes as the RFC says", "[base]") {
  CHECK(Agrees(""));
  size_t wrong = 0;
  for (unsigned a = 0; a < 256; ++a) {
    char text[3] = {static_cast<char>(a)};
    wrong += !Agrees({text, 1});
    for (unsigned b = 0; b < 256; ++b) {
      text[1] = static_cast<char>(b);
      wrong += !Agrees({text, 2});
      for (unsigned c = 0; c < 256; ++c) {
        text[2] = static_cast<char>(c);
        wrong += !Agrees({text, 3});
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("sequences of four bytes with a boundary at each place decode as the RFC says", "[base]") {
  std::set<unsigned> edges = {0x00, 0x41, 0xFF};
  for (const Form& form : kForms) {
    for (const Range& range : form) {
      for (unsigned edge : {range.low, range.high}) {
        if (edge > 0) edges.insert(edge - 1);
        edges.insert(edge);
        if (edge < 255) edges.insert(edge + 1);
      }
    }
  }
  size_t wrong = 0;
  for (unsigned a = 0; a < 256; ++a) {
    for (unsigned b : edges) {
      for (unsigned c : edges) {
        for (unsigned d : edges) {
          const char text[4] = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c),
                                static_cast<char>(d)};
          wrong += !Agrees({text, 4});
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("every code point is encoded to what decodes to it", "[base]") {
  size_t wrong = 0;
  for (uint32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
    std::string text = "x";
    AppendUtf8(code_point, &text);
    const Utf8Char decoded = DecodeUtf8(std::string_view(text).substr(1));
    wrong += decoded.code_point != code_point || decoded.length != text.size() - 1 || !IsValidUtf8(text);
    for (size_t cut = 1; cut < decoded.length; ++cut) {  // a cut character is a prefix, not an error
      const Utf8Char part = DecodeUtf8(std::string_view(text).substr(1, cut));
      wrong += part.length != 0 || !part.incomplete;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("a text is valid only if all of it is", "[base]") {
  CHECK(IsValidUtf8(""));
  CHECK(IsValidUtf8(std::string_view("a\0b", 3)));
  CHECK(IsValidUtf8("\xF0\x9F\x98\x80 \xE2\x82\xAC"));
  CHECK_FALSE(IsValidUtf8("abc\xE2\x82"));
  CHECK_FALSE(IsValidUtf8("\x80"));
  CHECK_FALSE(IsValidUtf8("a\xC0\x80z"));
  CHECK_FALSE(IsValidUtf8("\xED\xA0\x80"));
}

}  // namespace
}  // namespace dsopt
