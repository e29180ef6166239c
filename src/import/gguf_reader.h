// gguf_reader.h - the GGUF container, versions 2 and 3: metadata, and where each tensor lies. Knows nothing of
// models or of what blocks contain. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#ifndef DSOPT_IMPORT_GGUF_READER_H_
#define DSOPT_IMPORT_GGUF_READER_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "format/source.h"

namespace dsopt {

enum class GgufKind : uint8_t { kInteger, kFloat, kBool, kString, kNumbers, kStrings };

// One metadata value. Integers above 2^63 - 1 and arrays of arrays are refused when the file is read.
struct GgufValue {
  GgufKind kind = GgufKind::kInteger;
  int64_t integer = 0;             // kInteger; kBool: 0 or 1
  double number = 0;               // kFloat
  std::string text;                // kString
  std::vector<double> numbers;     // kNumbers: an array of integers, floats or bools
  std::vector<std::string> texts;  // kStrings
};

// How ggml stores a tensor: blocks of `elements` consecutive elements of a row in `bytes`.
struct GgufBlock {
  uint32_t type = 0;  // ggml's number
  const char* name = "";
  uint32_t elements = 1, bytes = 0;
};
// nullptr for a number this build has never heard of.
const GgufBlock* FindGgufBlock(uint32_t type);

struct GgufTensor {
  std::string name;
  const GgufBlock* block = nullptr;
  std::vector<uint64_t>
      shape;            // row-major, outermost first: the reverse of the file's order. 1 to 4 dimensions
  uint64_t offset = 0;  // of the file, in bytes
  uint64_t bytes = 0;
  uint32_t file = 0;  // index of the checkpoint's file
};

struct GgufHeader {
  std::map<std::string, GgufValue, std::less<>> values;
  std::vector<GgufTensor> tensors;  // sorted by name
};

// Checks everything the container promises: types, whole blocks, ranges that lie inside the file, are aligned
// and do not overlap, no name twice. Memory is bounded by the file's size and by 64 MiB of metadata.
// DSOPT_E_CORRUPT; other versions, larger metadata and unknown tensor types are DSOPT_E_UNSUPPORTED.
// with_tensors false: reads the metadata only.
Result<GgufHeader> ReadGgufHeader(Source& source, bool with_tensors = true);

const GgufTensor* FindGgufTensor(const GgufHeader& header, std::string_view name);

// Typed access to metadata. An absent key gives the default; a value of another kind is DSOPT_E_UNSUPPORTED and
// names key and value. [thread-compatible] The header must outlive it.
class GgufKeys {
 public:
  // Keys are looked up as "<prefix>.<key>"; an empty prefix: as they are.
  GgufKeys(const GgufHeader& header, std::string prefix) : header_(header), prefix_(std::move(prefix)) {}

  const GgufValue* Find(const std::string& key) const;
  Result<uint32_t> Uint(const std::string& key, uint32_t absent) const;
  Result<uint32_t> RequiredUint(const std::string& key) const;  // at least 1
  Result<float> Float(const std::string& key, float absent) const;
  Result<bool> Bool(const std::string& key, bool absent) const;
  Result<std::string> String(const std::string& key, const char* absent) const;
  // A number that holds for all layers, or an array with the same number for each of `layers`. At least 1.
  Result<uint32_t> UintOfAllLayers(const std::string& key, uint32_t layers, uint32_t absent) const;
  // "gguf: llama.block_count is 0, expected ...": DSOPT_E_UNSUPPORTED.
  Status Unsupported(const std::string& key, const char* expected) const;

 private:
  std::string Name(const std::string& key) const { return prefix_.empty() ? key : prefix_ + "." + key; }

  const GgufHeader& header_;
  const std::string prefix_;
};

}  // namespace dsopt
#endif  // DSOPT_IMPORT_GGUF_READER_H_
