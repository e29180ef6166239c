// data/chat_cases.json was made with jinja2 3.1.6, set up as transformers does, on templates written for it.
#include "text/chat_template.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "import/tokenizer_import.h"
#include "tests/unit/text/helpers.h"

namespace dsopt {
namespace {

using Json = nlohmann::json;

Result<std::string> Render(const std::string& source, const Json& messages, bool add) {
  std::vector<ChatMessage> list;
  for (const Json& message : messages) {
    list.push_back(
        {message["role"].get_ref<const std::string&>(), message["content"].get_ref<const std::string&>()});
  }
  auto parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return (*parsed)->Render(list, "<s>", "</s>", add);
}

Result<std::string> Render(const std::string& source) { return Render(source, Json::array(), false); }

}  // namespace

TEST_CASE("templates render as jinja2 renders them", "[text]") {
  const Json cases =
      Json::parse(ReadFile(std::filesystem::path(DSOPT_SOURCE_DIR) / "tests/unit/text/data/chat_cases.json"));
  REQUIRE(cases.size() > 140);
  for (const Json& c : cases) {
    const std::string name = c["name"], source = c["template"];
    CAPTURE(name, source);
    const Result<std::string> out = Render(source, c["messages"], c["add"]);
    INFO(std::string(out.status().message()));
    REQUIRE(out.ok() == c["ok"].get<bool>());
    if (out.ok())
      CHECK(*out == c["expected"].get<std::string>());
    else
      CHECK(std::string(out.status().message()).find(c["expected"].get<std::string>()) != std::string::npos);
  }
}

TEST_CASE("the checkpoints' own templates parse and render", "[text]") {
  const auto data = DataFolder();
  if (!data) return;
  for (const char* name : {"llama-12m", "mistral-10m", "mixtral-13m", "deepseek-v2-14m"}) {
    const Result<std::string> source = ImportChatTemplate(*data / "checkpoints" / name);
    REQUIRE(source.ok());
    const Result<std::string> out = Render(*source, Json::parse(R"([{"role":"user","content":"Hi"}])"), true);
    REQUIRE(out.ok());
    CHECK(*out == "<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  }
  CHECK(ImportChatTemplate(*data / "text").status().code() == DSOPT_E_NOT_FOUND);
}

TEST_CASE("what leaves the subset is named with its line", "[text]") {
  for (const char* source : {"\n{% macro f() %}{% endmacro %}", "\n{{ x | nosuch }}", "\n{{ x is nosuch }}",
                             "\n{% include 'x' %}", "\n{{ 1.5 }}"}) {
    const Status status = ChatTemplate::Parse(source).status();
    CAPTURE(source, std::string(status.message()));
    CHECK(status.code() == DSOPT_E_UNSUPPORTED);
    CHECK(std::string(status.message()).find("line 2") != std::string::npos);
  }
  for (const char* source :
       {"{% if %}", "{{ 'a }}", "{% for x %}", "{% endfor %}", "{{ (1 }}", "{{ 1", "{% if 1 %}", "{# "}) {
    CAPTURE(source);
    CHECK_FALSE(ChatTemplate::Parse(source).ok());
  }
}

TEST_CASE("templates that would run or grow without bound are stopped", "[text]") {
  for (const char* source :
       {"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ "
        "ns.s }}",
        "{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = [ns.l] %}{% endfor %}",
        "{% set ns = namespace(l=['x']) %}{% for i in range(30) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ "
        "ns.l == ns.l }}{{ ns.l|tojson|length }}",
        "{% for i in range(1000000) %}{% endfor %}"}) {
    CAPTURE(source);
    CHECK(Render(source).status().code() == DSOPT_E_UNSUPPORTED);
  }
  CHECK(ChatTemplate::Parse("{{ " + std::string(5000, '(') + std::string(5000, ')') + " }}").status().code() ==
        DSOPT_E_UNSUPPORTED);
  std::string sum = "{{ 1";
  for (int i = 0; i < 5000; ++i) sum += " + 1";
  CHECK(ChatTemplate::Parse(sum + " }}").status().code() == DSOPT_E_UNSUPPORTED);
}

}  // namespace dsopt
