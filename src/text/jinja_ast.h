// jinja_ast.h - a parsed chat template.
#ifndef DSOPT_TEXT_JINJA_AST_H_
#define DSOPT_TEXT_JINJA_AST_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/jinja_value.h"

namespace dsopt::jinja {

struct Expr {
  enum Kind : uint8_t {
    kLiteral,  // value
    kName,     // text
    kList,     // args
    kDict,     // args: key, value, key, value, ...
    kMember,   // args[0].text
    kIndex,    // args[0][args[1]]
    kSlice,    // args[0][args[1]:args[2]:args[3]]; an absent one is a None literal
    kCall,     // args[0](args[1..], names)
    kFilter,   // args[0] | text(args[1..], names)
    kTest,     // args[0] is text(args[1..])
    kNot,
    kNegate,  // args[0]
    kAnd,
    kOr,           // args[0], args[1]
    kBinary,       // args[0] text args[1]: + - * // % ~ == != < <= > >= in notin
    kConditional,  // args[0] if args[1] else args[2]
  };
  Kind kind = kLiteral;
  uint32_t line = 0;
  uint32_t depth = 1;
  Value value;
  std::string text;
  std::vector<std::unique_ptr<Expr>> args;
  std::vector<std::string> names;  // of the last names.size() args: keyword arguments
};
using ExprPtr = std::unique_ptr<Expr>;

struct Stmt;
using Block = std::vector<std::unique_ptr<Stmt>>;

struct Stmt {
  enum Kind : uint8_t {
    kText,       // text
    kPrint,      // exprs[0]
    kSet,        // targets = exprs[0], or of blocks[0]'s output when exprs is empty
    kSetMember,  // targets[0].targets[1] = exprs[0]
    kIf,         // exprs[i] guards blocks[i]; one more block is the else
    kFor,        // targets in exprs[0] [if exprs[1]]: blocks[0], else blocks[1]
    kBreak,
    kContinue,
    kBlock,  // blocks[0] as it is
  };
  Kind kind = kText;
  uint32_t line = 0;
  std::string text;
  std::vector<std::string> targets;
  std::vector<ExprPtr> exprs;
  std::vector<Block> blocks;
};

struct Token {
  enum Kind : uint8_t {
    kText,
    kPrintBegin,
    kPrintEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kInt,
    kString,
    kOperator,
    kEnd
  };
  Kind kind = kEnd;
  uint32_t line = 0;
  std::string text;
};

// Applies white space control as Hugging Face configures Jinja: trim_blocks and lstrip_blocks.
Result<std::vector<Token>> Tokenize(std::string_view source);
Result<Block> Parse(std::string_view source);

// What the interpreter knows; the parser refuses other names.
bool IsKnownFilter(std::string_view name);
bool IsKnownTest(std::string_view name);

}  // namespace dsopt::jinja
#endif  // DSOPT_TEXT_JINJA_AST_H_
