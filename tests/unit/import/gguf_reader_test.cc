// The container: metadata of every kind, tensors where the file says, and refusals that name what is wrong.
#include "import/gguf_reader.h"

#include <catch2/catch.hpp>

#include "tests/quantised/gguf_builder.h"

namespace dsopt {
namespace {

using testing::GgufBuilder;

Result<GgufHeader> Read(const std::vector<uint8_t>& bytes, bool with_tensors = true) {
  const std::unique_ptr<Source> source = MakeMemorySource(bytes);
  return ReadGgufHeader(*source, with_tensors);
}

void CheckRefused(const std::vector<uint8_t>& bytes, dsopt_code code, const std::string& says) {
  const Result<GgufHeader> header = Read(bytes);
  REQUIRE_FALSE(header.ok());
  CHECK(header.status().code() == code);
  CHECK_THAT(std::string(header.status().message()), Catch::Contains(says));
}

GgufBuilder Sample() {
  GgufBuilder file;
  file.Uint("a.count", 7);
  file.Float("a.share", 0.5f);
  file.Bool("a.flag", true);
  file.String("a.name", "x");
  file.Strings("a.words", {"one", "", "three"});
  file.Floats("a.scores", {1.5f, -2});
  file.Ints("a.layers", {4, 4, 4});
  return file;
}

TEST_CASE("GGUF metadata is read by kind, and keys of another kind are refused", "[import]") {
  const Result<GgufHeader> header = Read(Sample().Bytes());
  REQUIRE(header.ok());
  const GgufKeys keys(*header, "a");
  CHECK(*keys.Uint("count", 0) == 7);
  CHECK(*keys.Uint("absent", 3) == 3);
  CHECK(*keys.Float("share", 0) == 0.5f);
  CHECK(*keys.Float("count", 0) == 7.0f);
  CHECK(*keys.Bool("flag", false));
  CHECK(*keys.String("name", "") == "x");
  CHECK(keys.Find("words")->texts == std::vector<std::string>{"one", "", "three"});
  CHECK(keys.Find("scores")->numbers == std::vector<double>{1.5, -2});
  CHECK(*keys.UintOfAllLayers("layers", 3, 0) == 4);
  CHECK(*keys.UintOfAllLayers("count", 3, 0) == 7);
  CHECK_FALSE(keys.UintOfAllLayers("layers", 4, 0).ok());
  CHECK_FALSE(keys.UintOfAllLayers("scores", 2, 0).ok());
  for (const Status& status : {keys.Uint("name", 0).status(), keys.Float("name", 0).status(),
                               keys.Bool("name", false).status(), keys.RequiredUint("name").status()}) {
    CHECK(status.code() == DSOPT_E_UNSUPPORTED);
    CHECK_THAT(std::string(status.message()), Catch::Contains("a.name is 'x'"));
  }
  CHECK_FALSE(keys.String("count", "").ok());
  CHECK_FALSE(keys.RequiredUint("absent").ok());
}

TEST_CASE("GGUF tensors lie where the file says, by name and outermost dimension first", "[import]") {
  GgufBuilder file = Sample();
  file.Tensor("z", 0, {3}, std::vector<uint8_t>(12, 1));
  file.Tensor("b", 8, {2, 5, 64}, std::vector<uint8_t>(2 * 5 * 2 * 34, 2));
  const std::vector<uint8_t> bytes = file.Bytes();
  const Result<GgufHeader> header = Read(bytes);
  REQUIRE(header.ok());
  REQUIRE(header->tensors.size() == 2);
  const GgufTensor* tensor = FindGgufTensor(*header, "b");
  REQUIRE(tensor != nullptr);
  CHECK(tensor->shape == std::vector<uint64_t>{2, 5, 64});
  CHECK(tensor->bytes == 680);
  CHECK(bytes[tensor->offset] == 2);
  CHECK(bytes[tensor->offset - 32] == 1);
  CHECK(FindGgufTensor(*header, "c") == nullptr);
}

TEST_CASE("GGUF files that contradict themselves are refused", "[import]") {
  const auto with = [](const std::string& name, uint32_t type, const std::vector<uint64_t>& shape,
                       size_t size) {
    GgufBuilder file = Sample();
    file.Tensor(name, type, shape, std::vector<uint8_t>(size));
    return file;
  };
  CheckRefused({'G', 'G', 'U', 'X', 3, 0, 0, 0}, DSOPT_E_CORRUPT, "no GGUF file");
  CheckRefused(GgufBuilder(1).Bytes(), DSOPT_E_UNSUPPORTED, "version 1");
  CheckRefused(with("t", 77, {4}, 16).Bytes(), DSOPT_E_UNSUPPORTED, "type 77");
  CheckRefused(with("t", 8, {33}, 64).Bytes(), DSOPT_E_CORRUPT, "rows of 33 elements");
  CheckRefused(with("t", 0, {4}, 0).Bytes(), DSOPT_E_CORRUPT, "takes 16 bytes");
  CheckRefused(with("t", 0, {0}, 16).Bytes(), DSOPT_E_CORRUPT, "rows of 0");
  CheckRefused(with("t", 0, {uint64_t{1} << 62, 4}, 16).Bytes(), DSOPT_E_CORRUPT, "a size between 1 and 2^64");
  CheckRefused(with("t", 0, {1, 1, 1, 1, 4}, 16).Bytes(), DSOPT_E_CORRUPT, "5 dimensions");
  CheckRefused(with("t", 0, {}, 16).Bytes(), DSOPT_E_CORRUPT, "0 dimensions");
  CheckRefused(with(std::string(2000, 'n'), 0, {4}, 16).Bytes(), DSOPT_E_CORRUPT, "string of 2000 bytes");
  GgufBuilder twice = with("t", 0, {4}, 16);
  twice.Tensor("t", 0, {4}, std::vector<uint8_t>(16));
  CheckRefused(twice.Bytes(), DSOPT_E_CORRUPT, "appears twice");
  GgufBuilder key = Sample();
  key.Uint("a.count", 8);
  CheckRefused(key.Bytes(), DSOPT_E_CORRUPT, "a.count");
  GgufBuilder alignment = with("t", 0, {4}, 16);
  alignment.Uint("general.alignment", 48);
  CheckRefused(alignment.Bytes(), DSOPT_E_UNSUPPORTED, "general.alignment is 48");
}

TEST_CASE("a GGUF header cut anywhere is refused", "[import]") {
  GgufBuilder file = Sample();
  file.Tensor("t", 0, {4}, std::vector<uint8_t>(16));
  const std::vector<uint8_t> bytes = file.Bytes();
  for (size_t size = 0; size + 16 < bytes.size(); ++size) {  // the last 16 are padding of the data
    CAPTURE(size);
    CHECK(Read({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)}).status().code() ==
          DSOPT_E_CORRUPT);
  }
}

}  // namespace
}  // namespace dsopt
