#include "text/pretokenize.h"

#include <algorithm>
#include <span>

#include "base/utf8.h"
#include "text/unicode_class.h"

namespace dsopt {
namespace {

// A matcher returns the length in bytes of its expression's match at text[pos], 0 for none.
using Matcher = size_t (*)(std::string_view text, size_t pos);

struct Range {
  uint32_t first, last;
};

// The letters that DeepSeek's first splits know: cased letters of the common scripts.
constexpr Range kDeepseekLetters[] = {
    {0x41, 0x5A},       {0x61, 0x7A},       {0xB5, 0xB5},       {0xC0, 0xD6},       {0xD8, 0xF6},
    {0xF8, 0x1BA},      {0x1BC, 0x1BF},     {0x1C4, 0x293},     {0x295, 0x2AF},     {0x370, 0x373},
    {0x376, 0x376},     {0x377, 0x377},     {0x37B, 0x37D},     {0x37F, 0x37F},     {0x386, 0x386},
    {0x388, 0x38A},     {0x38C, 0x38C},     {0x38E, 0x3A1},     {0x3A3, 0x3F5},     {0x3F7, 0x481},
    {0x48A, 0x52F},     {0x531, 0x556},     {0x10A0, 0x10C5},   {0x13A0, 0x13F5},   {0x13F8, 0x13FD},
    {0x1C90, 0x1CBA},   {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},   {0x1D6B, 0x1D77},   {0x1D79, 0x1D9A},
    {0x1E00, 0x1F15},   {0x1F18, 0x1F1D},   {0x1F20, 0x1F45},   {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},
    {0x1F59, 0x1F59},   {0x1F5B, 0x1F5B},   {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},
    {0x1FB6, 0x1FBC},   {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},   {0x1FD0, 0x1FD3},
    {0x1FD6, 0x1FDB},   {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},   {0x1FF6, 0x1FFC},   {0x2102, 0x2102},
    {0x2107, 0x2107},   {0x210A, 0x2113},   {0x2115, 0x2115},   {0x2119, 0x211D},   {0x2124, 0x2124},
    {0x2126, 0x2126},   {0x2128, 0x2128},   {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},
    {0x213C, 0x213F},   {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2183},   {0x2184, 0x2184},
    {0x2C00, 0x2C7B},   {0x2C7E, 0x2CE4},   {0x2CEB, 0x2CEE},   {0x2CF2, 0x2CF2},   {0x2CF3, 0x2CF3},
    {0xA640, 0xA66D},   {0xA680, 0xA69B},   {0xA722, 0xA76F},   {0xA771, 0xA787},   {0xA78B, 0xA78E},
    {0xAB70, 0xABBF},   {0xFB00, 0xFB06},   {0xFB13, 0xFB17},   {0xFF21, 0xFF3A},   {0xFF41, 0xFF5A},
    {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2},
    {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
};
constexpr Range kDeepseekPunctuation[] = {{0x21, 0x2F},     {0x3A, 0x7E},     {0x2018, 0x201F},
                                          {0x3000, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E}};
constexpr Range kDeepseekCjk[] = {{0x800, 0x9FA5}, {0xAC00, 0xD7FF}};
constexpr Range kDeepseekV3Cjk[] = {{0x3040, 0x30FF}, {0x4E00, 0x9FA5}};

bool InRanges(std::span<const Range> ranges, uint32_t cp) {
  const auto it =
      std::partition_point(ranges.begin(), ranges.end(), [cp](const Range& r) { return r.last < cp; });
  return it != ranges.end() && it->first <= cp;
}

// End of the run of characters, from pos on, that satisfy the predicate.
template <typename Predicate>
size_t RunEnd(std::string_view text, size_t pos, Predicate predicate) {
  for (ClassedChar c = CharAt(text, pos); c.length > 0 && predicate(c); c = CharAt(text, pos)) pos += c.length;
  return pos;
}

size_t ClassRunEnd(std::string_view text, size_t pos, uint8_t mask) {
  return RunEnd(text, pos, [mask](const ClassedChar& c) { return c.Is(mask); });
}

bool IsOther(const ClassedChar& c) {  // [^\s\p{L}\p{N}]
  return c.length > 0 && !c.Is(kClassSpace | kClassLetter | kClassNumber);
}

// 's 't 're 've 'm 'll 'd at an apostrophe. U+017F folds to s when case is ignored.
size_t MatchContraction(std::string_view text, size_t pos, bool ignore_case) {
  if (text[pos] != '\'') return 0;
  const auto letter = [&](size_t i) -> char {
    if (pos + i >= text.size()) return 0;
    const char c = text[pos + i];
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char a = letter(1), b = letter(2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
  if (ignore_case && a == '\xC5' && b == '\xBF') return 3;
  return 0;
}

// \s*[\r\n]+ (when newlines is set) | \s+(?!\S) | \s+ at white space.
size_t MatchSpaces(std::string_view text, size_t pos, bool newlines) {
  size_t end = pos, last_start = pos, newline_end = 0;
  for (ClassedChar c = CharAt(text, end); c.length > 0 && c.Is(kClassSpace); c = CharAt(text, end)) {
    last_start = end;
    end += c.length;
    if (c.Is(kClassNewline)) newline_end = end;
  }
  if (newlines && newline_end > 0) return newline_end - pos;
  if (end < text.size() && last_start > pos) end = last_start;  // leave one for the next piece
  return end - pos;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t MatchGpt2(std::string_view text, size_t pos) {
  if (const size_t length = MatchContraction(text, pos, false); length > 0) return length;
  size_t start = pos;
  ClassedChar c = CharAt(text, pos);
  if (c.code_point == ' ') {
    start += 1;
    c = CharAt(text, start);
  }
  if (c.Is(kClassLetter)) return ClassRunEnd(text, start, kClassLetter) - pos;
  if (c.Is(kClassNumber)) return ClassRunEnd(text, start, kClassNumber) - pos;
  if (IsOther(c)) return RunEnd(text, start, IsOther) - pos;
  return MatchSpaces(text, pos, false);
}

size_t MatchNumbers(std::string_view text, size_t pos, int most) {
  size_t end = pos;
  for (int i = 0; i < most; ++i) {
    const ClassedChar c = CharAt(text, end);
    if (!c.Is(kClassNumber)) break;
    end += c.length;
  }
  return end - pos;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,most}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
// \s+(?!\S)|\s+
size_t MatchLlama3Family(std::string_view text, size_t pos, int most_digits) {
  if (const size_t length = MatchContraction(text, pos, true); length > 0) return length;
  const ClassedChar c = CharAt(text, pos);
  if (c.Is(kClassLetter)) return ClassRunEnd(text, pos, kClassLetter) - pos;
  if (c.Is(kClassNumber)) return MatchNumbers(text, pos, most_digits);
  const ClassedChar next = CharAt(text, pos + c.length);
  if (!c.Is(kClassNewline) && next.Is(kClassLetter)) {
    return ClassRunEnd(text, pos + c.length, kClassLetter) - pos;
  }
  if (IsOther(c) || (c.code_point == ' ' && IsOther(next))) {
    const size_t end = RunEnd(text, IsOther(c) ? pos : pos + 1, IsOther);
    return ClassRunEnd(text, end, kClassNewline) - pos;
  }
  return MatchSpaces(text, pos, true);
}

size_t MatchLlama3(std::string_view text, size_t pos) { return MatchLlama3Family(text, pos, 3); }
size_t MatchQwen2(std::string_view text, size_t pos) { return MatchLlama3Family(text, pos, 1); }

size_t MatchOneNewline(std::string_view text, size_t pos) {
  return text[pos] == '\n' || text[pos] == '\r' ? 1 : 0;
}
size_t MatchOneNumber(std::string_view text, size_t pos) { return MatchNumbers(text, pos, 1); }
size_t MatchThreeNumbers(std::string_view text, size_t pos) { return MatchNumbers(text, pos, 3); }

// \s?X+
template <typename Predicate>
size_t MatchSpaceThen(std::string_view text, size_t pos, Predicate predicate) {
  const ClassedChar c = CharAt(text, pos);
  size_t start = pos;
  if (c.Is(kClassSpace)) {
    const ClassedChar next = CharAt(text, pos + c.length);
    if (next.length > 0 && predicate(next)) start = pos + c.length;
  }
  return RunEnd(text, start, predicate) - pos;
}
size_t MatchDeepseekLetters(std::string_view text, size_t pos) {
  return MatchSpaceThen(text, pos,
                        [](const ClassedChar& c) { return InRanges(kDeepseekLetters, c.code_point); });
}
size_t MatchDeepseekPunctuation(std::string_view text, size_t pos) {
  return MatchSpaceThen(text, pos,
                        [](const ClassedChar& c) { return InRanges(kDeepseekPunctuation, c.code_point); });
}
size_t MatchSpaceLetters(std::string_view text, size_t pos) {
  return MatchSpaceThen(text, pos, [](const ClassedChar& c) { return c.Is(kClassLetter); });
}
size_t MatchSpacePunctuation(std::string_view text, size_t pos) {
  return MatchSpaceThen(text, pos, [](const ClassedChar& c) { return c.Is(kClassPunctuation); });
}
size_t MatchDeepseekCjk(std::string_view text, size_t pos) {
  return RunEnd(text, pos, [](const ClassedChar& c) { return InRanges(kDeepseekCjk, c.code_point); }) - pos;
}
size_t MatchDeepseekV3Cjk(std::string_view text, size_t pos) {
  return RunEnd(text, pos, [](const ClassedChar& c) { return InRanges(kDeepseekV3Cjk, c.code_point); }) - pos;
}

// [!-/:-@[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
size_t MatchDeepseekV3(std::string_view text, size_t pos) {
  constexpr uint8_t kWord = kClassLetter | kClassMark, kMarks = kClassPunctuation | kClassSymbol;
  const ClassedChar c = CharAt(text, pos);
  const ClassedChar next = CharAt(text, pos + c.length);
  if (c.code_point < 128 && c.Is(kMarks) && next.code_point < 128 && next.Is(kClassLetter)) {
    return RunEnd(text, pos + 1,
                  [](const ClassedChar& l) { return l.code_point < 128 && l.Is(kClassLetter); }) -
           pos;
  }
  if (c.Is(kWord)) return ClassRunEnd(text, pos, kWord) - pos;
  if (!c.Is(kClassNewline | kMarks) && next.Is(kWord)) return ClassRunEnd(text, pos + c.length, kWord) - pos;
  if (c.Is(kMarks) || (c.code_point == ' ' && next.Is(kMarks))) {
    const size_t end = ClassRunEnd(text, c.Is(kMarks) ? pos : pos + 1, kMarks);
    return ClassRunEnd(text, end, kClassNewline) - pos;
  }
  if (c.Is(kClassSpace)) return MatchSpaces(text, pos, true);
  return 0;
}

// U+2581 starts a piece.
size_t MatchMetaspace(std::string_view text, size_t pos) {
  const size_t next = text.find("\xE2\x96\x81", pos + 1);
  return (next == std::string_view::npos ? text.size() : next) - pos;
}

// \s+$: looks at each run of white space once, so that a pass stays linear.
void SplitTrailingSpaces(std::string_view piece, uint32_t base, std::vector<uint32_t>* ends) {
  size_t pos = 0, run = 0;
  bool in_run = false;
  while (pos < piece.size()) {
    const ClassedChar c = CharAt(piece, pos);
    if (c.Is(kClassSpace) && !in_run) run = pos;
    in_run = c.Is(kClassSpace);
    pos += c.length;
  }
  if (in_run && run > 0) ends->push_back(base + static_cast<uint32_t>(run));
  ends->push_back(base + static_cast<uint32_t>(piece.size()));
}

// One Split: matches become pieces, and so does the text between them.
void SplitByMatches(std::string_view piece, uint32_t base, Matcher match, std::vector<uint32_t>* ends) {
  size_t pos = 0, gap = 0;
  while (pos < piece.size()) {
    const size_t length = match(piece, pos);
    if (length == 0) {
      pos += Utf8Length(piece[pos]);
      continue;
    }
    if (gap < pos) ends->push_back(base + static_cast<uint32_t>(pos));
    pos += length;
    gap = pos;
    ends->push_back(base + static_cast<uint32_t>(pos));
  }
  if (gap < piece.size()) ends->push_back(base + static_cast<uint32_t>(piece.size()));
}

// nullptr in a list stands for \s+$. Later passes cut the pieces of earlier ones.
std::span<const Matcher> Passes(PreTokenizer kind) {
  static constexpr Matcher kGpt2[] = {MatchGpt2};
  static constexpr Matcher kLlama3[] = {MatchLlama3};
  static constexpr Matcher kQwen2[] = {MatchQwen2};
  static constexpr Matcher kMetaspace[] = {MatchMetaspace};
  static constexpr Matcher kLlm[] = {MatchOneNewline, MatchDeepseekLetters, MatchDeepseekPunctuation,
                                     nullptr,         MatchDeepseekCjk,     MatchOneNumber};
  static constexpr Matcher kCoder[] = {MatchOneNewline, MatchSpaceLetters, MatchSpacePunctuation,
                                       MatchDeepseekCjk, MatchOneNumber};
  static constexpr Matcher kV3[] = {MatchThreeNumbers, MatchDeepseekV3Cjk, MatchDeepseekV3};
  switch (kind) {
    case PreTokenizer::kNone:
      return {};
    case PreTokenizer::kGpt2:
      return kGpt2;
    case PreTokenizer::kLlama3:
      return kLlama3;
    case PreTokenizer::kQwen2:
      return kQwen2;
    case PreTokenizer::kMetaspaceSplit:
      return kMetaspace;
    case PreTokenizer::kDeepseekLlm:
      return kLlm;
    case PreTokenizer::kDeepseekCoder:
      return kCoder;
    case PreTokenizer::kDeepseekV3:
      return kV3;
  }
  return {};
}

}  // namespace

bool IsKnownPreTokenizer(PreTokenizer kind) { return kind == PreTokenizer::kNone || !Passes(kind).empty(); }

void PreTokenize(PreTokenizer kind, std::string_view text, std::vector<uint32_t>* ends) {
  ends->clear();
  if (text.empty()) return;
  const std::span<const Matcher> passes = Passes(kind);
  if (passes.size() == 1) {
    SplitByMatches(text, 0, passes[0], ends);
    return;
  }
  ends->push_back(static_cast<uint32_t>(text.size()));
  std::vector<uint32_t> previous;
  for (const Matcher match : passes) {
    previous.swap(*ends);
    ends->clear();
    uint32_t begin = 0;
    for (const uint32_t end : previous) {
      const std::string_view piece = text.substr(begin, end - begin);
      if (match == nullptr)
        SplitTrailingSpaces(piece, begin, ends);
      else
        SplitByMatches(piece, begin, match, ends);
      begin = end;
    }
  }
}

std::string DeepseekLetterPattern() {
  std::string out = "\\s?[";
  for (const Range& r : kDeepseekLetters) {
    AppendUtf8(r.first, &out);
    if (r.last == r.first) continue;
    out += '-';
    AppendUtf8(r.last, &out);
  }
  return out + "]+";
}

}  // namespace dsopt
