// safetensors.h - reads the safetensors format: one header per file, and checkpoints of one or many files.
// Knows nothing of models. Format: https://github.com/huggingface/safetensors (header length, JSON header,
// data).
#ifndef DSOPT_IMPORT_SAFETENSORS_H_
#define DSOPT_IMPORT_SAFETENSORS_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "format/source.h"
#include "spec/model_spec.h"

namespace dsopt {

struct SafetensorsEntry {
  std::string name;
  std::string dtype_name;                   // as in the file: "BF16", "I64"
  dsopt_dtype dtype = DSOPT_DTYPE_DEFAULT;  // DEFAULT: a type that models do not use
  std::vector<uint64_t> shape;
  uint64_t offset = 0;  // of the data area (header) or of the file (checkpoint), in bytes
  uint64_t bytes = 0;
  uint32_t file = 0;  // index of the checkpoint's file
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  // sorted by name
  std::map<std::string, std::string> metadata;
};

// Checks everything the format demands: known types, sizes that agree with shapes, ranges inside data_bytes
// that cover it without overlap or hole, no name twice. Memory stays proportional to json. DSOPT_E_CORRUPT.
Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, uint64_t data_bytes);
// Of a whole file. Offsets are relative to *data_offset.
Result<SafetensorsHeader> ReadSafetensorsHeader(Source& source, uint64_t* data_offset);

// All tensors of a folder: model.safetensors, or model.safetensors.index.json and its shards.
// [thread-compatible]
class SafetensorsCheckpoint {
 public:
  static Result<SafetensorsCheckpoint> Open(const std::filesystem::path& folder);
  static Result<SafetensorsCheckpoint> FromSource(std::unique_ptr<Source> source);  // one file

  const std::vector<SafetensorsEntry>& tensors() const { return tensors_; }  // sorted by name
  // By name, or by the alias that __metadata__ gives for a name that is absent; nullptr if neither is there.
  const SafetensorsEntry* Find(const std::string& name) const;
  // Bytes [offset, offset + dst.size()) of a tensor.
  Status Read(const SafetensorsEntry& tensor, uint64_t offset, std::span<uint8_t> dst) const;

 private:
  Status AddFile(std::unique_ptr<Source> source, SafetensorsHeader* header);
  Status SortTensors();
  Status OpenSharded(const std::filesystem::path& folder, const std::filesystem::path& index);

  std::vector<std::unique_ptr<Source>> files_;
  std::vector<SafetensorsEntry> tensors_;
  std::map<std::string, std::string> aliases_;
};

}  // namespace dsopt
#endif  // DSOPT_IMPORT_SAFETENSORS_H_
