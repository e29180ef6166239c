// Writes the seeds of the fuzz targets container and chunk: test_format "[.seeds]". Run it when the format
// changes.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "format/chunk_codec.h"
#include "format/metadata.h"
#include "format/reader.h"
#include "tests/unit/format/spec_builder.h"

namespace dsopt::testing {
namespace {

void WriteSeed(const char* target, const char* name, const std::vector<uint8_t>& bytes) {
  const std::filesystem::path folder = std::filesystem::path(DSOPT_SOURCE_DIR) / "tests/fuzz/corpus" / target;
  std::ofstream out(folder / name, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  REQUIRE(out.good());
  CHECK(bytes.size() <= 20000);
}

std::vector<uint8_t> Joined(std::vector<uint8_t> head, std::span<const uint8_t> tail) {
  head.insert(head.end(), tail.begin(), tail.end());
  return head;
}

// As the container target takes it: the flatbuffer, then the bytes from the first chunk on.
std::vector<uint8_t> Unwrapped(const std::vector<uint8_t>& file) {
  const auto source = MakeMemorySource(file);
  Result<ModelSpec> spec = ReadModelSpec(*source, DefaultAllocator());
  REQUIRE(spec.ok());
  const std::vector<uint8_t> metadata = SerializeMetadata(*spec);
  std::vector<uint8_t> seed = {1};
  for (int shift = 0; shift < 32; shift += 8) seed.push_back(static_cast<uint8_t>(metadata.size() >> shift));
  seed.insert(seed.end(), metadata.begin(), metadata.end());
  if (spec->chunks.empty()) return seed;
  return Joined(seed, std::span(file).subspan(spec->chunks[0].offset));
}

// A small matrix in every encoding, with its scales and offsets.
std::vector<TensorSpec> CodedTensors() {
  const struct {
    const char* name;
    dsopt_encoding encoding;
    dsopt_dtype dtype;
    uint32_t group_rows, group_cols;
    bool has_offset;
  } cases[] = {{"a", DSOPT_ENCODING_LOSSLESS12, DSOPT_BF16, 0, 0, false},
               {"b", DSOPT_ENCODING_INT8, DSOPT_I8, 0, 16, true},
               {"c", DSOPT_ENCODING_FP8, DSOPT_F8_E4M3, 128, 128, false},
               {"d", DSOPT_ENCODING_INT4, DSOPT_U8, 1, 32, true}};
  std::vector<TensorSpec> tensors;
  for (const auto& c : cases) {
    TensorSpec codes;
    codes.name = c.name;
    codes.encoding = c.encoding;
    codes.dtype = c.dtype;
    codes.shape = {9, 40};
    codes.group_rows = c.group_rows;
    codes.group_cols = c.group_cols;
    codes.has_offset = c.has_offset;
    tensors.push_back(codes);
    TensorSpec scales;
    scales.dtype = DSOPT_F16;
    scales.shape = ScalesShape(codes);
    scales.name = ScalesName(c.name);
    if (HasScales(c.encoding)) tensors.push_back(scales);
    scales.name = OffsetsName(c.name);
    if (c.has_offset) tensors.push_back(scales);
  }
  return tensors;
}

}  // namespace

TEST_CASE("seeds of the fuzz targets", "[.seeds]") {
  ModelSpec spec = SmallSpec();
  const auto data = SmallData(spec, 1);
  WriterOptions options;
  options.chunk_bytes = 1024;
  WriteSeed("container", "compressed", Joined({0}, WriteFile(spec, data, options)));
  WriteSeed("container", "compressed_unwrapped", Unwrapped(WriteFile(spec, data, options)));
  ModelSpec synthetic = spec;
  synthetic.tensors.erase(synthetic.tensors.begin(), synthetic.tensors.end() - 1);
  synthetic.tokenizer = {};
  WriteSeed("container", "synthetic", Joined({0}, WriteFile(synthetic, {}, options)));
  WriteSeed("container", "synthetic_unwrapped", Unwrapped(WriteFile(synthetic, {}, options)));

  ModelSpec coded = synthetic;
  coded.tensors = CodedTensors();
  const auto coded_data = SmallData(coded, 2);
  WriteSeed("container", "encodings", Joined({0}, WriteFile(coded, coded_data, options)));
  WriteSeed("container", "encodings_unwrapped", Unwrapped(WriteFile(coded, coded_data, options)));

  ChunkEncoder encoder(1);
  ChunkSpec chunk;
  auto stored = encoder.Encode(data[0], 2, true, &chunk);
  REQUIRE((stored.ok() && chunk.filter == Filter::kBytePlanes));
  const uint8_t size[3] = {static_cast<uint8_t>(chunk.raw_size), static_cast<uint8_t>(chunk.raw_size >> 8),
                           static_cast<uint8_t>(chunk.raw_size >> 16)};
  WriteSeed("chunk", "byte_planes", Joined({0, 1, 1, size[0], size[1], size[2]}, *stored));
  const std::vector<uint8_t> text(3000, 'x');
  stored = encoder.Encode(text, 1, true, &chunk);
  REQUIRE((stored.ok() && chunk.codec == Codec::kZstd));
  WriteSeed("chunk", "zstd", Joined({0, 1, 0, 3000 & 255, 3000 >> 8, 0}, *stored));
  WriteSeed("chunk", "stored", Joined({0, 0, 0, 16, 0, 0}, std::span(text).first(16)));
  WriteSeed("chunk", "raw_bf16", Joined({1, 1}, data[0]));
  WriteSeed("chunk", "raw_bytes", Joined({1, 0}, text));
}

}  // namespace dsopt::testing
