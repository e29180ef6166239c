#include "text/jinja_eval.h"

#include <algorithm>

namespace dsopt::jinja {
namespace {

constexpr uint64_t kMaxOutputBytes = uint64_t{64} << 20;
constexpr int64_t kMaxRange = 100000;

enum class Flow : uint8_t { kNext, kBreak, kContinue };

class Interpreter {
 public:
  explicit Interpreter(Dict globals) { frames_.push_back(std::move(globals)); }

  Result<std::string> Run(const Block& block) {
    std::string out;
    Result<Flow> flow = Statements(block, &out);
    if (flow.ok()) return out;
    if (message_line_ == 0) return flow.status();
    return Error(flow.status().code(), "chat template: line %u: %s", message_line_,
                 std::string(flow.status().message()).c_str());
  }

 private:
  // Remembers where the first failure happened.
  template <typename T>
  Result<T> At(uint32_t line, Result<T> result) {
    if (!result.ok() && !failed_) {
      failed_ = true;
      message_line_ = line;
    }
    return result;
  }

  Result<Flow> Statements(const Block& block, std::string* out) {
    for (const auto& stmt : block) {
      ASSIGN_OR_RETURN(const Flow flow, At(stmt->line, Statement(*stmt, out)));
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  Status Write(std::string_view text, std::string* out) {
    RETURN_IF_ERROR(budget_.Bytes(text.size()));
    if (out->size() + text.size() > kMaxOutputBytes) {
      return Error(DSOPT_E_UNSUPPORTED, "more than %llu bytes of output",
                   static_cast<unsigned long long>(kMaxOutputBytes));
    }
    out->append(text);
    return {};
  }

  Result<Flow> Statement(const Stmt& stmt, std::string* out) {
    RETURN_IF_ERROR(budget_.Step());
    switch (stmt.kind) {
      case Stmt::kText:
        RETURN_IF_ERROR(Write(stmt.text, out));
        return Flow::kNext;
      case Stmt::kPrint: {
        ASSIGN_OR_RETURN(const Value value, Evaluate(*stmt.exprs[0]));
        ASSIGN_OR_RETURN(const std::string text, ToText(value));
        RETURN_IF_ERROR(Write(text, out));
        return Flow::kNext;
      }
      case Stmt::kSet:
        return Set(stmt);
      case Stmt::kSetMember:
        return SetMember(stmt);
      case Stmt::kIf:
        return If(stmt, out);
      case Stmt::kFor:
        return For(stmt, out);
      case Stmt::kBreak:
        return Flow::kBreak;
      case Stmt::kContinue:
        return Flow::kContinue;
      case Stmt::kBlock:
        return Statements(stmt.blocks[0], out);
    }
    return Flow::kNext;
  }

  void Assign(const std::string& name, Value value) {
    for (auto& [key, old] : frames_.back()) {
      if (key == name) {
        old = std::move(value);
        return;
      }
    }
    frames_.back().emplace_back(name, std::move(value));
  }

  Status AssignAll(const std::vector<std::string>& targets, const Value& value) {
    RETURN_IF_ERROR(budget_.Step(frames_.back().size() / 32));
    if (targets.size() == 1) return Assign(targets[0], value), Status();
    const List* list = value.AsList();
    if (list == nullptr || list->size() != targets.size()) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "a %s cannot be unpacked into %zu names", value.TypeName(),
                   targets.size());
    }
    for (size_t i = 0; i < targets.size(); ++i) Assign(targets[i], (*list)[i]);
    return {};
  }

  Result<Flow> Set(const Stmt& stmt) {
    Value value;
    if (stmt.exprs.empty()) {
      std::string text;
      frames_.emplace_back();
      Result<Flow> flow = Statements(stmt.blocks[0], &text);
      frames_.pop_back();
      if (!flow.ok() || *flow != Flow::kNext) return flow;
      value = Value(std::move(text));
    } else {
      ASSIGN_OR_RETURN(value, Evaluate(*stmt.exprs[0]));
    }
    RETURN_IF_ERROR(AssignAll(stmt.targets, value));
    return Flow::kNext;
  }

  Result<Flow> SetMember(const Stmt& stmt) {
    const Value object = Lookup(stmt.targets[0]);
    Namespace* space = object.AsNamespace();
    if (space == nullptr) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "cannot set a member of '%.60s', a %s", stmt.targets[0].c_str(),
                   object.TypeName());
    }
    ASSIGN_OR_RETURN(Value value, Evaluate(*stmt.exprs[0]));
    if (value.AsNamespace() != nullptr) return Error(DSOPT_E_UNSUPPORTED, "a namespace in a namespace");
    RETURN_IF_ERROR(budget_.Step(space->members.size() / 32));
    for (auto& [key, old] : space->members) {
      if (key == stmt.targets[1]) {
        old = std::move(value);
        return Flow::kNext;
      }
    }
    space->members.emplace_back(stmt.targets[1], std::move(value));
    return Flow::kNext;
  }

  Result<Flow> If(const Stmt& stmt, std::string* out) {
    for (size_t i = 0; i < stmt.exprs.size(); ++i) {
      ASSIGN_OR_RETURN(const Value condition, Evaluate(*stmt.exprs[i]));
      if (condition.Truth()) return Statements(stmt.blocks[i], out);
    }
    if (stmt.blocks.size() > stmt.exprs.size()) return Statements(stmt.blocks.back(), out);
    return Flow::kNext;
  }

  Value LoopVariable(const List& items, size_t i) const {
    const auto count = static_cast<int64_t>(items.size()), index = static_cast<int64_t>(i);
    return Value::FromDict({{"index", Value(index + 1)},
                            {"index0", Value(index)},
                            {"first", Value(i == 0)},
                            {"last", Value(index + 1 == count)},
                            {"length", Value(count)},
                            {"revindex", Value(count - index)},
                            {"revindex0", Value(count - index - 1)},
                            {"previtem", i > 0 ? items[i - 1] : Value()},
                            {"nextitem", index + 1 < count ? items[i + 1] : Value()}});
  }

  Result<Flow> For(const Stmt& stmt, std::string* out) {
    ASSIGN_OR_RETURN(const Value over, Evaluate(*stmt.exprs[0]));
    ASSIGN_OR_RETURN(List items, Elements(over, &budget_));
    frames_.emplace_back();
    Result<Flow> flow = Loop(stmt, std::move(items), out);
    frames_.pop_back();
    return flow;
  }

  Result<Flow> Loop(const Stmt& stmt, List items, std::string* out) {
    if (stmt.exprs.size() > 1) {
      List kept;
      for (const Value& item : items) {
        RETURN_IF_ERROR(AssignAll(stmt.targets, item));
        ASSIGN_OR_RETURN(const Value keep, Evaluate(*stmt.exprs[1]));
        if (keep.Truth()) kept.push_back(item);
      }
      items = std::move(kept);
    }
    for (size_t i = 0; i < items.size(); ++i) {
      RETURN_IF_ERROR(budget_.Step());
      frames_.back().clear();
      RETURN_IF_ERROR(AssignAll(stmt.targets, items[i]));
      Assign("loop", LoopVariable(items, i));
      ASSIGN_OR_RETURN(const Flow flow, Statements(stmt.blocks[0], out));
      if (flow == Flow::kBreak) return Flow::kNext;
    }
    frames_.back().clear();
    if (items.empty() && stmt.blocks.size() > 1) return Statements(stmt.blocks[1], out);
    return Flow::kNext;
  }

  Value Lookup(std::string_view name) const {
    for (auto frame = frames_.rbegin(); frame != frames_.rend(); ++frame) {
      for (const auto& [key, value] : *frame) {
        if (key == name) return value;
      }
    }
    return Value();
  }

  Result<Value> Evaluate(const Expr& expr) { return At(expr.line, EvaluateInner(expr)); }

  Result<Value> EvaluateInner(const Expr& expr) {
    RETURN_IF_ERROR(budget_.Step());
    switch (expr.kind) {
      case Expr::kLiteral:
        return expr.value;
      case Expr::kName: {
        size_t variables = 0;
        for (const Dict& frame : frames_) variables += frame.size();
        RETURN_IF_ERROR(budget_.Step(variables / 32));
        return Lookup(expr.text);
      }
      case Expr::kList:
      case Expr::kDict:
        return Collection(expr);
      case Expr::kCall:
        return Call(expr);
      case Expr::kAnd:
      case Expr::kOr: {
        ASSIGN_OR_RETURN(Value left, Evaluate(*expr.args[0]));
        if (left.Truth() == (expr.kind == Expr::kOr)) return left;
        return Evaluate(*expr.args[1]);
      }
      case Expr::kConditional: {
        ASSIGN_OR_RETURN(const Value condition, Evaluate(*expr.args[1]));
        return Evaluate(*expr.args[condition.Truth() ? 0 : 2]);
      }
      default:
        return Operation(expr);
    }
  }

  // The kinds whose operands are all evaluated first.
  Result<Value> Operation(const Expr& expr) {
    ASSIGN_OR_RETURN(const Value first, Evaluate(*expr.args[0]));
    ASSIGN_OR_RETURN(const Arguments args, Arguments_(expr));
    switch (expr.kind) {
      case Expr::kMember:
        return Member(first, expr.text, *expr.args[0]);
      case Expr::kIndex:
        return Index(first, args.positional[0], *expr.args[0]);
      case Expr::kSlice:
        return Slice(first, args.positional[0], args.positional[1], args.positional[2], &budget_);
      case Expr::kFilter:
        return ApplyFilter(expr.text, first, args, &budget_);
      case Expr::kTest:
        return ApplyTest(expr.text, first, args, &budget_);
      case Expr::kNot:
        return Value(!first.Truth());
      case Expr::kNegate: {
        if (first.AsInt() == nullptr)
          return Error(DSOPT_E_INVALID_ARGUMENT, "cannot negate a %s", first.TypeName());
        return ApplyBinary("-", Value(int64_t{0}), first, &budget_);
      }
      default:
        return ApplyBinary(expr.text, first, args.positional[0], &budget_);
    }
  }

  Result<Arguments> Arguments_(const Expr& expr) {
    Arguments out;
    for (size_t i = 1; i < expr.args.size(); ++i) {
      ASSIGN_OR_RETURN(Value value, Evaluate(*expr.args[i]));
      const size_t keywords_from = expr.args.size() - expr.names.size();
      if (i < keywords_from)
        out.positional.push_back(std::move(value));
      else
        out.keywords.emplace_back(expr.names[i - keywords_from], std::move(value));
    }
    return out;
  }

  Result<Value> Collection(const Expr& expr) {
    List values;
    for (const ExprPtr& arg : expr.args) {
      ASSIGN_OR_RETURN(Value value, Evaluate(*arg));
      values.push_back(std::move(value));
    }
    if (expr.kind == Expr::kList) return MakeList(std::move(values));
    Dict dict;
    for (size_t i = 0; i + 1 < values.size(); i += 2) {
      const std::string* key = values[i].AsString();
      if (key == nullptr) return Error(DSOPT_E_UNSUPPORTED, "a dict key that is a %s", values[i].TypeName());
      dict.emplace_back(*key, values[i + 1]);
    }
    return MakeDict(std::move(dict));
  }

  Result<Value> Member(const Value& object, const std::string& name, const Expr& source) {
    if (const Dict* dict = object.AsDict()) return FindMember(*dict, name);
    if (const Namespace* space = object.AsNamespace()) return FindMember(space->members, name);
    if (object.IsUndefined()) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "'%.60s' is undefined", source.text.c_str());
    }
    return Value();
  }

  Result<Value> Index(const Value& object, const Value& index, const Expr& source) {
    if (const std::string* name = index.AsString()) return Member(object, *name, source);
    if (object.IsUndefined()) return Member(object, "", source);
    const int64_t* at = index.AsInt();
    if (at == nullptr) return Value();
    if (const List* list = object.AsList()) {
      const int64_t i = *at < 0 ? *at + static_cast<int64_t>(list->size()) : *at;
      return i >= 0 && i < static_cast<int64_t>(list->size()) ? (*list)[static_cast<size_t>(i)] : Value();
    }
    if (object.AsString() != nullptr) {
      ASSIGN_OR_RETURN(const List characters, Elements(object, &budget_));
      const int64_t i = *at < 0 ? *at + static_cast<int64_t>(characters.size()) : *at;
      return i >= 0 && i < static_cast<int64_t>(characters.size()) ? characters[static_cast<size_t>(i)]
                                                                   : Value();
    }
    return Value();
  }

  Result<Value> Call(const Expr& expr) {
    ASSIGN_OR_RETURN(const Arguments args, Arguments_(expr));
    const Expr& callee = *expr.args[0];
    if (callee.kind == Expr::kMember) {
      ASSIGN_OR_RETURN(const Value object, Evaluate(*callee.args[0]));
      return CallMethod(callee.text, object, args, &budget_);
    }
    if (callee.kind == Expr::kName && Lookup(callee.text).IsUndefined()) return CallFunction(callee.text, args);
    return Error(DSOPT_E_UNSUPPORTED, "'%.60s' is not a function", callee.text.c_str());
  }

  Result<Value> CallFunction(const std::string& name, const Arguments& args) {
    if (name == "raise_exception") {
      failed_ = true;  // the message stands alone
      ASSIGN_OR_RETURN(const std::string text, ToText(args.Get(0, "message")));
      return Error(DSOPT_E_INVALID_ARGUMENT, "%s", text.c_str());
    }
    if (name == "namespace") {
      Value out = Value::NewNamespace();
      for (const auto& [key, value] : args.keywords) {
        if (value.AsNamespace() != nullptr) return Error(DSOPT_E_UNSUPPORTED, "a namespace in a namespace");
        out.AsNamespace()->members.emplace_back(key, value);
      }
      return out;
    }
    if (name == "dict") return MakeDict(args.keywords);
    if (name == "range") return Range(args);
    return Error(DSOPT_E_UNSUPPORTED, "function '%.60s' is not supported", name.c_str());
  }

  Result<Value> Range(const Arguments& args) {
    int64_t bounds[3] = {0, 0, 1};
    const size_t count = args.positional.size();
    for (size_t i = 0; i < count && i < 3; ++i) {
      const int64_t* value = args.positional[i].AsInt();
      if (value == nullptr)
        return Error(DSOPT_E_INVALID_ARGUMENT, "range of a %s", args.positional[i].TypeName());
      bounds[count == 1 ? 1 : i] = *value;
    }
    const auto [from, to, step] = bounds;
    if (count == 0 || count > 3 || step == 0)
      return Error(DSOPT_E_INVALID_ARGUMENT, "range takes 1 to 3 numbers");
    List out;
    for (int64_t i = from; step > 0 ? i < to : i > to;) {
      if (out.size() >= kMaxRange)
        return Error(DSOPT_E_UNSUPPORTED, "a range of more than %lld", static_cast<long long>(kMaxRange));
      out.push_back(Value(i));
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    RETURN_IF_ERROR(budget_.Step(out.size()));
    return MakeList(std::move(out));
  }

  std::vector<Dict> frames_;
  Budget budget_;
  bool failed_ = false;
  uint32_t message_line_ = 0;
};

}  // namespace

Result<std::string> Render(const Block& block, Dict globals) {
  return Interpreter(std::move(globals)).Run(block);
}

}  // namespace dsopt::jinja
