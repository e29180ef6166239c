// gguf_keys.cc - typed access to the metadata of a GGUF file.
#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "import/gguf_reader.h"

namespace dsopt {
namespace {

constexpr size_t kShownBytes = 60;

std::string Shown(const GgufValue* value) {
  if (value == nullptr) return "absent";
  switch (value->kind) {
    case GgufKind::kInteger:
      return std::to_string(value->integer);
    case GgufKind::kFloat:
      return Format("%g", value->number);
    case GgufKind::kBool:
      return value->integer != 0 ? "true" : "false";
    case GgufKind::kString:
      return IsValidUtf8(value->text) ? "'" + value->text.substr(0, kShownBytes) + "'" : "not valid UTF-8";
    case GgufKind::kNumbers:
      return Format("an array of %zu numbers", value->numbers.size());
    case GgufKind::kStrings:
      return Format("an array of %zu strings", value->texts.size());
  }
  return "unknown";
}

}  // namespace

Status GgufKeys::Unsupported(const std::string& key, const char* expected) const {
  return Error(DSOPT_E_UNSUPPORTED, "gguf: %s is %s, expected %s", Name(key).c_str(), Shown(Find(key)).c_str(),
               expected);
}

const GgufValue* GgufKeys::Find(const std::string& key) const {
  const auto it = header_.values.find(Name(key));
  return it == header_.values.end() ? nullptr : &it->second;
}

Result<uint32_t> GgufKeys::Uint(const std::string& key, uint32_t absent) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return absent;
  if (value->kind != GgufKind::kInteger || value->integer < 0 || value->integer > UINT32_MAX) {
    return Unsupported(key, "a whole number below 2^32");
  }
  return static_cast<uint32_t>(value->integer);
}

Result<uint32_t> GgufKeys::RequiredUint(const std::string& key) const {
  ASSIGN_OR_RETURN(const uint32_t value, Uint(key, 0));
  if (value == 0) return Unsupported(key, "a whole number from 1 on");
  return value;
}

Result<float> GgufKeys::Float(const std::string& key, float absent) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return absent;
  const bool number = value->kind == GgufKind::kFloat || value->kind == GgufKind::kInteger;
  const auto narrowed = static_cast<float>(number ? value->number : 0);
  if (!number || !std::isfinite(narrowed)) return Unsupported(key, "a finite number");
  return narrowed;
}

Result<bool> GgufKeys::Bool(const std::string& key, bool absent) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return absent;
  if (value->kind != GgufKind::kBool && value->kind != GgufKind::kInteger)
    return Unsupported(key, "true or false");
  return value->integer != 0;
}

Result<std::string> GgufKeys::String(const std::string& key, const char* absent) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::string(absent);
  if (value->kind != GgufKind::kString) return Unsupported(key, "a string");
  return value->text;
}

Result<uint32_t> GgufKeys::UintOfAllLayers(const std::string& key, uint32_t layers, uint32_t absent) const {
  const GgufValue* value = Find(key);
  if (value == nullptr || value->kind != GgufKind::kNumbers) {
    ASSIGN_OR_RETURN(const uint32_t number, Uint(key, absent));
    if (number == 0) return Unsupported(key, "a whole number from 1 on");
    return number;
  }
  const std::vector<double>& numbers = value->numbers;
  const bool same = numbers.size() == layers && layers != 0 && numbers[0] >= 1 && numbers[0] <= UINT32_MAX &&
                    std::all_of(numbers.begin(), numbers.end(), [&](double n) { return n == numbers[0]; });
  if (!same || numbers[0] != std::floor(numbers[0])) {
    return Unsupported(key,
                       Format("a number, or the same number from 1 on for each of %u layers", layers).c_str());
  }
  return static_cast<uint32_t>(numbers[0]);
}

}  // namespace dsopt
