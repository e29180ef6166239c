#include "import/json_file.h"

#include <cmath>
#include <fstream>

namespace dsopt {
namespace {

using nlohmann::json;

constexpr int kMostDepth = 32;

std::string ValueText(const json& value) {
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return text;
}

}  // namespace

Result<std::string> ReadTextFile(const std::filesystem::path& path, uint64_t max_bytes) {
  std::error_code error;
  const uint64_t bytes = std::filesystem::file_size(path, error);
  if (error) {
    return Error(std::filesystem::exists(path) ? DSOPT_E_IO : DSOPT_E_NOT_FOUND, "%s: %s", path.c_str(),
                 error.message().c_str());
  }
  if (bytes > max_bytes) {
    return Error(DSOPT_E_CORRUPT, "%s: %llu bytes, expected at most %llu", path.c_str(),
                 static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(max_bytes));
  }
  std::string text(bytes, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(bytes))) {
    return Error(DSOPT_E_IO, "%s: cannot read %llu bytes", path.c_str(),
                 static_cast<unsigned long long>(bytes));
  }
  return text;
}

Result<json> ParseJsonObject(std::string_view text, const std::string& what) {
  bool deep = false;
  const json::parser_callback_t limit = [&deep](int depth, json::parse_event_t, json&) {
    deep = deep || depth > kMostDepth;
    return !deep;
  };
  json value = json::parse(text, limit, false);
  if (deep) return Error(DSOPT_E_CORRUPT, "%s: nested deeper than %d", what.c_str(), kMostDepth);
  if (value.is_discarded()) return Error(DSOPT_E_CORRUPT, "%s: not valid JSON", what.c_str());
  if (!value.is_object()) {
    return Error(DSOPT_E_CORRUPT, "%s: a JSON %s, expected an object", what.c_str(), value.type_name());
  }
  return value;
}

const json* JsonKeys::Find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

Status JsonKeys::Unsupported(const char* key, const char* expected) const {
  const json* value = Find(key);
  return Error(DSOPT_E_UNSUPPORTED, "%s: %s is %s, expected %s", where_.c_str(), key,
               value == nullptr ? "absent" : ValueText(*value).c_str(), expected);
}

Result<bool> JsonKeys::Bool(const char* key, bool absent) const {
  const json* value = Find(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) return Unsupported(key, "true or false");
  return value->get<bool>();
}

Result<uint32_t> JsonKeys::Uint(const char* key, uint32_t absent) const {
  const json* value = Find(key);
  if (value == nullptr) return absent;
  if (value->is_number_unsigned() && value->get<uint64_t>() <= UINT32_MAX) {
    return static_cast<uint32_t>(value->get<uint64_t>());
  }
  // Some configurations write whole numbers as 4096.0.
  if (value->is_number_float()) {
    const double number = value->get<double>();
    if (number >= 0 && number <= UINT32_MAX && std::floor(number) == number)
      return static_cast<uint32_t>(number);
  }
  return Unsupported(key, "a whole number from 0 to 4294967295");
}

Result<uint32_t> JsonKeys::RequiredUint(const char* key) const {
  ASSIGN_OR_RETURN(const uint32_t value, Uint(key, 0));
  if (value == 0) return Unsupported(key, "a whole number from 1");
  return value;
}

Result<float> JsonKeys::Float(const char* key, float absent) const {
  const json* value = Find(key);
  if (value == nullptr) return absent;
  if (!value->is_number()) return Unsupported(key, "a number");
  const auto number = static_cast<float>(value->get<double>());
  if (!std::isfinite(number)) return Unsupported(key, "a finite number");
  return number;
}

Result<std::string> JsonKeys::String(const char* key, const char* absent) const {
  const json* value = Find(key);
  if (value == nullptr) return std::string(absent);
  if (!value->is_string()) return Unsupported(key, "a string");
  return value->get<std::string>();
}

}  // namespace dsopt
