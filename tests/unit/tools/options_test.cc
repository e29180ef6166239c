#include "tools/options.h"

#include <catch2/catch.hpp>

namespace dsopt::tools {
namespace {

struct Parsed {
  std::string file, word = "first";
  std::vector<std::string> list, rest;
  bool flag = false;
  uint32_t number = 7;
  std::optional<float> real;
  bool help = false;
  Status status;
};

Parsed Parse(const Arguments& arguments, bool with_rest = false) {
  Parsed out;
  Options options("test", "FILE", "A test.");
  options.Positional("FILE", &out.file, "a file");
  if (with_rest) options.Rest("WORD...", &out.rest, "more");
  options.Flag("flag,f", &out.flag, "a flag");
  options.Value("number,n", "N", &out.number, "a number");
  options.Value("real", "X", &out.real, "a number");
  options.List("item", "X", &out.list, "an item");
  options.Choice("word", {"first", "second"}, &out.word, "a word");
  out.status = options.Read(arguments, &out.help);
  return out;
}

TEST_CASE("options may be given in every usual spelling", "[tools]") {
  for (const Arguments& arguments : {Arguments{"a", "--number", "5", "--flag"}, Arguments{"--number=5", "-f", "a"},
                                     Arguments{"-n", "5", "a", "-f"}, Arguments{"-f", "-n", "5", "--", "a"}}) {
    const Parsed parsed = Parse(arguments);
    REQUIRE(parsed.status.ok());
    REQUIRE(parsed.file == "a");
    REQUIRE(parsed.number == 5);
    REQUIRE(parsed.flag);
    REQUIRE_FALSE(parsed.real.has_value());
  }
}

TEST_CASE("options that are absent keep the value of their variable", "[tools]") {
  const Parsed parsed = Parse({"a"});
  REQUIRE(parsed.status.ok());
  REQUIRE(parsed.number == 7);
  REQUIRE(parsed.word == "first");
  REQUIRE_FALSE(parsed.flag);
}

TEST_CASE("list options collect and negative numbers are values", "[tools]") {
  const Parsed parsed = Parse({"a", "--item", "x", "--item=y=z", "--item", "-", "--real", "-2.5"});
  REQUIRE(parsed.status.ok());
  REQUIRE(parsed.list == std::vector<std::string>{"x", "y=z", "-"});
  REQUIRE(*parsed.real == -2.5f);
}

TEST_CASE("what follows -- is not an option", "[tools]") {
  const Parsed parsed = Parse({"--", "--flag", "--help", "-"}, true);
  REQUIRE(parsed.status.ok());
  REQUIRE(parsed.file == "--flag");
  REQUIRE(parsed.rest == std::vector<std::string>{"--help", "-"});
  REQUIRE_FALSE(parsed.help);
}

TEST_CASE("wrong usage is refused with the option's name", "[tools]") {
  const std::pair<Arguments, const char*> cases[] = {
      {{}, "FILE is missing"},
      {{"a", "b"}, "unexpected argument 'b'"},
      {{"a", "--nope"}, "unknown option '--nope'"},
      {{"a", "-q"}, "unknown option '-q'"},
      {{"a", "-nf"}, "unknown option '-nf'"},
      {{"a", "--number"}, "option '--number' needs a value: N"},
      {{"a", "--number", "x"}, "option '--number': 'x' is not a number from 0"},
      {{"a", "--number", "-1"}, "option '--number': '-1' is not a number from 0"},
      {{"a", "--number", "4294967296"}, "'4294967296' is not a number from 0"},
      {{"a", "--real", "nan"}, "'nan' is not a number"},
      {{"a", "--flag=1"}, "option '--flag' takes no value"},
      {{"a", "--word", "third"}, "'third' is not one of first|second"},
  };
  for (const auto& [arguments, message] : cases) {
    const Parsed parsed = Parse(arguments);
    REQUIRE_FALSE(parsed.status.ok());
    REQUIRE_THAT(std::string(parsed.status.message()), Catch::Contains(message));
  }
}

TEST_CASE("--help wins over every mistake", "[tools]") {
  const Parsed parsed = Parse({"--nope", "--help"});
  REQUIRE(parsed.status.ok());
  REQUIRE(parsed.help);
}

TEST_CASE("the help names every option and keeps its lines short", "[tools]") {
  std::string variable;
  Options options("test", "FILE", "A test.");
  options.Positional("FILE", &variable, "a file");
  std::string long_help;
  for (int i = 0; i < 40; ++i) long_help += "word" + std::to_string(i) + " ";
  options.Value("long-option-with-a-name,l", "SOMETHING", &variable, long_help + "end");
  const std::string help = options.Help();
  REQUIRE_THAT(help, Catch::StartsWith("usage: dsopt test FILE\n") && Catch::Contains("-l, --long-option-with-a-name") &&
                         Catch::Contains("word39") && Catch::Contains("-h, --help"));
  size_t start = 0;
  while (start < help.size()) {
    const size_t end = help.find('\n', start);
    REQUIRE(end != std::string::npos);
    REQUIRE(end - start <= 100);
    start = end + 1;
  }
}

}  // namespace
}  // namespace dsopt::tools
