// json_file.h - small JSON files of a checkpoint folder, and typed access to their keys with errors that name
// the key.
#ifndef DSOPT_IMPORT_JSON_FILE_H_
#define DSOPT_IMPORT_JSON_FILE_H_

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace dsopt {

// Whole text of a file of at most max_bytes. DSOPT_E_NOT_FOUND if absent, DSOPT_E_CORRUPT if longer.
Result<std::string> ReadTextFile(const std::filesystem::path& path, uint64_t max_bytes);
// The text must be one JSON object nested at most 32 deep; `what` names it in errors.
Result<nlohmann::json> ParseJsonObject(std::string_view text, const std::string& what);

// Keys of one JSON object. A key that is absent or null gives the default. A value of another type is
// DSOPT_E_UNSUPPORTED and names key and value. [thread-compatible] The object must outlive the reader.
class JsonKeys {
 public:
  JsonKeys(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {}

  bool has(const char* key) const { return Find(key) != nullptr; }  // and is not null
  const nlohmann::json* Find(const char* key) const;
  Result<bool> Bool(const char* key, bool absent) const;
  Result<uint32_t> Uint(const char* key, uint32_t absent) const;
  Result<uint32_t> RequiredUint(const char* key) const;  // at least 1
  Result<float> Float(const char* key, float absent) const;
  Result<std::string> String(const char* key, const char* absent) const;
  // "config.json: hidden_act is "relu", expected silu": DSOPT_E_UNSUPPORTED.
  Status Unsupported(const char* key, const char* expected) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace dsopt
#endif  // DSOPT_IMPORT_JSON_FILE_H_
