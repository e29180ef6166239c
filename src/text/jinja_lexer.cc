// jinja_lexer.cc - template text to tokens, with Jinja's rules of white space around tags.
#include <algorithm>

#include "base/utf8.h"
#include "text/jinja_ast.h"

namespace dsopt::jinja {
namespace {

constexpr size_t kMaxTokens = 200000;

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) {
    for (size_t i = 0; i < source.size(); ++i) {
      if (source[i] == '\r') {
        source_ += '\n';
        if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      } else {
        source_ += source[i];
      }
    }
    if (source_.ends_with('\n')) source_.pop_back();  // keep_trailing_newline is off
  }

  Result<std::vector<Token>> Run() {
    while (pos_ < source_.size()) {
      const size_t tag = FindTag();
      RETURN_IF_ERROR(Text(tag));
      if (pos_ < source_.size()) RETURN_IF_ERROR(Tag());
      if (tokens_.size() > kMaxTokens) {
        return Error(DSOPT_E_UNSUPPORTED, "chat template: more than %zu tokens", kMaxTokens);
      }
    }
    Add(Token::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void Add(Token::Kind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }
  Status Fail(const char* what) const {
    return Error(DSOPT_E_INVALID_ARGUMENT, "chat template: line %u: %s", line_, what);
  }
  std::string_view Rest() const { return std::string_view(source_).substr(pos_); }

  size_t FindTag() const {
    for (size_t at = source_.find('{', pos_); at != std::string::npos; at = source_.find('{', at + 1)) {
      if (at + 1 >= source_.size()) break;
      const char c = source_[at + 1];
      if (c == '{' || c == '%' || c == '#') return at;
    }
    return source_.size();
  }

  // The text up to `tag`, less what the tag before and the tag after strip from it.
  Status Text(size_t tag) {
    std::string_view text = std::string_view(source_).substr(pos_, tag - pos_);
    const uint32_t newlines = static_cast<uint32_t>(std::count(text.begin(), text.end(), '\n'));
    pos_ = tag;
    if (tag < source_.size()) {
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
      if (sign == '-') {
        while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
      } else if (sign != '+' && source_[tag + 1] != '{') {
        const size_t line_start = text.rfind('\n') + 1;  // npos + 1 is 0
        if ((line_start > 0 || line_starting_) &&
            std::all_of(text.begin() + static_cast<ptrdiff_t>(line_start), text.end(), IsSpace)) {
          text = text.substr(0, line_start);
        }
      }
    }
    if (!text.empty()) Add(Token::kText, std::string(text));
    line_ += newlines;
    return {};
  }

  Status Tag() {
    const char kind = source_[pos_ + 1];
    pos_ += 2;
    if (pos_ < source_.size() && (source_[pos_] == '-' || source_[pos_] == '+')) ++pos_;
    if (kind == '#') return Comment();
    const std::string_view close = kind == '{' ? "}}" : "%}";
    Add(kind == '{' ? Token::kPrintBegin : Token::kBlockBegin, "");
    for (;;) {
      SkipSpaces();
      if (pos_ >= source_.size()) return Fail("a tag is not closed");
      const bool sign = Rest()[0] == '-' || Rest()[0] == '+';
      if (brackets_ == 0 && (Rest().starts_with(close) || (sign && Rest().substr(1).starts_with(close)))) {
        Add(kind == '{' ? Token::kPrintEnd : Token::kBlockEnd, "");
        const char mark = sign ? Rest()[0] : ' ';
        pos_ += sign ? 3 : 2;
        AfterTag(mark, kind != '{');
        return {};
      }
      RETURN_IF_ERROR(Expression());
    }
  }

  Status Comment() {
    const size_t end = source_.find("#}", pos_);
    if (end == std::string::npos) return Fail("a comment is not closed");
    line_ += static_cast<uint32_t>(std::count(source_.begin() + static_cast<ptrdiff_t>(pos_),
                                              source_.begin() + static_cast<ptrdiff_t>(end), '\n'));
    const char mark = end > pos_ ? source_[end - 1] : ' ';
    pos_ = end + 2;
    AfterTag(mark, true);
    return {};
  }

  // "-" swallows white space; otherwise a block or comment swallows one newline.
  void AfterTag(char mark, bool trims) {
    line_starting_ = false;
    if (mark == '-') {
      while (pos_ < source_.size() && IsSpace(source_[pos_])) {
        line_starting_ = source_[pos_] == '\n';
        line_ += line_starting_ ? 1 : 0;
        ++pos_;
      }
    } else if (trims && mark != '+' && pos_ < source_.size() && source_[pos_] == '\n') {
      line_starting_ = true;
      ++line_;
      ++pos_;
    }
  }

  void SkipSpaces() {
    while (pos_ < source_.size() && IsSpace(source_[pos_])) line_ += source_[pos_++] == '\n' ? 1 : 0;
  }

  Status Expression() {
    const char c = source_[pos_];
    size_t end = pos_ + 1;
    if (IsNameStart(c)) {
      while (end < source_.size() && (IsNameStart(source_[end]) || IsDigit(source_[end]))) ++end;
      Add(Token::kName, source_.substr(pos_, end - pos_));
    } else if (IsDigit(c)) {
      while (end < source_.size() && IsDigit(source_[end])) ++end;
      if (end - pos_ > 15 || (end + 1 < source_.size() && source_[end] == '.' && IsDigit(source_[end + 1]))) {
        return Error(DSOPT_E_UNSUPPORTED, "chat template: line %u: only short integers are supported", line_);
      }
      Add(Token::kInt, source_.substr(pos_, end - pos_));
    } else if (c == '"' || c == '\'') {
      return String(c);
    } else {
      static constexpr std::string_view kTwo[] = {"==", "!=", "<=", ">=", "//", "**"};
      const bool two = std::any_of(std::begin(kTwo), std::end(kTwo),
                                   [&](std::string_view op) { return Rest().starts_with(op); });
      if (!two && std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos) {
        return Error(DSOPT_E_INVALID_ARGUMENT, "chat template: line %u: unexpected byte 0x%02X", line_,
                     static_cast<unsigned>(static_cast<unsigned char>(c)));
      }
      if (c == '(' || c == '[' || c == '{') ++brackets_;
      if ((c == ')' || c == ']' || c == '}') && brackets_-- == 0)
        return Fail("a bracket closes that was not opened");
      end = pos_ + (two ? 2 : 1);
      Add(Token::kOperator, source_.substr(pos_, end - pos_));
    }
    pos_ = end;
    return {};
  }

  Status String(char quote) {
    std::string out;
    const uint32_t first_line = line_;
    for (++pos_; pos_ < source_.size() && source_[pos_] != quote; ++pos_) {
      if (source_[pos_] == '\n') ++line_;
      if (source_[pos_] != '\\') {
        out += source_[pos_];
        continue;
      }
      if (++pos_ >= source_.size()) break;
      RETURN_IF_ERROR(Escape(&out));
    }
    if (pos_ >= source_.size()) return Fail("a string is not closed");
    ++pos_;
    tokens_.push_back({Token::kString, first_line, std::move(out)});
    return {};
  }

  Status Escape(std::string* out) {
    static constexpr std::string_view kFrom = "ntr\\'\"abfv0", kTo("\n\t\r\\'\"\a\b\f\v\0", 11);
    const char c = source_[pos_];
    if (c == '\n') {
      ++line_;
      return {};
    }
    const size_t simple = kFrom.find(c);
    if (simple != std::string_view::npos) {
      *out += kTo[simple];
      return {};
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {
      *out += '\\';
      *out += c;
      return {};
    }
    uint32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char d = ++pos_ < source_.size() ? source_[pos_] : ' ';
      const bool letter = (d >= 'a' && d <= 'f') || (d >= 'A' && d <= 'F');
      if (!IsDigit(d) && !letter) return Fail("a string has a malformed escape");
      value = value << 4 | static_cast<uint32_t>(IsDigit(d) ? d - '0' : (d | 32) - 'a' + 10);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return Fail("a string escapes no character");
    AppendUtf8(value, out);
    return {};
  }

  std::string source_;
  size_t pos_ = 0;
  uint32_t line_ = 1;
  uint32_t brackets_ = 0;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> Tokenize(std::string_view source) { return Lexer(source).Run(); }

}  // namespace dsopt::jinja
