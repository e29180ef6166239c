// answers_test.cc - what the examples make of the model's text: whatever the pieces it comes in, and whatever
// it is.
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "examples/robot_loop/plan.h"
extern "C" {
#include "examples/game_npc/speech.h"
}

namespace {

const std::string kPlan =
    R"([{"action":"pick","object":"cup","color":"red","from":"table"},)"
    R"({"action":"say","text":"a \"b\" } c","to":"anna"},{"action":"wait","seconds":10},)"
    R"({"action":"turn_off","target":"light","count":"all"},{"action":"gesture","name":"wave"}])";

std::vector<std::string> Json(const std::vector<Action>& actions) {
  std::vector<std::string> list;
  for (const Action& action : actions) list.push_back(action.json);
  return list;
}

// The text in pieces of random length.
template <typename Sink>
void Feed(const std::string& text, std::mt19937* random, Sink&& sink) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = std::min<size_t>(1 + (*random)() % 7, text.size() - at);
    sink(std::string_view(text).substr(at, length));
    at += length;
  }
}

std::string Garbage(std::mt19937* random) {
  constexpr std::string_view kPool = "[]{}\",:\\ \n0aaction\xff";
  std::string text;
  for (size_t i = (*random)() % 400; i > 0; --i) text += kPool[(*random)() % kPool.size()];
  return text;
}

}  // namespace

TEST_CASE("a plan is read in pieces as it is read at once", "[examples]") {
  std::vector<Action> whole;
  PlanReader reader;
  REQUIRE(reader.Add(kPlan, &whole));
  REQUIRE(reader.complete());
  REQUIRE(whole.size() == 5);
  CHECK(whole[0].object == "cup");
  CHECK(whole[0].from == "table");
  CHECK(whole[1].text == "a \"b\" } c");
  CHECK(whole[2].seconds == 10);
  CHECK(whole[3].all);
  CHECK(whole[4].name == "wave");
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Action> actions;
    PlanReader pieces;
    Feed(kPlan, &random, [&](std::string_view piece) { REQUIRE(pieces.Add(piece, &actions)); });
    CHECK(pieces.complete());
    CHECK(Json(actions) == Json(whole));
  }
}

TEST_CASE("an action is handed out when its brace has come, not before", "[examples]") {
  std::vector<Action> actions;
  PlanReader reader;
  REQUIRE(reader.Add(R"([{"action":"goto","target":"kitchen")", &actions));
  CHECK(actions.empty());
  REQUIRE(reader.Add("}", &actions));
  REQUIRE(actions.size() == 1);
  CHECK(actions[0].target == "kitchen");
  CHECK_FALSE(reader.complete());
}

TEST_CASE("text that is no plan is refused with a message", "[examples]") {
  for (const char* text : {"Hello", "{\"action\":\"goto\"}", "[1]", "[{\"target\":\"x\"}]", "[{\"action\":1}]",
                           "[{]}", "[{\"action\" \"goto\"}]"}) {
    CAPTURE(text);
    std::vector<Action> actions;
    PlanReader reader;
    CHECK_FALSE(reader.Add(text, &actions));
    CHECK_FALSE(reader.error().empty());
    CHECK_FALSE(reader.Add("[]", &actions));
    CHECK(actions.empty());
  }
  std::vector<Action> actions;
  PlanReader reader;
  CHECK_FALSE(reader.Add("[{\"action\":\"" + std::string(2000, 'x'), &actions));
}

TEST_CASE("a bubble says the same whatever the pieces", "[examples]") {
  auto whole = std::make_unique<Speech>();
  speech_begin(whole.get());
  speech_add(whole.get(), kPlan.data(), kPlan.size());
  CHECK(std::string(whole->text) ==
        "take cup (red) from table\nsay \"a \"b\" } c\" to anna\nwait 10 s\nturn off light (all)\nwave");
  CHECK(whole->actions == 5);
  CHECK(whole->closed == 1);
  CHECK(std::string(whole->gesture) == "wave");
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    auto pieces = std::make_unique<Speech>();
    speech_begin(pieces.get());
    Feed(kPlan, &random, [&](std::string_view piece) { speech_add(pieces.get(), piece.data(), piece.size()); });
    CHECK(std::string(pieces->text) == whole->text);
  }
}

TEST_CASE("a bubble shows the text of other models as it is, and no more than fits", "[examples]") {
  auto speech = std::make_unique<Speech>();
  speech_begin(speech.get());
  const std::string text = "Once upon a time " + std::string(5000, 'x');
  speech_add(speech.get(), text.data(), text.size());
  CHECK(speech->plain == 1);
  CHECK(std::string(speech->text) == text.substr(0, sizeof speech->text - 1));
}

TEST_CASE("any bytes leave plans and bubbles within their bounds", "[examples]") {
  std::mt19937 random(3);
  for (int round = 0; round < 20'000; ++round) {
    const std::string text = (round % 2 != 0 ? "[" : "") + Garbage(&random);
    CAPTURE(round, text);
    std::vector<Action> actions;
    PlanReader reader;
    if (!reader.Add(text, &actions)) CHECK_FALSE(reader.error().empty());
    auto speech = std::make_unique<Speech>();
    speech_begin(speech.get());
    speech_add(speech.get(), text.data(), text.size());
    CHECK(std::strlen(speech->text) == speech->length);
    CHECK(std::strlen(speech->gesture) < sizeof speech->gesture);
  }
}
