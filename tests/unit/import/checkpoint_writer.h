// checkpoint_writer.h - makes safetensors files and checkpoint folders for tests.
#ifndef DSOPT_TESTS_UNIT_IMPORT_CHECKPOINT_WRITER_H_
#define DSOPT_TESTS_UNIT_IMPORT_CHECKPOINT_WRITER_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace dsopt::test {

struct FileTensor {
  std::string name, dtype;  // "F32", "BF16", ...
  std::vector<uint64_t> shape;
  std::vector<uint8_t> bytes;
};

FileTensor F32Tensor(const std::string& name, const std::vector<uint64_t>& shape,
                     float first);  // first, first+1, ...
FileTensor Bf16Tensor(const std::string& name, const std::vector<uint64_t>& shape, float first);

// A whole safetensors file.
std::string SafetensorsBytes(const std::vector<FileTensor>& tensors,
                             const std::map<std::string, std::string>& metadata = {});
// Header length + header + data, whatever the header says.
std::string WithHeader(const std::string& json, const std::string& data);

void WriteText(const std::filesystem::path& path, const std::string& text);
std::string ReadBytes(const std::filesystem::path& path);

// An empty folder that is removed with the object.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace dsopt::test
#endif  // DSOPT_TESTS_UNIT_IMPORT_CHECKPOINT_WRITER_H_
