// options.h - command line options of one subcommand: --name value, --name=value, -n value, flags, positionals.
// Knows nothing of what the options mean.
#ifndef DSOPT_TOOLS_OPTIONS_H_
#define DSOPT_TOOLS_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tools/commands.h"

namespace dsopt::tools {

// Declare, Parse, then read the variables. Use:
//   Options options("tokenize", "FILE -p TEXT", "Turns text into token ids.");
//   options.Positional("FILE", &file, "model file");
//   options.Flag("json", &json, "print one JSON object");
//   if (std::optional<int> code = options.Parse(arguments)) return *code;
class Options {
 public:
  Options(std::string command, std::string synopsis, std::string description);

  // Names are without dashes; "prompt,p" also accepts -p. `value` is the word shown in the help. A variable keeps
  // what it held when its option is absent. Variables must outlive Parse.
  void Flag(std::string names, bool* variable, std::string help);
  void Value(std::string names, std::string value, std::string* variable, std::string help);
  void Value(std::string names, std::string value, std::optional<std::string>* variable, std::string help);
  void Value(std::string names, std::string value, uint32_t* variable, std::string help);
  void Value(std::string names, std::string value, uint64_t* variable, std::string help);
  void Value(std::string names, std::string value, float* variable, std::string help);
  void Value(std::string names, std::string value, std::optional<float>* variable, std::string help);
  // One of the listed words.
  void Choice(std::string names, std::vector<std::string> words, std::string* variable, std::string help);
  // May be given several times.
  void List(std::string names, std::string value, std::vector<std::string>* variable, std::string help);
  // Arguments without a name, in order of declaration; required.
  void Positional(std::string name, std::string* variable, std::string help);
  // All further arguments without a name; may be none.
  void Rest(std::string name, std::vector<std::string>* variable, std::string help);
  // A check over several options, made after parsing; its message is a usage error.
  void Check(std::function<Status()> check);

  // nullopt: go on. Otherwise the exit code: 0 after --help, 2 after a usage error (one line on stderr).
  std::optional<int> Parse(const Arguments& arguments) const;
  // As Parse, without printing. help is set when --help was seen.
  Status Read(const Arguments& arguments, bool* help) const;
  std::string Help() const;

 private:
  struct Entry {
    std::string name;  // long
    char letter = 0;   // short; 0: none
    std::string value; // empty: a flag
    std::string help;
    std::function<Status(const std::string& text)> set;
  };
  struct Place {
    std::string name, help;
    std::string* variable;
  };
  void Add(std::string names, std::string value, std::string help, std::function<Status(const std::string&)> set);
  const Entry* Find(std::string_view name) const;
  const Entry* FindLetter(char letter) const;
  Status ReadOption(const Arguments& arguments, size_t* index) const;

  std::string command_, synopsis_, description_;
  std::vector<Entry> entries_;
  std::vector<Place> places_;
  std::string rest_name_, rest_help_;
  std::vector<std::string>* rest_ = nullptr;
  std::vector<std::function<Status()>> checks_;
};

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_OPTIONS_H_
