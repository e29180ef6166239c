// jinja_builtins.cc - filters, tests and methods of chat templates.
#include <algorithm>
#include <charconv>

#include "base/utf8.h"
#include "text/jinja_eval.h"

namespace dsopt::jinja {
namespace {

constexpr std::string_view kFilters[] = {
    "trim",       "length", "count",   "tojson", "default",    "d",          "first",   "last",
    "upper",      "lower",  "join",    "string", "int",        "list",       "replace", "safe",
    "capitalize", "title",  "reverse", "map",    "selectattr", "rejectattr", "items"};
constexpr std::string_view kTests[] = {"defined",  "undefined", "none",   "string",  "mapping",
                                       "iterable", "sequence",  "number", "integer", "boolean",
                                       "true",     "false",     "odd",    "even",    "divisibleby",
                                       "eq",       "equalto",   "ne",     "in"};

Status Wrong(const char* what, std::string_view name, const Value& value) {
  return Error(DSOPT_E_INVALID_ARGUMENT, "%s '%.*s' of a %s", what, static_cast<int>(name.size()), name.data(),
               value.TypeName());
}

// Simple case mapping of ASCII, and of other letters by nothing: templates only change case of role names.
std::string ChangeCase(std::string_view text, bool upper) {
  std::string out(text);
  for (char& c : out) {
    if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::string Capitalize(std::string_view text) {
  std::string out = ChangeCase(text, false);
  if (!out.empty()) out[0] = ChangeCase(out.substr(0, 1), true)[0];
  return out;
}

std::string Title(std::string_view text) {
  std::string out = ChangeCase(text, false);
  bool start = true;
  for (char& c : out) {
    const bool letter = (c >= 'a' && c <= 'z') || static_cast<unsigned char>(c) >= 0x80;
    if (letter && start && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    start = !letter;
  }
  return out;
}

Result<Value> Replace(std::string_view text, const Arguments& args, Budget* budget) {
  const Value old_value = args.Get(0, "old"), new_value = args.Get(1, "new");
  const std::string *from = old_value.AsString(), *to = new_value.AsString();
  if (from == nullptr || to == nullptr || from->empty()) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "replace takes two strings, the first not empty");
  }
  std::string out;
  size_t pos = 0;
  for (size_t hit = text.find(*from); hit != std::string_view::npos; hit = text.find(*from, pos)) {
    RETURN_IF_ERROR(budget->Bytes(hit - pos + to->size()));
    out.append(text.substr(pos, hit - pos)).append(*to);
    pos = hit + from->size();
  }
  RETURN_IF_ERROR(budget->Bytes(text.size() - pos));
  out.append(text.substr(pos));
  return Value(std::move(out));
}

// str.split(separator, most): without a separator at runs of white space.
Result<Value> Split(std::string_view text, const Arguments& args, Budget* budget) {
  const Value separator = args.Get(0, "sep"), most_value = args.Get(1, "maxsplit");
  int64_t most = most_value.AsInt() != nullptr ? *most_value.AsInt() : -1;
  List out;
  if (const std::string* sep = separator.AsString()) {
    if (sep->empty()) return Error(DSOPT_E_INVALID_ARGUMENT, "split at an empty string");
    size_t pos = 0;
    for (size_t hit = text.find(*sep); hit != std::string_view::npos && most-- != 0;
         hit = text.find(*sep, pos)) {
      RETURN_IF_ERROR(budget->Step());
      out.push_back(Value(std::string(text.substr(pos, hit - pos))));
      pos = hit + sep->size();
    }
    out.push_back(Value(std::string(text.substr(pos))));
  } else {
    text = StripText(text, "", true, false);
    while (!text.empty()) {
      RETURN_IF_ERROR(budget->Step());
      size_t end = most-- == 0 ? text.size() : std::min(text.find_first_of(" \t\n\r\f\v"), text.size());
      out.push_back(Value(std::string(StripText(text.substr(0, end), "", false, end == text.size()))));
      text = StripText(text.substr(end), "", true, false);
    }
  }
  RETURN_IF_ERROR(budget->Bytes(text.size()));
  return MakeList(std::move(out));
}

Result<Value> StringMethod(std::string_view name, const std::string& text, const Arguments& args,
                           Budget* budget) {
  RETURN_IF_ERROR(budget->Bytes(text.size()));
  const Value first = args.Get(0, "chars");
  const std::string* argument = first.AsString();
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    return Value(
        std::string(StripText(text, argument == nullptr ? "" : *argument, name != "rstrip", name != "lstrip")));
  }
  if (name == "startswith" || name == "endswith") {
    if (argument == nullptr) return Wrong("argument of", name, first);
    return Value(name == "startswith" ? text.starts_with(*argument) : text.ends_with(*argument));
  }
  if (name == "upper") return Value(ChangeCase(text, true));
  if (name == "lower") return Value(ChangeCase(text, false));
  if (name == "capitalize") return Value(Capitalize(text));
  if (name == "title") return Value(Title(text));
  if (name == "split") return Split(text, args, budget);
  if (name == "replace") return Replace(text, args, budget);
  return Error(DSOPT_E_UNSUPPORTED, "method '%.*s' of a str is not supported", static_cast<int>(name.size()),
               name.data());
}

Result<Value> Pairs(const Dict& dict, std::string_view part) {
  List out;
  for (const auto& [key, value] : dict) {
    if (part == "keys") {
      out.push_back(Value(key));
    } else if (part == "values") {
      out.push_back(value);
    } else {
      ASSIGN_OR_RETURN(Value pair, MakeList({Value(key), value}));
      out.push_back(std::move(pair));
    }
  }
  return MakeList(std::move(out));
}

Result<Value> Join(const Value& value, const Arguments& args, Budget* budget) {
  ASSIGN_OR_RETURN(const List items, Elements(value, budget));
  ASSIGN_OR_RETURN(const std::string separator, ToText(args.Get(0, "d")));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(const std::string text, ToText(items[i]));
    RETURN_IF_ERROR(budget->Bytes(text.size() + separator.size()));
    if (i > 0) out += separator;
    out += text;
  }
  return Value(std::move(out));
}

// map(attribute="x"), selectattr("x", test, argument), rejectattr
Result<Value> ByAttribute(std::string_view filter, const Value& value, const Arguments& args, Budget* budget) {
  const Value name = filter == "map" ? FindMember(args.keywords, "attribute") : args.Get(0, "attr");
  if (name.AsString() == nullptr) {
    return Error(DSOPT_E_UNSUPPORTED, "filter '%.*s' without an attribute", static_cast<int>(filter.size()),
                 filter.data());
  }
  const Value test = args.Get(1, "test");
  if (test.AsString() != nullptr && !IsKnownTest(*test.AsString())) {
    return Error(DSOPT_E_UNSUPPORTED, "test '%.60s' is not supported", test.AsString()->c_str());
  }
  ASSIGN_OR_RETURN(const List items, Elements(value, budget));
  List out;
  for (const Value& item : items) {
    const Value member = item.AsDict() != nullptr ? FindMember(*item.AsDict(), *name.AsString()) : Value();
    if (filter == "map") {
      out.push_back(member);
      continue;
    }
    bool keep = member.Truth();
    if (test.AsString() != nullptr) {
      Arguments rest;
      if (args.positional.size() > 2) rest.positional.push_back(args.positional[2]);
      ASSIGN_OR_RETURN(const Value result, ApplyTest(*test.AsString(), member, rest, budget));
      keep = result.Truth();
    }
    if (keep == (filter == "selectattr")) out.push_back(item);
  }
  return MakeList(std::move(out));
}

Result<Value> ToInt(const Value& value, const Arguments& args) {
  if (value.AsInt() != nullptr) return value;
  if (const bool* b = value.AsBool()) return Value(int64_t{*b ? 1 : 0});
  const Value missing = args.Get(0, "default");
  if (const std::string* text = value.AsString()) {
    const std::string_view digits = StripText(*text, "", true, true);
    int64_t out = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    if (error == std::errc() && end == digits.data() + digits.size()) return Value(out);
  }
  return missing.IsUndefined() ? Value(int64_t{0}) : missing;
}

Result<Value> ToJson(const Value& value, const Arguments& args, Budget* budget) {
  const Value indent = FindMember(args.keywords, "indent");
  const int64_t spaces = indent.AsInt() == nullptr ? -1 : *indent.AsInt();
  if (spaces > 16)
    return Error(DSOPT_E_UNSUPPORTED, "tojson with an indent of %lld", static_cast<long long>(spaces));
  std::string out;
  RETURN_IF_ERROR(budget->Bytes(value.weight()));
  RETURN_IF_ERROR(AppendJson(value, spaces, 0, &out));
  RETURN_IF_ERROR(budget->Bytes(out.size()));
  return Value(std::move(out));
}

Result<Value> Length(const Value& value) {
  if (const std::string* s = value.AsString()) return Value(static_cast<int64_t>(CharCount(*s)));
  if (const List* l = value.AsList()) return Value(static_cast<int64_t>(l->size()));
  if (const Dict* d = value.AsDict()) return Value(static_cast<int64_t>(d->size()));
  if (value.IsUndefined()) return Value(int64_t{0});
  return Wrong("filter", "length", value);
}

Result<Value> ListFilter(std::string_view name, const Value& value, Budget* budget) {
  ASSIGN_OR_RETURN(List items, Elements(value, budget));
  if (name == "list") return MakeList(std::move(items));
  if (name == "first") return items.empty() ? Value() : items.front();
  if (name == "last") return items.empty() ? Value() : items.back();
  std::reverse(items.begin(), items.end());
  if (value.AsString() == nullptr) return MakeList(std::move(items));
  ASSIGN_OR_RETURN(const Value joined, MakeList(std::move(items)));
  return Join(joined, {}, budget);
}

}  // namespace

bool IsKnownFilter(std::string_view name) {
  return std::find(std::begin(kFilters), std::end(kFilters), name) != std::end(kFilters);
}
bool IsKnownTest(std::string_view name) {
  return std::find(std::begin(kTests), std::end(kTests), name) != std::end(kTests);
}

Result<Value> MakeList(List list) {
  Value out = Value::FromList(std::move(list));
  if (out.depth() > kMaxValueDepth || out.weight() > kMaxValueWeight) {
    return Error(DSOPT_E_UNSUPPORTED, "a list nested more than %u deep or of more than %llu bytes",
                 kMaxValueDepth, static_cast<unsigned long long>(kMaxValueWeight));
  }
  return out;
}

Result<Value> MakeDict(Dict dict) {
  Value out = Value::FromDict(std::move(dict));
  if (out.depth() > kMaxValueDepth || out.weight() > kMaxValueWeight) {
    return Error(DSOPT_E_UNSUPPORTED, "a dict nested more than %u deep or of more than %llu bytes",
                 kMaxValueDepth, static_cast<unsigned long long>(kMaxValueWeight));
  }
  return out;
}

Result<List> Elements(const Value& value, Budget* budget) {
  List out;
  if (const List* list = value.AsList()) {
    out = *list;
  } else if (const Dict* dict = value.AsDict()) {
    for (const auto& entry : *dict) out.push_back(Value(entry.first));
  } else if (const std::string* text = value.AsString()) {
    RETURN_IF_ERROR(budget->Step(text->size()));
    for (size_t pos = 0; pos < text->size();) {
      const size_t length = std::max(1u, DecodeUtf8(std::string_view(*text).substr(pos)).length);
      out.push_back(Value(text->substr(pos, length)));
      pos += length;
    }
  } else if (!value.IsUndefined()) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "a %s has no elements", value.TypeName());
  }
  RETURN_IF_ERROR(budget->Step(out.size()));
  return out;
}

Result<Value> ApplyFilter(std::string_view name, const Value& value, const Arguments& args, Budget* budget) {
  if (name == "default" || name == "d") {
    const Value falsy = args.Get(1, "boolean"), other = args.Get(0, "default_value");
    const bool replace = value.IsUndefined() || (falsy.Truth() && !value.Truth());
    if (!replace) return value;
    return other.IsUndefined() ? Value(std::string()) : other;
  }
  if (value.AsString() != nullptr) RETURN_IF_ERROR(budget->Bytes(value.AsString()->size()));
  if (name == "length" || name == "count") return Length(value);
  if (name == "tojson") return ToJson(value, args, budget);
  if (name == "int") return ToInt(value, args);
  if (name == "join") return Join(value, args, budget);
  if (name == "map" || name == "selectattr" || name == "rejectattr")
    return ByAttribute(name, value, args, budget);
  if (name == "items") {
    if (value.IsUndefined()) return MakeList({});
    if (value.AsDict() == nullptr) return Wrong("filter", name, value);
    return Pairs(*value.AsDict(), "items");
  }
  if (name == "first" || name == "last" || name == "list" || name == "reverse")
    return ListFilter(name, value, budget);
  // The rest works on text.
  ASSIGN_OR_RETURN(std::string text, ToText(value));
  if (name == "string" || name == "safe") return Value(std::move(text));
  return StringMethod(name == "trim" ? "strip" : name, text, args, budget);
}

Result<Value> ApplyTest(std::string_view name, const Value& value, const Arguments& args, Budget* budget) {
  const int64_t* number = value.AsInt();
  const Value argument = args.Get(0, "");
  if (name == "defined") return Value(!value.IsUndefined());
  if (name == "undefined") return Value(value.IsUndefined());
  if (name == "none") return Value(value.IsNone());
  if (name == "string") return Value(value.AsString() != nullptr);
  if (name == "mapping") return Value(value.AsDict() != nullptr);
  if (name == "iterable" || name == "sequence") {
    const bool undefined_too = value.IsUndefined();  // Jinja's Undefined can be iterated and measured
    return Value(value.AsString() != nullptr || value.AsList() != nullptr || value.AsDict() != nullptr ||
                 undefined_too);
  }
  if (name == "number") return Value(number != nullptr || value.AsBool() != nullptr);
  if (name == "integer") return Value(number != nullptr);
  if (name == "boolean") return Value(value.AsBool() != nullptr);
  if (name == "true" || name == "false")
    return Value(value.AsBool() != nullptr && *value.AsBool() == (name == "true"));
  if (name == "eq" || name == "equalto") return ApplyBinary("==", value, argument, budget);
  if (name == "ne") return ApplyBinary("!=", value, argument, budget);
  if (name == "in") return ApplyBinary("in", value, argument, budget);
  if (number == nullptr) return Wrong("test", name, value);
  if (name == "divisibleby") {
    if (argument.AsInt() == nullptr) return Wrong("argument of", name, argument);
    ASSIGN_OR_RETURN(const Value rest, ApplyBinary("%", value, argument, budget));
    return Value(!rest.Truth());
  }
  return Value((*number % 2 == 0) == (name == "even"));
}

Result<Value> CallMethod(std::string_view name, const Value& object, const Arguments& args, Budget* budget) {
  if (const std::string* text = object.AsString()) return StringMethod(name, *text, args, budget);
  if (const Dict* dict = object.AsDict()) {
    if (name == "items" || name == "keys" || name == "values") return Pairs(*dict, name);
    if (name == "get") {
      const Value key = args.Get(0, "key");
      const Value found = key.AsString() == nullptr ? Value() : FindMember(*dict, *key.AsString());
      if (!found.IsUndefined()) return found;
      const Value missing = args.Get(1, "default");
      return missing.IsUndefined() ? Value(None{}) : missing;
    }
  }
  return Error(DSOPT_E_UNSUPPORTED, "method '%.*s' of a %s is not supported", static_cast<int>(name.size()),
               name.data(), object.TypeName());
}

}  // namespace dsopt::jinja
