#include "plan.h"

#include <nlohmann/json.hpp>

namespace {

constexpr size_t kMaxObject = 1024;  // bytes of one action

struct TextField {
  const char* key;
  std::string Action::*member;
};
constexpr TextField kTexts[] = {{"action", &Action::verb},
                                {"target", &Action::target},
                                {"object", &Action::object},
                                {"color", &Action::color},
                                {"size", &Action::size},
                                {"from", &Action::from},
                                {"to", &Action::to},
                                {"room", &Action::room},
                                {"relation", &Action::relation},
                                {"direction", &Action::direction},
                                {"text", &Action::text},
                                {"name", &Action::name},
                                {"reason", &Action::reason},
                                {"state", &Action::state},
                                {"person", &Action::person},
                                {"value", &Action::value},
                                {"for", &Action::to}};

struct NumberField {
  const char* key;
  double Action::*member;
};
constexpr NumberField kNumbers[] = {{"count", &Action::count},
                                    {"meters", &Action::meters},
                                    {"steps", &Action::steps},
                                    {"degrees", &Action::degrees},
                                    {"seconds", &Action::seconds}};

void SetField(const std::string& key, const nlohmann::json& value, Action* action) {
  if (value.is_string() && key == "count") action->all = value.get<std::string>() == "all";
  if (value.is_number() && key == "value") action->value = value.dump();
  for (const TextField& field : kTexts)
    if (value.is_string() && key == field.key) action->*field.member = value.get<std::string>();
  for (const NumberField& field : kNumbers)
    if (value.is_number() && key == field.key) action->*field.member = value.get<double>();
}

}  // namespace

bool PlanReader::Fail(std::string message) {
  error_ = std::move(message);
  return false;
}

bool PlanReader::Parse(std::vector<Action>* out) {
  const nlohmann::json object = nlohmann::json::parse(object_, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return Fail("not a JSON object: " + object_);
  Action action;
  for (const auto& [key, value] : object.items()) SetField(key, value, &action);
  if (action.verb.empty()) return Fail("an action without the field \"action\": " + object_);
  action.json = object_;
  out->push_back(std::move(action));
  return true;
}

bool PlanReader::Add(std::string_view piece, std::vector<Action>* out) {
  if (!error_.empty()) return false;
  for (const char c : piece) {
    if (in_object_) {
      object_ += c;
      if (object_.size() > kMaxObject) return Fail("an action of more than 1024 bytes");
      if (in_string_) {
        in_string_ = escaped_ || c != '"';
        escaped_ = !escaped_ && c == '\\';
      } else if (c == '"') {
        in_string_ = true;
      } else if (c == '}') {
        in_object_ = false;
        if (!Parse(out)) return false;
      }
    } else if (c == '{' && opened_ && !closed_) {
      in_object_ = true;
      object_ = c;
    } else if (c == '[' && !opened_) {
      opened_ = true;
    } else if (c == ']' && opened_) {
      closed_ = true;
    } else if (c != ',' && c != ' ' && c != '\n') {
      return Fail(std::string("'") + c + "' where an action was expected");
    }
  }
  return true;
}

std::string Describe(const Action& action) {
  std::string text;
  const auto add = [&](const std::string& word) {
    if (!word.empty()) text += (text.empty() ? "" : " ") + word;
  };
  if (action.all) add("all");
  if (action.count > 0) add(std::to_string(static_cast<int>(action.count)));
  add(action.size);
  add(action.color);
  add(action.object.empty() ? action.target : action.object);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}
