// converted_file.h - reads a .dsopt file back: its description and its tensors, decoded.
#ifndef DSOPT_TESTS_UNIT_IMPORT_CONVERTED_FILE_H_
#define DSOPT_TESTS_UNIT_IMPORT_CONVERTED_FILE_H_

#include <catch2/catch.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/float_types.h"
#include "base/memory.h"
#include "format/reader.h"
#include "quant/encode.h"

namespace dsopt::test {

// A .dsopt file and its decoded tensors.
class Converted {
 public:
  explicit Converted(const std::filesystem::path& path) {
    Result<std::unique_ptr<Source>> source = OpenFileSource(path.string(), false);
    REQUIRE(source.ok());
    source_ = *std::move(source);
    Result<ModelSpec> spec = ReadModelSpec(*source_, DefaultAllocator());
    INFO(std::string(spec.status().message()));
    REQUIRE(spec.ok());
    spec_ = *std::move(spec);
  }
  const ModelSpec& spec() const { return spec_; }
  const TensorSpec& Find(const std::string& name) const {
    for (const TensorSpec& tensor : spec_.tensors) {
      if (tensor.name == name) return tensor;
    }
    FAIL("no tensor " << name);
    return spec_.tensors[0];
  }
  std::vector<uint8_t> Bytes(const std::string& name) {
    Result<ChunkReader> reader = ChunkReader::Create(spec_, *source_, DefaultAllocator(), true);
    REQUIRE(reader.ok());
    const TensorSpec& tensor = Find(name);
    std::vector<uint8_t> bytes;
    for (uint32_t i = 0; i < tensor.chunk_count; ++i) {
      Result<std::span<const uint8_t>> chunk = reader->Read(tensor.first_chunk + i);
      REQUIRE(chunk.ok());
      bytes.insert(bytes.end(), chunk->begin(), chunk->end());
    }
    return bytes;
  }
  std::vector<float> Floats(const std::string& name) {
    const dsopt_dtype dtype = Find(name).dtype;
    const std::vector<uint8_t> bytes = Bytes(name);
    std::vector<float> values(bytes.size() / ElementBytes(dtype));
    ConvertElements(dtype, bytes.data(), DSOPT_F32, values.data(), values.size());
    return values;
  }
  std::vector<float> Decoded(const std::string& name) {
    const TensorSpec& tensor = Find(name);
    if (!HasScales(tensor.encoding)) return Floats(name);
    const Coding coding = {tensor.encoding, tensor.group_rows, tensor.group_cols, tensor.has_offset, DSOPT_F32};
    const std::vector<uint8_t> codes = Bytes(name);
    const std::vector<float> scales = Floats(ScalesName(name));
    const std::vector<float> offsets = tensor.has_offset ? Floats(OffsetsName(name)) : std::vector<float>();
    uint64_t rows = 1;
    for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
    std::vector<float> values(rows * tensor.shape.back());
    DecodeRows(coding, codes.data(), scales.data(), tensor.has_offset ? offsets.data() : nullptr, rows,
               tensor.shape.back(), values.data());
    return values;
  }

 private:
  std::unique_ptr<Source> source_;
  ModelSpec spec_;
};

}  // namespace dsopt::test
#endif  // DSOPT_TESTS_UNIT_IMPORT_CONVERTED_FILE_H_
