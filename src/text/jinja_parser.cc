// jinja_parser.cc - tokens to statements and expressions, by recursive descent with a depth limit.
#include <algorithm>
#include <charconv>

#include "text/jinja_ast.h"

namespace dsopt::jinja {
namespace {

constexpr uint32_t kMaxDepth = 100;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Result<Block> Run() {
    ASSIGN_OR_RETURN(Block out, Statements({}));
    if (Now().kind != Token::kEnd) return Unexpected();
    return out;
  }

 private:
  // Keeps the recursion of the descent within the stack.
  struct Level {
    explicit Level(uint32_t* depth_in) : depth(depth_in) { ++*depth; }
    ~Level() { --*depth; }
    uint32_t* depth;
  };

  const Token& Now() const { return tokens_[at_]; }
  const Token& Ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  void Advance() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  bool IsOperator(std::string_view text) const { return Now().kind == Token::kOperator && Now().text == text; }
  bool IsName(std::string_view text) const { return Now().kind == Token::kName && Now().text == text; }
  bool Take(std::string_view text) {
    if (!(IsOperator(text) || IsName(text))) return false;
    Advance();
    return true;
  }
  Status Unexpected() const {
    static constexpr const char* kNames[] = {"text", "'{{'", "'}}'", "'{%'", "'%}'", "", "", "a string", "", "the end"};
    const char* name = kNames[Now().kind];
    return Error(DSOPT_E_INVALID_ARGUMENT, "chat template: line %u: unexpected %s%.60s", Now().line, name,
                 *name == '\0' ? Now().text.c_str() : "");
  }
  Status Unsupported(const char* what, const std::string& name) const {
    return Error(DSOPT_E_UNSUPPORTED, "chat template: line %u: %s '%.60s' is not supported", Now().line, what,
                 name.c_str());
  }
  Status TooDeep() const {
    return Error(DSOPT_E_UNSUPPORTED, "chat template: line %u: nested more than %u deep", Now().line, kMaxDepth);
  }
  Status Expect(std::string_view text) {
    if (!Take(text)) return Unexpected();
    return {};
  }
  Status CloseTag() {
    if (Now().kind != Token::kBlockEnd) return Unexpected();
    Advance();
    return {};
  }
  Result<std::string> Name() {
    if (Now().kind != Token::kName) return Unexpected();
    std::string out = Now().text;
    Advance();
    return out;
  }

  // ---- statements ----

  // Up to a tag that starts with one of `ends`; that tag's name is consumed, and left in end_name_.
  Result<Block> Statements(std::vector<std::string_view> ends) {
    const Level level(&depth_);
    if (depth_ > kMaxDepth) return TooDeep();
    Block out;
    for (;;) {
      const Token& token = Now();
      if (token.kind == Token::kEnd) {
        if (!ends.empty()) return Unexpected();
        return out;
      }
      auto stmt = std::make_unique<Stmt>();
      stmt->line = token.line;
      if (token.kind == Token::kText) {
        stmt->text = token.text;
        Advance();
      } else if (token.kind == Token::kPrintBegin) {
        Advance();
        stmt->kind = Stmt::kPrint;
        RETURN_IF_ERROR(AddExpression(stmt.get()));
        if (Now().kind != Token::kPrintEnd) return Unexpected();
        Advance();
      } else if (token.kind == Token::kBlockBegin) {
        Advance();
        ASSIGN_OR_RETURN(const std::string name, Name());
        if (std::find(ends.begin(), ends.end(), name) != ends.end()) {
          end_name_ = name;
          return out;
        }
        RETURN_IF_ERROR(Tag(name, stmt.get()));
      } else {
        return Unexpected();
      }
      out.push_back(std::move(stmt));
    }
  }

  Status Tag(const std::string& name, Stmt* out) {
    if (name == "if") return If(out);
    if (name == "for") return For(out);
    if (name == "set") return Set(out);
    if (name == "break" || name == "continue") {
      if (loops_ == 0) return Unsupported("outside of a loop,", name);
      out->kind = name == "break" ? Stmt::kBreak : Stmt::kContinue;
      return CloseTag();
    }
    if (name == "generation") {
      out->kind = Stmt::kBlock;
      RETURN_IF_ERROR(CloseTag());
      RETURN_IF_ERROR(AddBlock(out, {"endgeneration"}));
      return CloseTag();
    }
    return Unsupported("statement", name);
  }

  Status AddBlock(Stmt* out, std::vector<std::string_view> ends) {
    ASSIGN_OR_RETURN(Block block, Statements(std::move(ends)));
    out->blocks.push_back(std::move(block));
    return {};
  }
  Status AddExpression(Stmt* out) {
    ASSIGN_OR_RETURN(ExprPtr expr, Expression());
    out->exprs.push_back(std::move(expr));
    return {};
  }

  Status If(Stmt* out) {
    out->kind = Stmt::kIf;
    RETURN_IF_ERROR(AddExpression(out));
    for (;;) {
      RETURN_IF_ERROR(CloseTag());
      RETURN_IF_ERROR(AddBlock(out, {"elif", "else", "endif"}));
      if (end_name_ != "elif") break;
      RETURN_IF_ERROR(AddExpression(out));
    }
    if (end_name_ == "else") {
      RETURN_IF_ERROR(CloseTag());
      RETURN_IF_ERROR(AddBlock(out, {"endif"}));
    }
    return CloseTag();
  }

  Status Targets(Stmt* out) {
    do {
      ASSIGN_OR_RETURN(std::string name, Name());
      out->targets.push_back(std::move(name));
    } while (Take(","));
    return {};
  }

  Status For(Stmt* out) {
    out->kind = Stmt::kFor;
    RETURN_IF_ERROR(Targets(out));
    RETURN_IF_ERROR(Expect("in"));
    // Without the conditional form: `if` filters the loop.
    ASSIGN_OR_RETURN(ExprPtr over, Or());
    out->exprs.push_back(std::move(over));
    if (Take("if")) RETURN_IF_ERROR(AddExpression(out));
    if (IsName("recursive")) return Unsupported("loop", "recursive");
    RETURN_IF_ERROR(CloseTag());
    ++loops_;
    Status body = AddBlock(out, {"else", "endfor"});
    --loops_;
    RETURN_IF_ERROR(std::move(body));
    if (end_name_ == "else") {
      RETURN_IF_ERROR(CloseTag());
      RETURN_IF_ERROR(AddBlock(out, {"endfor"}));
    }
    return CloseTag();
  }

  Status Set(Stmt* out) {
    out->kind = Stmt::kSet;
    RETURN_IF_ERROR(Targets(out));
    if (out->targets.size() == 1 && Take(".")) {
      ASSIGN_OR_RETURN(std::string member, Name());
      out->targets.push_back(std::move(member));
      out->kind = Stmt::kSetMember;
    }
    if (Take("=")) {
      RETURN_IF_ERROR(AddExpression(out));
      if (IsOperator(",")) return Unsupported("expression", "a, b");
      return CloseTag();
    }
    if (out->kind == Stmt::kSetMember || out->targets.size() != 1) return Unexpected();
    RETURN_IF_ERROR(CloseTag());
    RETURN_IF_ERROR(AddBlock(out, {"endset"}));
    return CloseTag();
  }

  // ---- expressions ----

  template <typename... Args>
  Result<ExprPtr> Make(Expr::Kind kind, std::string text, Args... args) {
    auto out = std::make_unique<Expr>();
    out->kind = kind;
    out->line = Now().line;
    out->text = std::move(text);
    (out->args.push_back(std::move(args)), ...);
    return Finish(std::move(out));
  }
  Result<ExprPtr> Finish(ExprPtr out) {
    for (const ExprPtr& arg : out->args) out->depth = std::max(out->depth, arg->depth + 1);
    if (out->depth > kMaxDepth) return TooDeep();
    return out;
  }

  Result<ExprPtr> Expression() {
    const Level level(&depth_);
    if (depth_ > kMaxDepth) return TooDeep();
    ASSIGN_OR_RETURN(ExprPtr out, Or());
    while (Take("if")) {
      ASSIGN_OR_RETURN(ExprPtr condition, Or());
      ExprPtr otherwise = std::make_unique<Expr>();
      if (Take("else")) {
        ASSIGN_OR_RETURN(otherwise, Expression());
      }
      ASSIGN_OR_RETURN(out, Make(Expr::kConditional, "", std::move(out), std::move(condition), std::move(otherwise)));
    }
    return out;
  }

  Result<ExprPtr> Or() {
    ASSIGN_OR_RETURN(ExprPtr out, And());
    while (Take("or")) {
      ASSIGN_OR_RETURN(ExprPtr right, And());
      ASSIGN_OR_RETURN(out, Make(Expr::kOr, "", std::move(out), std::move(right)));
    }
    return out;
  }
  Result<ExprPtr> And() {
    ASSIGN_OR_RETURN(ExprPtr out, Not());
    while (Take("and")) {
      ASSIGN_OR_RETURN(ExprPtr right, Not());
      ASSIGN_OR_RETURN(out, Make(Expr::kAnd, "", std::move(out), std::move(right)));
    }
    return out;
  }
  Result<ExprPtr> Not() {
    const Level level(&depth_);
    if (depth_ > kMaxDepth) return TooDeep();
    if (!Take("not")) return Compare();
    ASSIGN_OR_RETURN(ExprPtr inner, Not());
    return Make(Expr::kNot, "", std::move(inner));
  }

  Result<ExprPtr> Compare() {
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

  // Left-associative operators of one precedence.
  Result<ExprPtr> Chain(std::initializer_list<const char*> ops, Result<ExprPtr> (Parser::*next)()) {
    ASSIGN_OR_RETURN(ExprPtr out, (this->*next)());
    for (;;) {
      const auto op = std::find_if(ops.begin(), ops.end(), [&](const char* o) { return IsOperator(o); });
      if (op == ops.end()) return out;
      Advance();
      ASSIGN_OR_RETURN(ExprPtr right, (this->*next)());
      ASSIGN_OR_RETURN(out, Make(Expr::kBinary, *op, std::move(out), std::move(right)));
    }
  }
  Result<ExprPtr> Sum() { return Chain({"+", "-"}, &Parser::Concat); }
  Result<ExprPtr> Concat() { return Chain({"~"}, &Parser::Product); }
  Result<ExprPtr> Product() { return Chain({"*", "//", "%"}, &Parser::UnaryAndFilters); }

  Result<ExprPtr> UnaryAndFilters() {
    ASSIGN_OR_RETURN(ExprPtr out, Unary());
    return Filters(std::move(out));
  }
  Result<ExprPtr> Unary() {
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

  Result<ExprPtr> Literal(Value value) {
    ASSIGN_OR_RETURN(ExprPtr out, Make(Expr::kLiteral, ""));
    out->value = std::move(value);
    return out;
  }

  Result<ExprPtr> Primary() {
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
      if (std::find(std::begin(kReserved), std::end(kReserved), token.text) != std::end(kReserved)) return Unexpected();
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

  Result<ExprPtr> Collection() {
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

  Result<ExprPtr> Postfix(ExprPtr out) {
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

  Result<ExprPtr> Subscript(ExprPtr object) {
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
    return Make(Expr::kSlice, "", std::move(object), std::move(parts[0]), std::move(parts[1]), std::move(parts[2]));
  }

  // "(a, b, key=c)" onto a call, filter or test.
  Result<ExprPtr> Arguments(ExprPtr out) {
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

  Result<ExprPtr> Filters(ExprPtr out) {
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

  Result<ExprPtr> Test(ExprPtr out) {
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

  std::vector<Token> tokens_;
  size_t at_ = 0;
  uint32_t depth_ = 0;
  uint32_t loops_ = 0;
  std::string end_name_;
};

}  // namespace

Result<Block> Parse(std::string_view source) {
  ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace dsopt::jinja
