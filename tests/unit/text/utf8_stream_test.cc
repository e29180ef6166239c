#include "text/utf8_stream.h"

#include <catch2/catch.hpp>
#include <random>

#include "base/utf8.h"

namespace dsopt {
namespace {

std::string Stream(std::string_view bytes, size_t step) {
  Utf8Stream stream;
  std::string out;
  for (size_t pos = 0; pos < bytes.size(); pos += step) stream.Append(bytes.substr(pos, step), &out);
  stream.Flush(&out);
  return out;
}

constexpr const char* kBad = "\xEF\xBF\xBD";

}  // namespace

TEST_CASE("a character cut anywhere appears once its last byte is there", "[text]") {
  Utf8Stream stream;
  std::string out;
  stream.Append("a\xF0\x9F", &out);
  CHECK(out == "a");
  stream.Append("\x98", &out);
  CHECK(out == "a");
  stream.Append("\x80z", &out);
  CHECK(out == "a\xF0\x9F\x98\x80z");
  stream.Append("\xE4\xB8", &out);
  stream.Reset();
  stream.Append("b", &out);
  CHECK(out == "a\xF0\x9F\x98\x80zb");
}

TEST_CASE("each maximal invalid subpart becomes one replacement character", "[text]") {
  const std::string bad = kBad;
  for (const size_t step : {1, 2, 3, 100}) {
    CAPTURE(step);
    // Table 3-8 of the Unicode standard, and its neighbours 3-9 to 3-11.
    CHECK(Stream("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", step) ==
          "a" + bad + bad + bad + "b" + bad + "c" + bad + bad + "d");
    CHECK(Stream("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", step) ==
          bad + bad + bad + bad + bad + bad + bad + bad + "A");
    CHECK(Stream("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", step) ==
          bad + bad + bad + bad + bad + bad + bad + bad + "A");
    CHECK(Stream("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", step) == bad + bad + bad + bad + "A");
    CHECK(Stream("x\xF0\x9F\x98", step) == "x" + bad);
  }
}

TEST_CASE("how bytes are cut into calls never changes the text", "[text]") {
  std::mt19937 random(9);
  for (int round = 0; round < 500; ++round) {
    std::string bytes;
    for (int i = 0; i < 40; ++i) {
      if (random() % 2 == 0)
        AppendUtf8(static_cast<uint32_t>(random() % 0xD000 + 1), &bytes);
      else
        bytes += static_cast<char>(random());
    }
    const std::string whole = Stream(bytes, bytes.size());
    REQUIRE(IsValidUtf8(whole));
    for (const size_t step : {1, 2, 3, 5}) REQUIRE(Stream(bytes, step) == whole);
  }
}

}  // namespace dsopt
