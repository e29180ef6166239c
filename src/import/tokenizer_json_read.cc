#include "import/tokenizer_json_read.h"

#include <algorithm>
#include <array>

#include "base/utf8.h"

namespace dsopt {
namespace {

// Deepest nesting outside of strings.
size_t Depth(std::string_view text) {
  size_t depth = 0, most = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      most = std::max(most, ++depth);
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return most;
}

// Code point that stands for a byte -> byte; the bytes without a printable form are spelled from U+0100 on.
const std::array<int16_t, 324>& PrintableBytes() {
  static const std::array<int16_t, 324> table = [] {
    std::array<int16_t, 324> out;
    out.fill(-1);
    size_t next = 256;
    for (int16_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      out[printable ? static_cast<size_t>(b) : next++] = b;
    }
    return out;
  }();
  return table;
}

}  // namespace

Result<Json> ParseJson(std::string_view text, const char* what) {
  constexpr size_t kMaxBytes = size_t{256} << 20, kMaxDepth = 64;
  if (text.size() > kMaxBytes) {
    return Error(DSOPT_E_UNSUPPORTED, "%s: %zu bytes, at most %zu are read", what, text.size(), kMaxBytes);
  }
  if (const size_t depth = Depth(text); depth > kMaxDepth) {
    return Error(DSOPT_E_CORRUPT, "%s: nested %zu deep, at most %zu are read", what, depth, kMaxDepth);
  }
  Json out = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (out.is_discarded()) return Error(DSOPT_E_CORRUPT, "%s: not valid JSON", what);
  if (!out.is_object())
    return Error(DSOPT_E_CORRUPT, "%s: a JSON %s, expected an object", what, out.type_name());
  return out;
}

const Json& Member(const Json& object, const char* key) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto it = object.find(key);
  return it == object.end() ? null : *it;
}

std::string_view StringMember(const Json& object, const char* key) {
  const std::string* text = Member(object, key).get_ptr<const std::string*>();
  return text == nullptr ? std::string_view() : std::string_view(*text);
}

bool BoolMember(const Json& object, const char* key, bool missing) {
  const bool* value = Member(object, key).get_ptr<const bool*>();
  return value == nullptr ? missing : *value;
}

std::optional<uint32_t> AsId(const Json& value) {
  const uint64_t* id = value.get_ptr<const uint64_t*>();
  if (id == nullptr || *id > INT32_MAX) return std::nullopt;
  return static_cast<uint32_t>(*id);
}

Status ReadGenerationConfig(const Json& config, TokenizerSpec* spec) {
  const auto check = [&](const Json& value, const char* key) -> Result<int32_t> {
    const std::optional<uint32_t> id = AsId(value);
    if (!id || *id >= spec->pieces.size()) {
      return Error(DSOPT_E_CORRUPT, "generation_config.json: %s is %s, expected an id below %zu", key,
                   value.is_number_integer() ? std::to_string(value.get<int64_t>()).c_str() : value.type_name(),
                   spec->pieces.size());
    }
    return static_cast<int32_t>(*id);
  };
  if (const Json& bos = Member(config, "bos_token_id"); !bos.is_null() && spec->bos < 0) {
    ASSIGN_OR_RETURN(spec->bos, check(bos, "bos_token_id"));
  }
  const Json& eos = Member(config, "eos_token_id");
  if (eos.is_array()) {
    for (const Json& value : eos) {
      ASSIGN_OR_RETURN(const int32_t id, check(value, "eos_token_id"));
      spec->end_tokens.push_back(id);
    }
  } else if (!eos.is_null()) {
    ASSIGN_OR_RETURN(const int32_t id, check(eos, "eos_token_id"));
    spec->end_tokens.push_back(id);
  }
  if (spec->eos < 0 && !spec->end_tokens.empty()) spec->eos = spec->end_tokens.front();
  return {};
}

void ReadAddFlags(const Json& config, TokenizerSpec* spec) {
  if (StringMember(config, "tokenizer_class").find("Llama") == std::string_view::npos) return;
  const bool* add_bos = Member(config, "add_bos_token").get_ptr<const bool*>();
  const bool* add_eos = Member(config, "add_eos_token").get_ptr<const bool*>();
  if (add_bos != nullptr) {
    spec->prefix.clear();
    if (*add_bos && spec->bos >= 0) spec->prefix.push_back(spec->bos);
  }
  if (add_eos != nullptr) {
    spec->suffix.clear();
    if (*add_eos && spec->eos >= 0) spec->suffix.push_back(spec->eos);
  }
}

void FinishEndTokens(TokenizerSpec* spec) {
  auto& ends = spec->end_tokens;
  if (spec->eos >= 0) ends.push_back(spec->eos);
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

std::optional<std::string> DecodePrintableBytes(std::string_view piece) {
  const auto& table = PrintableBytes();
  std::string out;
  out.reserve(piece.size());
  while (!piece.empty()) {
    const Utf8Char c = DecodeUtf8(piece);
    if (c.length == 0 || c.code_point >= table.size() || table[c.code_point] < 0) return std::nullopt;
    out.push_back(static_cast<char>(table[c.code_point]));
    piece.remove_prefix(c.length);
  }
  return out;
}

}  // namespace dsopt
