// jinja_operators.cc - arithmetic, comparison, containment and slices of chat templates, as Python defines
// them.
#include <algorithm>
#include <optional>

#include "text/jinja_eval.h"

namespace dsopt::jinja {
namespace {

Result<int64_t> Arithmetic(char op, int64_t a, int64_t b) {
  int64_t out = 0;
  bool overflow = false;
  if (op == '+') overflow = __builtin_add_overflow(a, b, &out);
  if (op == '-') overflow = __builtin_sub_overflow(a, b, &out);
  if (op == '*') overflow = __builtin_mul_overflow(a, b, &out);
  if (op == '/' || op == '%') {
    if (b == 0) return Error(DSOPT_E_INVALID_ARGUMENT, "division by zero");
    if (b == -1) {
      overflow = op == '/' && __builtin_sub_overflow(int64_t{0}, a, &out);
    } else {
      const int64_t rest =
          a % b != 0 && (a % b < 0) != (b < 0) ? a % b + b : a % b;  // rounds down as Python does
      out = op == '%' ? rest : (a - rest) / b;
    }
  }
  if (overflow) return Error(DSOPT_E_UNSUPPORTED, "a number beyond 64 bits");
  return out;
}

Result<Value> Contains(const Value& element, const Value& container, Budget* budget) {
  if (const std::string* text = container.AsString()) {
    RETURN_IF_ERROR(budget->Bytes(text->size()));
    if (element.AsString() == nullptr)
      return Error(DSOPT_E_INVALID_ARGUMENT, "operator 'in' for a %s in a str", element.TypeName());
    return Value(text->find(*element.AsString()) != std::string::npos);
  }
  if (const Dict* dict = container.AsDict()) {
    return Value(element.AsString() != nullptr && !FindMember(*dict, *element.AsString()).IsUndefined());
  }
  if (container.IsUndefined()) return Value(false);
  if (container.AsList() == nullptr)
    return Error(DSOPT_E_INVALID_ARGUMENT, "operator 'in' a %s", container.TypeName());
  RETURN_IF_ERROR(budget->Bytes(container.weight()));
  return Value(std::any_of(container.AsList()->begin(), container.AsList()->end(),
                           [&](const Value& v) { return Equal(v, element); }));
}

Result<Value> Add(const Value& a, const Value& b, Budget* budget) {
  if (a.AsString() != nullptr && b.AsString() != nullptr) {
    RETURN_IF_ERROR(budget->Bytes(a.AsString()->size() + b.AsString()->size()));
    return Value(*a.AsString() + *b.AsString());
  }
  if (a.AsList() != nullptr && b.AsList() != nullptr) {
    RETURN_IF_ERROR(budget->Step(a.AsList()->size() + b.AsList()->size()));
    List out = *a.AsList();
    out.insert(out.end(), b.AsList()->begin(), b.AsList()->end());
    return MakeList(std::move(out));
  }
  return Error(DSOPT_E_INVALID_ARGUMENT, "cannot add a %s to a %s", b.TypeName(), a.TypeName());
}

}  // namespace

Result<Value> ApplyBinary(std::string_view op, const Value& a, const Value& b, Budget* budget) {
  if (op != "~" && op != "+") RETURN_IF_ERROR(budget->Bytes(std::min(a.weight(), b.weight())));
  if (op == "==") return Value(Equal(a, b));
  if (op == "!=") return Value(!Equal(a, b));
  if (op == "in" || op == "notin") {
    ASSIGN_OR_RETURN(const Value found, Contains(a, b, budget));
    return Value(found.Truth() == (op == "in"));
  }
  if (op == "~") {
    ASSIGN_OR_RETURN(const std::string left, ToText(a));
    ASSIGN_OR_RETURN(const std::string right, ToText(b));
    RETURN_IF_ERROR(budget->Bytes(left.size() + right.size()));
    return Value(left + right);
  }
  const auto number = [](const Value& v) -> std::optional<int64_t> {
    if (v.AsInt() != nullptr) return *v.AsInt();
    if (v.AsBool() != nullptr) return *v.AsBool() ? 1 : 0;
    return std::nullopt;
  };
  const std::optional<int64_t> x = number(a), y = number(b);
  int order = 0;
  if (x && y) {
    if (op == "+" || op == "-" || op == "*" || op == "//" || op == "%") {
      ASSIGN_OR_RETURN(const int64_t out, Arithmetic(op[0], *x, *y));
      return Value(out);
    }
    order = *x < *y ? -1 : *x > *y ? 1 : 0;
  } else if (op == "+") {
    return Add(a, b, budget);
  } else if (a.AsString() != nullptr && b.AsString() != nullptr && (op[0] == '<' || op[0] == '>')) {
    order = a.AsString()->compare(*b.AsString());
  } else {
    return Error(DSOPT_E_INVALID_ARGUMENT, "operator '%.*s' between a %s and a %s", static_cast<int>(op.size()),
                 op.data(), a.TypeName(), b.TypeName());
  }
  return Value(op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0);
}

Result<Value> Slice(const Value& object, const Value& from, const Value& to, const Value& step,
                    Budget* budget) {
  if (object.AsList() == nullptr && object.AsString() == nullptr) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "slice of a %s", object.TypeName());
  }
  ASSIGN_OR_RETURN(const List items, Elements(object, budget));
  const auto count = static_cast<int64_t>(items.size());
  const int64_t stride = step.AsInt() != nullptr ? *step.AsInt() : 1;
  if (stride == 0) return Error(DSOPT_E_INVALID_ARGUMENT, "a slice with step 0");
  const auto bound = [&](const Value& v, int64_t missing) {
    if (v.AsInt() == nullptr) return missing;
    const int64_t i = *v.AsInt() < 0 ? *v.AsInt() + count : *v.AsInt();
    return std::clamp<int64_t>(i, stride > 0 ? 0 : -1, stride > 0 ? count : count - 1);
  };
  const int64_t begin = bound(from, stride > 0 ? 0 : count - 1), end = bound(to, stride > 0 ? count : -1);
  List out;
  for (int64_t i = begin; stride > 0 ? i < end : i > end;) {
    out.push_back(items[static_cast<size_t>(i)]);
    if (__builtin_add_overflow(i, stride, &i)) break;
  }
  ASSIGN_OR_RETURN(Value list, MakeList(std::move(out)));
  if (object.AsString() == nullptr) return list;
  std::string text;
  for (const Value& character : *list.AsList()) text += *character.AsString();
  return Value(std::move(text));
}

}  // namespace dsopt::jinja
