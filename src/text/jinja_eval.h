// jinja_eval.h - runs a parsed chat template within limits of steps and bytes. Not for: parsing.
#ifndef DSOPT_TEXT_JINJA_EVAL_H_
#define DSOPT_TEXT_JINJA_EVAL_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/jinja_ast.h"
#include "text/jinja_value.h"

namespace dsopt::jinja {

// Arguments of a call: positional ones and keywords.
struct Arguments {
  std::vector<Value> positional;
  Dict keywords;
  // The argument at `index` or under `name`; undefined if absent.
  Value Get(size_t index, std::string_view name) const {
    return index < positional.size() ? positional[index] : FindMember(keywords, name);
  }
};

// What one rendering may use. Every value that grows is charged before it is made.
class Budget {
 public:
  Status Step(uint64_t count = 1) {
    steps_ += count;
    if (steps_ <= kMaxSteps) return {};
    return Error(DSOPT_E_UNSUPPORTED, "more than %llu steps", static_cast<unsigned long long>(kMaxSteps));
  }
  Status Bytes(uint64_t count) {
    bytes_ += count;
    if (bytes_ <= kMaxBytes) return {};
    return Error(DSOPT_E_UNSUPPORTED, "more than %llu bytes of text made",
                 static_cast<unsigned long long>(kMaxBytes));
  }

 private:
  static constexpr uint64_t kMaxSteps = 2000000, kMaxBytes = uint64_t{256} << 20;
  uint64_t steps_ = 0, bytes_ = 0;
};

Result<Value> ApplyFilter(std::string_view name, const Value& value, const Arguments& args, Budget* budget);
Result<Value> ApplyTest(std::string_view name, const Value& value, const Arguments& args, Budget* budget);
Result<Value> CallMethod(std::string_view name, const Value& object, const Arguments& args, Budget* budget);
Result<Value> ApplyBinary(std::string_view op, const Value& a, const Value& b, Budget* budget);
Result<Value> Slice(const Value& object, const Value& from, const Value& to, const Value& step, Budget* budget);
// The elements a loop walks: of a list, the keys of a dict, the characters of a string.
Result<List> Elements(const Value& value, Budget* budget);
// Refuses a value nested too deep to be stored.
Result<Value> MakeList(List list);
Result<Value> MakeDict(Dict dict);

// globals: the variables that the template sees.
Result<std::string> Render(const Block& block, Dict globals);

}  // namespace dsopt::jinja
#endif  // DSOPT_TEXT_JINJA_EVAL_H_
