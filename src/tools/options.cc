#include "tools/options.h"

#include <cmath>
#include <cstdio>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace dsopt::tools {
namespace {

constexpr size_t kHelpColumn = 30;
constexpr size_t kHelpWidth = 100;

Status Usage(std::string message) { return Status(DSOPT_E_INVALID_ARGUMENT, std::move(message)); }

template <typename T>
std::function<Status(const std::string&)> Integer(T* variable) {
  return [variable](const std::string& text) {
    T value = 0;
    if (!absl::SimpleAtoi(text, &value)) return Usage(absl::StrCat("'", text, "' is not a number from 0"));
    *variable = value;
    return Status();
  };
}

std::function<Status(const std::string&)> Real(std::function<void(float)> set) {
  return [set](const std::string& text) {
    float value = 0;
    if (!absl::SimpleAtof(text, &value) || std::isnan(value)) {
      return Usage(absl::StrCat("'", text, "' is not a number"));
    }
    set(value);
    return Status();
  };
}

// Appends "  left    help", the help broken into lines.
void AppendEntry(const std::string& left, const std::string& help, std::string* out) {
  std::string line = absl::StrCat("  ", left);
  if (line.size() + 2 > kHelpColumn) {
    absl::StrAppend(out, line, "\n");
    line.clear();
  }
  line.resize(kHelpColumn, ' ');
  for (const std::string& word : static_cast<std::vector<std::string>>(absl::StrSplit(help, ' '))) {
    if (line.size() > kHelpColumn && line.size() + 1 + word.size() > kHelpWidth) {
      absl::StrAppend(out, line, "\n");
      line.assign(kHelpColumn, ' ');
    }
    absl::StrAppend(&line, line.size() > kHelpColumn ? " " : "", word);
  }
  absl::StrAppend(out, line, "\n");
}

}  // namespace

Options::Options(std::string command, std::string synopsis, std::string description)
    : command_(std::move(command)), synopsis_(std::move(synopsis)), description_(std::move(description)) {}

void Options::Add(std::string names, std::string value, std::string help,
                  std::function<Status(const std::string&)> set) {
  const std::vector<std::string> parts = absl::StrSplit(names, ',');
  Entry entry{parts[0], '\0', std::move(value), std::move(help), std::move(set)};
  if (parts.size() > 1 && parts[1].size() == 1) entry.letter = parts[1][0];
  entries_.push_back(std::move(entry));
}

void Options::Flag(std::string names, bool* variable, std::string help) {
  Add(std::move(names), "", std::move(help), [variable](const std::string&) {
    *variable = true;
    return Status();
  });
}

void Options::Value(std::string names, std::string value, std::string* variable, std::string help) {
  Add(std::move(names), std::move(value), std::move(help), [variable](const std::string& text) {
    *variable = text;
    return Status();
  });
}

void Options::Value(std::string names, std::string value, std::optional<std::string>* variable, std::string help) {
  Add(std::move(names), std::move(value), std::move(help), [variable](const std::string& text) {
    *variable = text;
    return Status();
  });
}

void Options::Value(std::string names, std::string value, uint32_t* variable, std::string help) {
  Add(std::move(names), std::move(value), std::move(help), Integer(variable));
}

void Options::Value(std::string names, std::string value, uint64_t* variable, std::string help) {
  Add(std::move(names), std::move(value), std::move(help), Integer(variable));
}

void Options::Value(std::string names, std::string value, float* variable, std::string help) {
  Add(std::move(names), std::move(value), std::move(help), Real([variable](float x) { *variable = x; }));
}

void Options::Value(std::string names, std::string value, std::optional<float>* variable, std::string help) {
  Add(std::move(names), std::move(value), std::move(help), Real([variable](float x) { *variable = x; }));
}

void Options::Choice(std::string names, std::vector<std::string> words, std::string* variable, std::string help) {
  const std::string shown = absl::StrJoin(words, "|");
  Add(std::move(names), shown, std::move(help), [variable, words, shown](const std::string& text) {
    for (const std::string& word : words) {
      if (word != text) continue;
      *variable = text;
      return Status();
    }
    return Usage(absl::StrCat("'", text, "' is not one of ", shown));
  });
}

void Options::List(std::string names, std::string value, std::vector<std::string>* variable, std::string help) {
  Add(std::move(names), std::move(value), std::move(help), [variable](const std::string& text) {
    variable->push_back(text);
    return Status();
  });
}

void Options::Positional(std::string name, std::string* variable, std::string help) {
  places_.push_back({std::move(name), std::move(help), variable});
}

void Options::Rest(std::string name, std::vector<std::string>* variable, std::string help) {
  rest_name_ = std::move(name);
  rest_help_ = std::move(help);
  rest_ = variable;
}

void Options::Check(std::function<Status()> check) { checks_.push_back(std::move(check)); }

const Options::Entry* Options::Find(std::string_view name) const {
  for (const Entry& entry : entries_) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

const Options::Entry* Options::FindLetter(char letter) const {
  for (const Entry& entry : entries_) {
    if (entry.letter == letter) return &entry;
  }
  return nullptr;
}

Status Options::ReadOption(const Arguments& arguments, size_t* index) const {
  const std::string& argument = arguments[*index];
  const bool is_long = argument[1] == '-';
  const size_t equals = is_long ? argument.find('=') : std::string::npos;
  const std::string shown = argument.substr(0, equals);
  const Entry* entry = is_long ? Find(shown.substr(2)) : argument.size() == 2 ? FindLetter(argument[1]) : nullptr;
  if (entry == nullptr) return Usage(absl::StrCat("unknown option '", shown, "'"));
  std::string text;
  if (entry->value.empty()) {
    if (equals != std::string::npos) return Usage(absl::StrCat("option '", shown, "' takes no value"));
  } else if (equals != std::string::npos) {
    text = argument.substr(equals + 1);
  } else {
    if (*index + 1 >= arguments.size()) return Usage(absl::StrCat("option '", shown, "' needs a value: ", entry->value));
    text = arguments[++*index];
  }
  Status status = entry->set(text);
  if (!status.ok()) return Usage(absl::StrCat("option '", shown, "': ", std::string(status.message())));
  return {};
}

Status Options::Read(const Arguments& arguments, bool* help) const {
  *help = false;
  size_t place = 0;
  bool only_positionals = false;
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument == "--help" || argument == "-h") {
      *help = true;
      return {};
    }
  }
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!only_positionals && argument == "--") {
      only_positionals = true;
    } else if (!only_positionals && argument.size() > 1 && argument[0] == '-') {
      RETURN_IF_ERROR(ReadOption(arguments, &i));
    } else if (place < places_.size()) {
      *places_[place++].variable = argument;
    } else if (rest_ != nullptr) {
      rest_->push_back(argument);
    } else {
      return Usage(absl::StrCat("unexpected argument '", argument, "'"));
    }
  }
  if (place < places_.size()) return Usage(absl::StrCat(places_[place].name, " is missing"));
  for (const std::function<Status()>& check : checks_) RETURN_IF_ERROR(check());
  return {};
}

std::optional<int> Options::Parse(const Arguments& arguments) const {
  bool help = false;
  const Status status = Read(arguments, &help);
  if (!status.ok()) {
    std::fprintf(stderr, "dsopt %s: %s (see dsopt %s --help)\n", command_.c_str(),
                 std::string(status.message()).c_str(), command_.c_str());
    return kExitUsage;
  }
  if (!help) return std::nullopt;
  std::fputs(Help().c_str(), stdout);
  return kExitOk;
}

std::string Options::Help() const {
  std::string out = absl::StrCat("usage: dsopt ", command_, synopsis_.empty() ? "" : " ", synopsis_, "\n\n",
                                 description_, "\n");
  if (!places_.empty() || rest_ != nullptr) absl::StrAppend(&out, "\narguments\n");
  for (const Place& place : places_) AppendEntry(place.name, place.help, &out);
  if (rest_ != nullptr) AppendEntry(rest_name_, rest_help_, &out);
  absl::StrAppend(&out, "\noptions\n");
  for (const Entry& entry : entries_) {
    std::string left = entry.letter != '\0' ? absl::StrCat("-", std::string(1, entry.letter), ", --", entry.name)
                                            : absl::StrCat("--", entry.name);
    if (!entry.value.empty()) absl::StrAppend(&left, " ", entry.value);
    AppendEntry(left, entry.help, &out);
  }
  AppendEntry("-h, --help", "print this and exit", &out);
  return out;
}

}  // namespace dsopt::tools
