// jinja_parser.cc - statements of chat templates.
#include <algorithm>

#include "text/jinja_expr_parser.h"

namespace dsopt::jinja {
namespace {

class Parser : public ExprParser {
 public:
  using ExprParser::ExprParser;

  Result<Block> Run() {
    ASSIGN_OR_RETURN(Block out, Statements({}));
    if (Now().kind != Token::kEnd) return Unexpected();
    return out;
  }

 private:
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

  uint32_t loops_ = 0;
  std::string end_name_;
};

}  // namespace

Result<Block> Parse(std::string_view source) {
  ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace dsopt::jinja
