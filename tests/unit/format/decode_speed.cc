// How fast one thread decodes chunks of trained bf16 weights: test_format "[.bench]". Reports, judges nothing.
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/clock.h"
#include "format/reader.h"
#include "tests/unit/format/spec_builder.h"

namespace dsopt::testing {
namespace {

constexpr size_t kBytes = 16u << 20;

// The first tensors of a trained checkpoint, or, where there is none, normally distributed values.
std::vector<uint8_t> Weights(const char** source) {
  std::ifstream in(DSOPT_SOURCE_DIR "/../shared/data/checkpoints/llama-12m/model.safetensors",
                   std::ios::binary);
  uint64_t header_bytes = 0;
  if (in.read(reinterpret_cast<char*>(&header_bytes), sizeof header_bytes)) {
    in.seekg(static_cast<std::streamoff>(sizeof header_bytes + header_bytes));
    std::vector<uint8_t> bytes(kBytes);
    if (in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()))) {
      *source = "llama-12m";
      return bytes;
    }
  }
  *source = "normal distribution";
  ModelSpec spec = SmallSpec();
  spec.tensors.resize(1);
  spec.tensors[0].shape = {kBytes / 2};
  return SmallData(spec, 1)[0];
}

double DecodeSeconds(const std::vector<uint8_t>& file, bool verify) {
  const auto source = MakeMemorySource(file);
  Result<ModelSpec> spec = ReadModelSpec(*source, DefaultAllocator());
  REQUIRE(spec.ok());
  Result<ChunkReader> reader = ChunkReader::Create(*spec, *source, DefaultAllocator(), verify);
  REQUIRE(reader.ok());
  double best = 1e9;
  for (int round = 0; round < 9; ++round) {
    const uint64_t start = NowNs();
    for (uint32_t i = 0; i < spec->chunks.size(); ++i) REQUIRE(reader->Read(i).ok());
    best = std::min(best, static_cast<double>(NowNs() - start) * 1e-9);
  }
  return best;
}

}  // namespace

TEST_CASE("speed of decoding bf16 chunks", "[.bench]") {
  const char* weights = nullptr;
  ModelSpec spec = SmallSpec();
  spec.tensors.resize(1);
  spec.tensors[0].shape = {kBytes / 2};
  const std::vector<std::vector<uint8_t>> data = {Weights(&weights)};
  const uint64_t start = NowNs();
  const std::vector<uint8_t> file = WriteFile(spec, data, {});
  const double write_seconds = static_cast<double>(NowNs() - start) * 1e-9;
  std::printf("%s: %.4f of the raw size, written with %.2f GB/s\n", weights,
              static_cast<double>(file.size()) / static_cast<double>(kBytes), kBytes * 1e-9 / write_seconds);
  for (bool verify : {false, true}) {
    std::printf("decoded with %.2f GB/s of raw bytes, one thread%s\n",
                kBytes * 1e-9 / DecodeSeconds(file, verify),
                verify ? ", both checksums" : ", checksum of stored bytes");
  }
}

}  // namespace dsopt::testing
