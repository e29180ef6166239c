#include "text/added_tokens.h"

#include "text/normalize.h"
#include "text/unicode_class.h"

namespace dsopt {
namespace {

size_t PreviousStart(std::string_view text, size_t pos) {
  do --pos;
  while (pos > 0 && (static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80);
  return pos;
}

bool IsWord(const ClassedChar& c) {
  return c.length > 0 && (c.Is(kClassLetter | kClassNumber | kClassMark) || c.code_point == '_');
}

}  // namespace

Status AddedTokenMatcher::Init(const TokenizerSpec& spec, bool normalized) {
  spec_ = &spec;
  for (uint32_t i = 0; i < spec.added.size(); ++i) {
    const AddedToken& token = spec.added[i];
    if (token.normalized != normalized) continue;
    std::string content = spec.pieces[token.id];
    if (normalized) {
      ASSIGN_OR_RETURN(content, Normalize(spec, content, true));
    }
    all_.Insert(content, i);
    if (!token.special) plain_.Insert(content, i);
  }
  return {};
}

const AddedToken* AddedTokenMatcher::Longest(const ByteTrie& trie, std::string_view text, size_t pos,
                                             size_t* length) const {
  const AddedToken* best = nullptr;
  trie.Match(text, pos, [&](size_t matched, uint32_t index) {
    const AddedToken& token = spec_->added[index];
    if (token.single_word &&
        ((pos > 0 && IsWord(CharAt(text, PreviousStart(text, pos)))) || IsWord(CharAt(text, pos + matched)))) {
      return;
    }
    best = &token;
    *length = matched;
  });
  return best;
}

void AddedTokenMatcher::Split(std::string_view text, bool parse_special, std::vector<Section>* sections) const {
  const ByteTrie& trie = parse_special ? all_ : plain_;
  size_t begin = 0, pos = 0;
  while (pos < text.size() && !trie.empty()) {
    size_t length = 0;
    const AddedToken* token = trie.CanStart(text[pos]) ? Longest(trie, text, pos, &length) : nullptr;
    if (token == nullptr) {
      ++pos;
      continue;
    }
    size_t start = pos, end = pos + length;
    while (token->lstrip && start > begin && CharAt(text, PreviousStart(text, start)).Is(kClassSpace)) {
      start = PreviousStart(text, start);
    }
    while (token->rstrip && CharAt(text, end).Is(kClassSpace)) end += Utf8Length(text[end]);
    if (start > begin) sections->push_back({text.substr(begin, start - begin), -1});
    sections->push_back({text.substr(start, end - start), static_cast<int32_t>(token->id)});
    begin = pos = end;
  }
  if (begin < text.size()) sections->push_back({text.substr(begin), -1});
}

}  // namespace dsopt
