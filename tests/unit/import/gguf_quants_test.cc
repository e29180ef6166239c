// Blocks of ggml's types against what the gguf package makes of them (data/make_quants.py).
#include "import/gguf_quants.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "import/gguf_checkpoint.h"

namespace dsopt {
namespace {

std::vector<float> Values(MatrixSource* source) {
  std::vector<float> values(source->rows() * source->cols());
  REQUIRE(source->ReadValues(0, source->rows(), DSOPT_F32, reinterpret_cast<uint8_t*>(values.data())).ok());
  return values;
}

std::unique_ptr<MatrixSource> Open(const GgufCheckpoint& file, const std::string& name,
                                   uint64_t head_rows = 0) {
  const GgufTensor* tensor = file.Find(name);
  REQUIRE(tensor != nullptr);
  auto source = OpenGgufMatrix(file, *tensor, tensor->shape, head_rows);
  INFO(std::string(source.status().message()));
  REQUIRE(source.ok());
  return *std::move(source);
}

TEST_CASE("blocks of every quantised GGUF type decode as the gguf package decodes them", "[import]") {
  const Result<GgufCheckpoint> file =
      GgufCheckpoint::Open(DSOPT_SOURCE_DIR "/tests/unit/import/data/quants.gguf");
  INFO(std::string(file.status().message()));
  REQUIRE(file.ok());
  for (const char* type : {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"}) {
    CAPTURE(type);
    const auto source = Open(*file, type);
    const std::vector<float> found = Values(source.get());
    const std::vector<float> expected = Values(Open(*file, std::string(type) + ".values").get());
    REQUIRE(found.size() == expected.size());
    float most = 0;
    for (float value : expected) most = std::max(most, std::abs(value));
    CHECK(most > 0.1f);
    // A row's offset is summed in another order.
    size_t wrong = 0;
    for (size_t i = 0; i < found.size(); ++i) wrong += std::abs(found[i] - expected[i]) <= 1e-6f * most ? 0 : 1;
    CHECK(wrong == 0);
    // Any rows by themselves.
    std::vector<float> second(source->cols());
    REQUIRE(source->ReadValues(1, 1, DSOPT_F32, reinterpret_cast<uint8_t*>(second.data())).ok());
    CHECK(
        std::equal(second.begin(), second.end(), found.begin() + static_cast<std::ptrdiff_t>(source->cols())));
  }
}

TEST_CASE("types of GGUF without a form are named", "[import]") {
  for (uint32_t type : {10u, 11u, 16u, 20u, 23u, 39u}) CHECK(FindGgufQuant(type) == nullptr);
  const Result<GgufCheckpoint> file =
      GgufCheckpoint::Open(DSOPT_SOURCE_DIR "/tests/unit/import/data/quants.gguf");
  REQUIRE(file.ok());
  GgufTensor tensor = *file->Find("Q4_0");
  tensor.block = FindGgufBlock(20);
  const Status status = OpenGgufMatrix(*file, tensor, tensor.shape, 0).status();
  CHECK(status.code() == DSOPT_E_UNSUPPORTED);
  CHECK_THAT(std::string(status.message()), Catch::Contains("IQ4_NL") && Catch::Contains("Q4_K"));
}

}  // namespace
}  // namespace dsopt
