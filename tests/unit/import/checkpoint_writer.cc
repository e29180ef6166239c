#include "tests/unit/import/checkpoint_writer.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/float_types.h"

namespace dsopt::test {
namespace {

uint64_t Count(const std::vector<uint64_t>& shape) {
  uint64_t count = 1;
  for (uint64_t dimension : shape) count *= dimension;
  return count;
}

}  // namespace

FileTensor F32Tensor(const std::string& name, const std::vector<uint64_t>& shape, float first) {
  FileTensor tensor{name, "F32", shape, std::vector<uint8_t>(Count(shape) * 4)};
  for (uint64_t i = 0; i < Count(shape); ++i) {
    const float value = first + static_cast<float>(i);
    std::memcpy(tensor.bytes.data() + 4 * i, &value, 4);
  }
  return tensor;
}

FileTensor Bf16Tensor(const std::string& name, const std::vector<uint64_t>& shape, float first) {
  FileTensor tensor{name, "BF16", shape, std::vector<uint8_t>(Count(shape) * 2)};
  for (uint64_t i = 0; i < Count(shape); ++i) {
    const uint16_t bits = FloatToBf16(first + static_cast<float>(i));
    std::memcpy(tensor.bytes.data() + 2 * i, &bits, 2);
  }
  return tensor;
}

std::string WithHeader(const std::string& json, const std::string& data) {
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(static_cast<uint64_t>(json.size()) >> (8 * i));
  return bytes + json + data;
}

std::string SafetensorsBytes(const std::vector<FileTensor>& tensors,
                             const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::string data;
  for (const FileTensor& tensor : tensors) {
    nlohmann::ordered_json& entry = header[tensor.name];
    entry["dtype"] = tensor.dtype;
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {data.size(), data.size() + tensor.bytes.size()};
    data.append(tensor.bytes.begin(), tensor.bytes.end());
  }
  return WithHeader(header.dump(), data);
}

void WriteText(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string ReadBytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TempFolder::TempFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "dsopt_test_XXXXXX").string();
  path_ = mkdtemp(name.data());
}

TempFolder::~TempFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

}  // namespace dsopt::test
