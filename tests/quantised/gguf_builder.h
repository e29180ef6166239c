// gguf_builder.h - makes GGUF files for tests: whatever is put in, in this order.
#ifndef DSOPT_TESTS_QUANTISED_GGUF_BUILDER_H_
#define DSOPT_TESTS_QUANTISED_GGUF_BUILDER_H_

#include <cstdint>
#include <string>
#include <vector>

namespace dsopt::testing {

class GgufBuilder {
 public:
  explicit GgufBuilder(uint32_t version = 3) : version_(version) {}

  void Uint(const std::string& key, uint32_t value);
  void Float(const std::string& key, float value);
  void Bool(const std::string& key, bool value);
  void String(const std::string& key, const std::string& value);
  void Strings(const std::string& key, const std::vector<std::string>& values);
  void Floats(const std::string& key, const std::vector<float>& values);
  void Ints(const std::string& key, const std::vector<int32_t>& values);
  // shape: row-major. type: ggml's number. bytes: any.
  void Tensor(const std::string& name, uint32_t type, const std::vector<uint64_t>& shape,
              const std::vector<uint8_t>& bytes);

  std::vector<uint8_t> Bytes() const;

 private:
  void Key(const std::string& key, uint32_t type);

  uint32_t version_;
  uint64_t pairs_ = 0, tensors_ = 0;
  std::vector<uint8_t> metadata_, infos_, data_;
};

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_QUANTISED_GGUF_BUILDER_H_
