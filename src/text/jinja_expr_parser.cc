#include "text/jinja_expr_parser.h"

#include <charconv>

namespace dsopt::jinja {

Status ExprParser::Unexpected() const {
  static constexpr const char* kNames[] = {"text", "'{{'", "'}}'",     "'{%'", "'%}'",
                                           "",     "",     "a string", "",     "the end"};
  const char* name = kNames[Now().kind];
  return Error(DSOPT_E_INVALID_ARGUMENT, "chat template: line %u: unexpected %s%.60s", Now().line, name,
               *name == '\0' ? Now().text.c_str() : "");
}

Status ExprParser::Unsupported(const char* what, const std::string& name) const {
  return Error(DSOPT_E_UNSUPPORTED, "chat template: line %u: %s '%.60s' is not supported", Now().line, what,
               name.c_str());
}

Status ExprParser::TooDeep() const {
  return Error(DSOPT_E_UNSUPPORTED, "chat template: line %u: nested more than %u deep", Now().line, kMaxDepth);
}

Result<ExprPtr> ExprParser::Finish(ExprPtr out) {
  for (const ExprPtr& arg : out->args) out->depth = std::max(out->depth, arg->depth + 1);
  if (out->depth > kMaxDepth) return TooDeep();
  return out;
}

Result<ExprPtr> ExprParser::Expression() {
  const Level level(&depth_);
  if (depth_ > kMaxDepth) return TooDeep();
  ASSIGN_OR_RETURN(ExprPtr out, Or());
  while (Take("if")) {
    ASSIGN_OR_RETURN(ExprPtr condition, Or());
    ExprPtr otherwise = std::make_unique<Expr>();
    if (Take("else")) {
      ASSIGN_OR_RETURN(otherwise, Expression());
    }
    ASSIGN_OR_RETURN(out,
                     Make(Expr::kConditional, "", std::move(out), std::move(condition), std::move(otherwise)));
  }
  return out;
}

Result<ExprPtr> ExprParser::Or() {
  ASSIGN_OR_RETURN(ExprPtr out, And());
  while (Take("or")) {
    ASSIGN_OR_RETURN(ExprPtr right, And());
    ASSIGN_OR_RETURN(out, Make(Expr::kOr, "", std::move(out), std::move(right)));
  }
  return out;
}

Result<ExprPtr> ExprParser::And() {
  ASSIGN_OR_RETURN(ExprPtr out, Not());
  while (Take("and")) {
    ASSIGN_OR_RETURN(ExprPtr right, Not());
    ASSIGN_OR_RETURN(out, Make(Expr::kAnd, "", std::move(out), std::move(right)));
  }
  return out;
}

Result<ExprPtr> ExprParser::Not() {
  const Level level(&depth_);
  if (depth_ > kMaxDepth) return TooDeep();
  if (!Take("not")) return Compare();
  ASSIGN_OR_RETURN(ExprPtr inner, Not());
  return Make(Expr::kNot, "", std::move(inner));
}

Result<ExprPtr> ExprParser::Compare() {
  ASSIGN_OR_RETURN(ExprPtr out, Sum());
  bool compared = false;
  for (;;) {
    std::string op;
    for (const char* candidate : {"==", "!=", "<=", ">=", "<", ">", "in"}) {
      if (op.empty() && (IsOperator(candidate) || IsName(candidate))) op = candidate;
    }
    if (op.empty() && IsName("not") && Ahead().kind == Token::kName && Ahead().text == "in") {
      Advance();
      op = "notin";
    }
    if (op.empty()) return out;
    if (compared) return Unsupported("chained comparison", op);
    compared = true;
    Advance();
    ASSIGN_OR_RETURN(ExprPtr right, Sum());
    ASSIGN_OR_RETURN(out, Make(Expr::kBinary, op, std::move(out), std::move(right)));
  }
}

Result<ExprPtr> ExprParser::Chain(std::initializer_list<const char*> ops,
                                  Result<ExprPtr> (ExprParser::*next)()) {
  ASSIGN_OR_RETURN(ExprPtr out, (this->*next)());
  for (;;) {
    const auto op = std::find_if(ops.begin(), ops.end(), [&](const char* o) { return IsOperator(o); });
    if (op == ops.end()) return out;
    Advance();
    ASSIGN_OR_RETURN(ExprPtr right, (this->*next)());
    ASSIGN_OR_RETURN(out, Make(Expr::kBinary, *op, std::move(out), std::move(right)));
  }
}

Result<ExprPtr> ExprParser::Sum() { return Chain({"+", "-"}, &ExprParser::Concat); }
Result<ExprPtr> ExprParser::Concat() { return Chain({"~"}, &ExprParser::Product); }
Result<ExprPtr> ExprParser::Product() { return Chain({"*", "//", "%"}, &ExprParser::UnaryAndFilters); }

Result<ExprPtr> ExprParser::UnaryAndFilters() {
  ASSIGN_OR_RETURN(ExprPtr out, Unary());
  return Filters(std::move(out));
}

Result<ExprPtr> ExprParser::Unary() {
  const Level level(&depth_);
  if (depth_ > kMaxDepth) return TooDeep();
  if (Take("+")) return Unary();
  if (Take("-")) {
    ASSIGN_OR_RETURN(ExprPtr inner, Unary());
    return Make(Expr::kNegate, "", std::move(inner));
  }
  ASSIGN_OR_RETURN(ExprPtr out, Primary());
  return Postfix(std::move(out));
}

Result<ExprPtr> ExprParser::Literal(Value value) {
  ASSIGN_OR_RETURN(ExprPtr out, Make(Expr::kLiteral, ""));
  out->value = std::move(value);
  return out;
}

Result<ExprPtr> ExprParser::Primary() {
  const Token token = Now();
  if (token.kind == Token::kString) {
    std::string text;
    for (; Now().kind == Token::kString; Advance()) text += Now().text;
    return Literal(std::move(text));
  }
  if (token.kind == Token::kInt) {
    int64_t value = 0;
    std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
    Advance();
    return Literal(value);
  }
  if (token.kind == Token::kName) {
    static constexpr std::string_view kReserved[] = {"in", "is", "and", "or", "if", "else"};
    if (std::find(std::begin(kReserved), std::end(kReserved), token.text) != std::end(kReserved))
      return Unexpected();
    Advance();
    if (token.text == "true" || token.text == "True") return Literal(true);
    if (token.text == "false" || token.text == "False") return Literal(false);
    if (token.text == "none" || token.text == "None") return Literal(None{});
    return Make(Expr::kName, token.text);
  }
  if (Take("(")) {
    ASSIGN_OR_RETURN(ExprPtr out, Expression());
    if (IsOperator(",")) return Unsupported("expression", "a tuple");
    RETURN_IF_ERROR(Expect(")"));
    return out;
  }
  if (IsOperator("[") || IsOperator("{")) return Collection();
  return Unexpected();
}

Result<ExprPtr> ExprParser::Collection() {
  const bool dict = IsOperator("{");
  const char* close = dict ? "}" : "]";
  Advance();
  ASSIGN_OR_RETURN(ExprPtr out, Make(dict ? Expr::kDict : Expr::kList, ""));
  while (!IsOperator(close)) {
    ASSIGN_OR_RETURN(ExprPtr element, Expression());
    out->args.push_back(std::move(element));
    if (dict) {
      RETURN_IF_ERROR(Expect(":"));
      ASSIGN_OR_RETURN(ExprPtr value, Expression());
      out->args.push_back(std::move(value));
    }
    if (!Take(",")) break;
  }
  RETURN_IF_ERROR(Expect(close));
  return Finish(std::move(out));
}

Result<ExprPtr> ExprParser::Postfix(ExprPtr out) {
  for (;;) {
    if (Take(".")) {
      ASSIGN_OR_RETURN(std::string name, Name());
      ASSIGN_OR_RETURN(out, Make(Expr::kMember, std::move(name), std::move(out)));
    } else if (Take("[")) {
      ASSIGN_OR_RETURN(out, Subscript(std::move(out)));
    } else if (IsOperator("(")) {
      ASSIGN_OR_RETURN(out, Make(Expr::kCall, "", std::move(out)));
      ASSIGN_OR_RETURN(out, Arguments(std::move(out)));
    } else {
      return out;
    }
  }
}

Result<ExprPtr> ExprParser::Subscript(ExprPtr object) {
  ExprPtr parts[3];
  bool slice = false;
  for (int i = 0; i < 3; ++i) {
    if (IsOperator(":") || IsOperator("]")) {
      ASSIGN_OR_RETURN(parts[i], Literal(None{}));
    } else {
      ASSIGN_OR_RETURN(parts[i], Expression());
    }
    if (IsOperator("]")) {
      if (i == 0 && parts[0]->kind == Expr::kLiteral && parts[0]->value.IsNone()) return Unexpected();
      continue;
    }
    if (i == 2 || !IsOperator(":")) return Unexpected();
    Advance();
    slice = true;
  }
  RETURN_IF_ERROR(Expect("]"));
  if (!slice) return Make(Expr::kIndex, "", std::move(object), std::move(parts[0]));
  return Make(Expr::kSlice, "", std::move(object), std::move(parts[0]), std::move(parts[1]),
              std::move(parts[2]));
}

Result<ExprPtr> ExprParser::Arguments(ExprPtr out) {
  RETURN_IF_ERROR(Expect("("));
  while (!IsOperator(")")) {
    if (Now().kind == Token::kName && Ahead().kind == Token::kOperator && Ahead().text == "=") {
      out->names.push_back(Now().text);
      Advance();
      Advance();
    } else if (!out->names.empty()) {
      return Unexpected();
    }
    ASSIGN_OR_RETURN(ExprPtr value, Expression());
    out->args.push_back(std::move(value));
    if (!Take(",")) break;
  }
  RETURN_IF_ERROR(Expect(")"));
  return Finish(std::move(out));
}

Result<ExprPtr> ExprParser::Filters(ExprPtr out) {
  for (;;) {
    if (Take("|")) {
      if (Now().kind == Token::kName && !IsKnownFilter(Now().text)) return Unsupported("filter", Now().text);
      ASSIGN_OR_RETURN(std::string name, Name());
      ASSIGN_OR_RETURN(out, Make(Expr::kFilter, std::move(name), std::move(out)));
      if (IsOperator("(")) {
        ASSIGN_OR_RETURN(out, Arguments(std::move(out)));
      }
      // A filter's result may be subscripted or called on.
      ASSIGN_OR_RETURN(out, Postfix(std::move(out)));
    } else if (Take("is")) {
      ASSIGN_OR_RETURN(out, Test(std::move(out)));
    } else {
      return out;
    }
  }
}

Result<ExprPtr> ExprParser::Test(ExprPtr out) {
  const bool negated = Take("not");
  if (Now().kind == Token::kName && !IsKnownTest(Now().text)) return Unsupported("test", Now().text);
  ASSIGN_OR_RETURN(std::string name, Name());
  ASSIGN_OR_RETURN(out, Make(Expr::kTest, std::move(name), std::move(out)));
  const Token::Kind next = Now().kind;
  if (IsOperator("(")) {
    ASSIGN_OR_RETURN(out, Arguments(std::move(out)));
  } else if (next == Token::kString || next == Token::kInt) {
    ASSIGN_OR_RETURN(ExprPtr argument, Primary());
    out->args.push_back(std::move(argument));
    ASSIGN_OR_RETURN(out, Finish(std::move(out)));
  }
  if (!negated) return out;
  return Make(Expr::kNot, "", std::move(out));
}

}  // namespace dsopt::jinja
