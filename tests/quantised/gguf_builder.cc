#include "tests/quantised/gguf_builder.h"

#include <algorithm>

namespace dsopt::testing {
namespace {

constexpr size_t kAlignment = 32;

template <typename T>
void Put(T value, std::vector<uint8_t>* bytes) {
  const auto* raw = reinterpret_cast<const uint8_t*>(&value);
  bytes->insert(bytes->end(), raw, raw + sizeof(T));
}

void PutText(const std::string& text, std::vector<uint8_t>* bytes) {
  Put(uint64_t{text.size()}, bytes);
  bytes->insert(bytes->end(), text.begin(), text.end());
}

void Align(std::vector<uint8_t>* bytes) {
  bytes->resize((bytes->size() + kAlignment - 1) / kAlignment * kAlignment);
}

}  // namespace

void GgufBuilder::Key(const std::string& key, uint32_t type) {
  PutText(key, &metadata_);
  Put(type, &metadata_);
  ++pairs_;
}

void GgufBuilder::Uint(const std::string& key, uint32_t value) {
  Key(key, 4);
  Put(value, &metadata_);
}

void GgufBuilder::Float(const std::string& key, float value) {
  Key(key, 6);
  Put(value, &metadata_);
}

void GgufBuilder::Bool(const std::string& key, bool value) {
  Key(key, 7);
  Put(static_cast<uint8_t>(value), &metadata_);
}

void GgufBuilder::String(const std::string& key, const std::string& value) {
  Key(key, 8);
  PutText(value, &metadata_);
}

void GgufBuilder::Strings(const std::string& key, const std::vector<std::string>& values) {
  Key(key, 9);
  Put(uint32_t{8}, &metadata_);
  Put(uint64_t{values.size()}, &metadata_);
  for (const std::string& value : values) PutText(value, &metadata_);
}

void GgufBuilder::Floats(const std::string& key, const std::vector<float>& values) {
  Key(key, 9);
  Put(uint32_t{6}, &metadata_);
  Put(uint64_t{values.size()}, &metadata_);
  for (float value : values) Put(value, &metadata_);
}

void GgufBuilder::Ints(const std::string& key, const std::vector<int32_t>& values) {
  Key(key, 9);
  Put(uint32_t{5}, &metadata_);
  Put(uint64_t{values.size()}, &metadata_);
  for (int32_t value : values) Put(value, &metadata_);
}

void GgufBuilder::Tensor(const std::string& name, uint32_t type, const std::vector<uint64_t>& shape,
                         const std::vector<uint8_t>& bytes) {
  PutText(name, &infos_);
  Put(static_cast<uint32_t>(shape.size()), &infos_);
  for (size_t i = shape.size(); i-- > 0;) Put(shape[i], &infos_);
  Put(type, &infos_);
  Put(uint64_t{data_.size()}, &infos_);
  data_.insert(data_.end(), bytes.begin(), bytes.end());
  Align(&data_);
  ++tensors_;
}

std::vector<uint8_t> GgufBuilder::Bytes() const {
  std::vector<uint8_t> bytes = {'G', 'G', 'U', 'F'};
  Put(version_, &bytes);
  Put(tensors_, &bytes);
  Put(pairs_, &bytes);
  bytes.insert(bytes.end(), metadata_.begin(), metadata_.end());
  bytes.insert(bytes.end(), infos_.begin(), infos_.end());
  Align(&bytes);
  bytes.insert(bytes.end(), data_.begin(), data_.end());
  return bytes;
}

}  // namespace dsopt::testing
