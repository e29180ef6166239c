#include "text/normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/utf8.h"
#include "text/unicode_class.h"

namespace dsopt {
namespace {

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

int CombiningClass(utf8proc_int32_t cp) { return utf8proc_get_property(cp)->combining_class; }

// Canonical order: a stable sort of each run of non-starters. utf8proc's own loop is quadratic in the run.
void OrderMarks(std::vector<utf8proc_int32_t>* text) {
  auto it = text->begin();
  while (it != text->end()) {
    if (CombiningClass(*it) == 0) {
      ++it;
      continue;
    }
    auto end = it;
    while (end != text->end() && CombiningClass(*end) != 0) ++end;
    std::stable_sort(
        it, end, [](utf8proc_int32_t a, utf8proc_int32_t b) { return CombiningClass(a) < CombiningClass(b); });
    it = end;
  }
}

Result<std::string> ComposeUnicode(std::string_view text, bool compatibility) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE |
                                                      (compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const ClassedChar c = CharAt(text, pos);
    pos += c.length;
    utf8proc_int32_t parts[32];
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code_point), parts, 32, options, nullptr);
    if (count < 0 || count > 32)
      return Error(DSOPT_E_INTERNAL, "text: U+%04X has no decomposition", c.code_point);
    points.insert(points.end(), parts, parts + count);
  }
  OrderMarks(&points);
  const utf8proc_ssize_t length =
      utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()), options);
  if (length < 0) return Error(DSOPT_E_INTERNAL, "text: normalization failed: %s", utf8proc_errmsg(length));
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < length; ++i) AppendUtf8(static_cast<uint32_t>(points[i]), &out);
  return out;
}

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  size_t pos = 0;
  for (size_t hit = text.find(from); hit != std::string_view::npos; hit = text.find(from, pos)) {
    out.append(text.substr(pos, hit - pos)).append(to);
    pos = hit + from.size();
  }
  return std::move(out.append(text.substr(pos)));
}

std::string_view Strip(std::string_view text, bool left, bool right) {
  while (left && CharAt(text, 0).Is(kClassSpace)) text.remove_prefix(Utf8Length(text[0]));
  while (right && !text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    if (!CharAt(text, start).Is(kClassSpace)) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

// No spaces at the ends, one between words.
std::string Collapse(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

bool IsIdentityNormalizer(const TokenizerSpec& spec) {
  return !spec.strip_left && !spec.strip_right && !spec.nfc && !spec.nfkc && spec.replacements.empty() &&
         !spec.collapse_spaces && !spec.add_dummy_prefix && !spec.add_prefix_space && !spec.escape_spaces;
}

Result<std::string> Normalize(const TokenizerSpec& spec, std::string_view text, bool first) {
  std::string out(Strip(text, spec.strip_left, spec.strip_right));
  if ((spec.nfc || spec.nfkc) && !IsAscii(out)) {
    ASSIGN_OR_RETURN(out, ComposeUnicode(out, spec.nfkc));
  }
  for (const auto& [from, to] : spec.replacements) {
    if (out.find(from) != std::string::npos) out = ReplaceAll(out, from, to);
  }
  if (spec.collapse_spaces) out = Collapse(out);
  const bool prefix = spec.add_dummy_prefix && !spec.prefix_unless_space && (first || !spec.prefix_first_only);
  if (prefix && !out.empty()) out.insert(0, 1, ' ');
  if (spec.escape_spaces) out = ReplaceAll(out, " ", kEscapedSpace);
  // sentencepiece takes a written U+2581 at the end for a space, too.
  while (spec.collapse_spaces && spec.escape_spaces && out.ends_with(kEscapedSpace)) {
    out.resize(out.size() - kEscapedSpace.size());
  }
  return out;
}

void AddMetaspacePrefix(const TokenizerSpec& spec, bool first, std::string* text) {
  if (text->empty()) return;
  const std::string_view space = spec.escape_spaces ? kEscapedSpace : std::string_view(" ");
  const bool metaspace =
      spec.add_dummy_prefix && spec.prefix_unless_space && (first || !spec.prefix_first_only);
  if ((metaspace || spec.add_prefix_space) && !text->starts_with(space)) text->insert(0, space);
}

}  // namespace dsopt
