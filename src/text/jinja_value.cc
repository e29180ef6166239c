#include "text/jinja_value.h"

#include <algorithm>

#include "base/utf8.h"
#include "text/unicode_class.h"

namespace dsopt::jinja {
namespace {

// Bytes of the character at text[pos]; 1 for a byte that is no valid UTF-8.
uint32_t CharLength(std::string_view text, size_t pos) {
  return std::max(1u, DecodeUtf8(text.substr(pos)).length);
}

bool IsStripped(std::string_view character, std::string_view chars) {
  if (!chars.empty()) {
    for (size_t pos = 0; pos < chars.size(); pos += CharLength(chars, pos)) {
      if (chars.substr(pos, CharLength(chars, pos)) == character) return true;
    }
    return false;
  }
  const Utf8Char c = DecodeUtf8(character);
  return c.length > 0 &&
         ((UnicodeClass(c.code_point) & kClassSpace) != 0 || (c.code_point >= 0x1C && c.code_point <= 0x1F));
}

void AppendJsonString(std::string_view text, std::string* out) {
  *out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      case '\b':
        *out += "\\b";
        break;
      case '\f':
        *out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          *out += Format("\\u%04x", static_cast<unsigned>(c));
        else
          *out += c;
    }
  }
  *out += '"';
}

void Break(int64_t indent, uint32_t level, std::string* out) {
  if (indent < 0) return;
  *out += '\n';
  out->append(static_cast<size_t>(indent) * level, ' ');
}

}  // namespace

Value Value::FromList(List list) {
  Value out;
  for (const Value& element : list) {
    out.depth_ = std::max(out.depth_, element.depth_);
    out.weight_ += element.weight_;
  }
  ++out.depth_;
  out.data_ = std::make_shared<const List>(std::move(list));
  return out;
}

Value Value::FromDict(Dict dict) {
  Value out;
  for (const auto& [key, element] : dict) {
    out.depth_ = std::max(out.depth_, element.depth_);
    out.weight_ += element.weight_ + key.size();
  }
  ++out.depth_;
  out.data_ = std::make_shared<const Dict>(std::move(dict));
  return out;
}

Value Value::NewNamespace() {
  Value out;
  out.data_ = std::make_shared<Namespace>();
  out.depth_ = kMaxValueDepth;
  return out;
}

Namespace* Value::AsNamespace() const { return Get<Namespace>(); }

bool Value::Truth() const {
  if (IsUndefined() || IsNone()) return false;
  if (const bool* b = AsBool()) return *b;
  if (const int64_t* i = AsInt()) return *i != 0;
  if (const std::string* s = AsString()) return !s->empty();
  if (const List* l = AsList()) return !l->empty();
  if (const Dict* d = AsDict()) return !d->empty();
  return true;
}

const char* Value::TypeName() const {
  static constexpr const char* kNames[] = {"undefined", "None", "bool", "int",
                                           "str",       "list", "dict", "namespace"};
  return kNames[data_.index()];
}

bool Equal(const Value& a, const Value& b) {
  const auto number = [](const Value& v, int64_t* out) {
    if (const int64_t* i = v.AsInt())
      *out = *i;
    else if (const bool* t = v.AsBool())
      *out = *t ? 1 : 0;
    else
      return false;
    return true;
  };
  int64_t x, y;
  if (number(a, &x) && number(b, &y)) return x == y;
  if (a.IsUndefined() || b.IsUndefined()) return a.IsUndefined() && b.IsUndefined();
  if (a.IsNone() || b.IsNone()) return a.IsNone() && b.IsNone();
  if (a.AsString() != nullptr && b.AsString() != nullptr) return *a.AsString() == *b.AsString();
  if (a.AsList() != nullptr && b.AsList() != nullptr) {
    return std::equal(a.AsList()->begin(), a.AsList()->end(), b.AsList()->begin(), b.AsList()->end(), Equal);
  }
  if (a.AsDict() != nullptr && b.AsDict() != nullptr) {
    if (a.AsDict()->size() != b.AsDict()->size()) return false;
    return std::all_of(a.AsDict()->begin(), a.AsDict()->end(), [&](const auto& entry) {
      const Value other = FindMember(*b.AsDict(), entry.first);
      return !other.IsUndefined() && Equal(entry.second, other);
    });
  }
  return a.AsNamespace() != nullptr && a.AsNamespace() == b.AsNamespace();
}

Value FindMember(const Dict& dict, std::string_view key) {
  for (const auto& [name, value] : dict) {
    if (name == key) return value;
  }
  return Value();
}

Result<std::string> ToText(const Value& value) {
  if (const std::string* s = value.AsString()) return *s;
  if (const int64_t* i = value.AsInt()) return std::to_string(*i);
  if (const bool* b = value.AsBool()) return std::string(*b ? "True" : "False");
  if (value.IsNone()) return std::string("None");
  if (value.IsUndefined()) return std::string();
  return Error(DSOPT_E_UNSUPPORTED, "a %s cannot be written as text", value.TypeName());
}

Status AppendJson(const Value& value, int64_t indent, uint32_t level, std::string* out) {
  if (const std::string* s = value.AsString()) {
    AppendJsonString(*s, out);
  } else if (const bool* b = value.AsBool()) {
    *out += *b ? "true" : "false";
  } else if (value.IsNone()) {
    *out += "null";
  } else if (const int64_t* i = value.AsInt()) {
    *out += std::to_string(*i);
  } else if (const List* list = value.AsList()) {
    if (list->empty()) return *out += "[]", Status();
    *out += '[';
    for (size_t k = 0; k < list->size(); ++k) {
      if (k > 0) *out += indent < 0 ? ", " : ",";
      Break(indent, level + 1, out);
      RETURN_IF_ERROR(AppendJson((*list)[k], indent, level + 1, out));
    }
    Break(indent, level, out);
    *out += ']';
  } else if (const Dict* dict = value.AsDict()) {
    if (dict->empty()) return *out += "{}", Status();
    *out += '{';
    for (size_t k = 0; k < dict->size(); ++k) {
      if (k > 0) *out += indent < 0 ? ", " : ",";
      Break(indent, level + 1, out);
      AppendJsonString((*dict)[k].first, out);
      *out += ": ";
      RETURN_IF_ERROR(AppendJson((*dict)[k].second, indent, level + 1, out));
    }
    Break(indent, level, out);
    *out += '}';
  } else {
    return Error(DSOPT_E_UNSUPPORTED, "%s cannot be written as JSON", value.TypeName());
  }
  return {};
}

std::string_view StripText(std::string_view text, std::string_view chars, bool left, bool right) {
  while (left && !text.empty()) {
    const uint32_t length = CharLength(text, 0);
    if (!IsStripped(text.substr(0, length), chars)) break;
    text.remove_prefix(length);
  }
  while (right && !text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80)
      --start;
    if (!IsStripped(text.substr(start), chars)) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

size_t CharCount(std::string_view text) {
  size_t count = 0;
  for (size_t pos = 0; pos < text.size(); pos += CharLength(text, pos)) ++count;
  return count;
}

}  // namespace dsopt::jinja
