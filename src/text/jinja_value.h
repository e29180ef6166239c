// jinja_value.h - the values of chat templates: immutable, except namespaces. Not for: evaluating (jinja_eval).
#ifndef DSOPT_TEXT_JINJA_VALUE_H_
#define DSOPT_TEXT_JINJA_VALUE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/status.h"

namespace dsopt::jinja {

class Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  // in order of insertion

struct Undefined {};
struct None {};

struct Namespace;

// Cheap to copy. [thread-compatible]
class Value {
 public:
  Value() = default;
  Value(None) : data_(None{}) {}                            // NOLINT: implicit on purpose
  Value(bool b) : data_(b) {}                               // NOLINT
  Value(int64_t i) : data_(i) {}                            // NOLINT
  Value(std::string s) : weight_(s.size() + kBaseWeight) {  // NOLINT
    data_ = std::make_shared<const std::string>(std::move(s));
  }
  static Value FromList(List list);
  static Value FromDict(Dict dict);
  static Value NewNamespace();

  bool IsUndefined() const { return std::holds_alternative<Undefined>(data_); }
  bool IsNone() const { return std::holds_alternative<None>(data_); }
  const bool* AsBool() const { return std::get_if<bool>(&data_); }
  const int64_t* AsInt() const { return std::get_if<int64_t>(&data_); }
  const std::string* AsString() const { return Get<const std::string>(); }
  const List* AsList() const { return Get<const List>(); }
  const Dict* AsDict() const { return Get<const Dict>(); }
  Namespace* AsNamespace() const;

  bool Truth() const;
  // Levels of lists and dicts; a namespace counts as too deep to be put into anything.
  uint32_t depth() const { return depth_; }
  // About the bytes it takes to walk the whole value; shared parts count as often as they occur.
  uint64_t weight() const { return weight_; }
  // As Python's type names, for messages.
  const char* TypeName() const;

 private:
  template <typename T>
  T* Get() const {
    const auto* pointer = std::get_if<std::shared_ptr<T>>(&data_);
    return pointer == nullptr ? nullptr : pointer->get();
  }
  std::variant<Undefined, None, bool, int64_t, std::shared_ptr<const std::string>, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, std::shared_ptr<Namespace>>
      data_;
  static constexpr uint64_t kBaseWeight = 16;
  uint32_t depth_ = 0;
  uint64_t weight_ = kBaseWeight;
};

struct Namespace {
  Dict members;
};

inline constexpr uint32_t kMaxValueDepth = 32;
inline constexpr uint64_t kMaxValueWeight = uint64_t{256} << 20;

bool Equal(const Value& a, const Value& b);
// The member, or undefined.
Value FindMember(const Dict& dict, std::string_view key);
// How Python's str() shows a value; fails for lists and dicts.
Result<std::string> ToText(const Value& value);
// json.dumps(value, ensure_ascii=False, indent=indent); indent < 0: on one line.
Status AppendJson(const Value& value, int64_t indent, uint32_t level, std::string* out);
// str.strip() and its halves; chars empty: white space.
std::string_view StripText(std::string_view text, std::string_view chars, bool left, bool right);
size_t CharCount(std::string_view text);

}  // namespace dsopt::jinja
#endif  // DSOPT_TEXT_JINJA_VALUE_H_
