// jinja_expr_parser.h - the token cursor and the expression grammar; jinja_parser.cc adds statements.
#ifndef DSOPT_TEXT_JINJA_EXPR_PARSER_H_
#define DSOPT_TEXT_JINJA_EXPR_PARSER_H_

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_ast.h"

namespace dsopt::jinja {

// By recursive descent; nesting is limited, so that neither parsing nor evaluating can use up the stack.
class ExprParser {
 public:
  explicit ExprParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  static constexpr uint32_t kMaxDepth = 100;

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
  Status Unexpected() const;
  Status Unsupported(const char* what, const std::string& name) const;
  Status TooDeep() const;
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

  Result<ExprPtr> Expression();
  // Without the conditional form: what a loop walks, before its `if`.
  Result<ExprPtr> Or();

  std::vector<Token> tokens_;
  size_t at_ = 0;
  uint32_t depth_ = 0;

 private:
  Result<ExprPtr> Finish(ExprPtr out);
  template <typename... Args>
  Result<ExprPtr> Make(Expr::Kind kind, std::string text, Args... args) {
    auto out = std::make_unique<Expr>();
    out->kind = kind;
    out->line = Now().line;
    out->text = std::move(text);
    (out->args.push_back(std::move(args)), ...);
    return Finish(std::move(out));
  }
  Result<ExprPtr> Literal(Value value);
  // Left-associative operators of one precedence.
  Result<ExprPtr> Chain(std::initializer_list<const char*> ops, Result<ExprPtr> (ExprParser::*next)());
  Result<ExprPtr> And();
  Result<ExprPtr> Not();
  Result<ExprPtr> Compare();
  Result<ExprPtr> Sum();
  Result<ExprPtr> Concat();
  Result<ExprPtr> Product();
  Result<ExprPtr> UnaryAndFilters();
  Result<ExprPtr> Unary();
  Result<ExprPtr> Primary();
  Result<ExprPtr> Collection();
  Result<ExprPtr> Postfix(ExprPtr out);
  Result<ExprPtr> Subscript(ExprPtr object);
  // "(a, b, key=c)" onto a call, filter or test.
  Result<ExprPtr> Arguments(ExprPtr out);
  Result<ExprPtr> Filters(ExprPtr out);
  Result<ExprPtr> Test(ExprPtr out);
};

}  // namespace dsopt::jinja
#endif  // DSOPT_TEXT_JINJA_EXPR_PARSER_H_
