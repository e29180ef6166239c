#include <catch2/catch.hpp>

#include "tools/bench.h"
#include "tools/perplexity.h"

namespace dsopt::tools {
namespace {

TEST_CASE("the first characters of a text are code points, not bytes", "[tools]") {
  REQUIRE(FirstCharacters("abc", 2) == "ab");
  REQUIRE(FirstCharacters("abc", 9) == "abc");
  REQUIRE(FirstCharacters("abc", 0) == "abc");
  REQUIRE(FirstCharacters("a\u00e9\u4e16\U0001F600z", 4) == "a\u00e9\u4e16\U0001F600");
  REQUIRE(FirstCharacters("\xff\xff\u00e9", 2) == "\xff\xff");  // invalid bytes count one each
  REQUIRE(FirstCharacters("", 5).empty());
}

TEST_CASE("every kind of line end becomes one newline", "[tools]") {
  REQUIRE(UnixNewlines("a\r\nb\rc\nd\r\r\n\n\r") == "a\nb\nc\nd\n\n\n\n");
  REQUIRE(UnixNewlines("").empty());
}

TEST_CASE("percentiles are nearest ranks", "[tools]") {
  REQUIRE(Percentile({}, 50) == 0);
  REQUIRE(Percentile({3}, 99) == 3);
  REQUIRE(Percentile({1, 2, 3, 4}, 50) == 2);
  REQUIRE(Percentile({1, 2, 3, 4}, 99) == 4);
  std::vector<double> hundred;
  for (int i = 1; i <= 100; ++i) hundred.push_back(i);
  REQUIRE(Percentile(hundred, 99) == 99);
  REQUIRE(Percentile(hundred, 0) == 1);
}

}  // namespace
}  // namespace dsopt::tools
