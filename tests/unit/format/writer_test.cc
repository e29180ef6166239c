// The writer: order, limits, what it leaves behind.
#include <sys/resource.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>

#include "format/filter.h"
#include "format/layout.h"
#include "format/reader.h"
#include "tests/unit/format/spec_builder.h"

namespace dsopt::testing {
namespace {

struct Folder {
  Folder() {
    char name[] = "/tmp/dsopt_writer_test_XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

std::string Refusal(const ModelSpec& spec, const WriterOptions& options = {}) {
  Result<Writer> writer = Writer::Create("", spec, options);
  if (writer.ok()) return "accepted";
  CHECK(writer.status().code() == DSOPT_E_INVALID_ARGUMENT);
  return std::string(writer.status().message());
}

}  // namespace

TEST_CASE("a file appears under its name only when it is complete", "[format]") {
  Folder folder;
  const std::string path = folder.path / "model.dsopt";
  const ModelSpec spec = SmallSpec();
  const auto data = SmallData(spec, 3);
  {
    Result<Writer> writer = Writer::Create(path, spec, {});
    REQUIRE(writer.ok());
    REQUIRE(writer->Append(data[0]).ok());
    CHECK(writer->Finish().code() == DSOPT_E_INVALID_STATE);
    CHECK_FALSE(std::filesystem::exists(path));
    CHECK(std::filesystem::exists(path + ".part"));
  }
  CHECK(std::filesystem::is_empty(folder.path));
  Result<Writer> writer = Writer::Create(path, spec, {});
  REQUIRE(writer.ok());
  for (const auto& bytes : data) REQUIRE(writer->Append(bytes).ok());
  REQUIRE(writer->Finish().ok());
  CHECK_FALSE(std::filesystem::exists(path + ".part"));
  for (bool map : {false, true}) {
    auto source = OpenFileSource(path, map);
    REQUIRE(source.ok());
    CHECK(OpenAndReadAll(**source, true).ok());
  }
}

TEST_CASE("the same input gives the same bytes, in memory and in a file, whatever the pieces it comes in",
          "[format]") {
  Folder folder;
  const std::string path = folder.path / "model.dsopt";
  const ModelSpec spec = SmallSpec();
  const auto data = SmallData(spec, 8);
  WriterOptions options;
  options.chunk_bytes = 256;
  const std::vector<uint8_t> expected = WriteFile(spec, data, options);
  std::vector<uint8_t> all;
  for (const auto& bytes : data) all.insert(all.end(), bytes.begin(), bytes.end());
  const size_t step = GENERATE(1, 7, 255, 256, 1000, 1 << 20);
  CAPTURE(step);
  Result<Writer> writer = Writer::Create(path, spec, options);
  REQUIRE(writer.ok());
  for (size_t at = 0; at < all.size(); at += step) {
    REQUIRE(writer->Append(std::span(all).subspan(at, std::min(step, all.size() - at))).ok());
  }
  REQUIRE(writer->Finish().ok());
  auto source = OpenFileSource(path, false);
  REQUIRE(source.ok());
  std::vector<uint8_t> bytes((*source)->size());
  REQUIRE((*source)->ReadAt(0, bytes).ok());
  CHECK(bytes == expected);
}

TEST_CASE("more bytes than declared are refused and change nothing", "[format]") {
  const ModelSpec spec = SmallSpec();
  const auto data = SmallData(spec, 3);
  Result<Writer> writer = Writer::Create("", spec, {});
  REQUIRE(writer.ok());
  for (const auto& bytes : data) {
    std::vector<uint8_t> all;
    for (const auto& other : data) all.insert(all.end(), other.begin(), other.end());
    all.push_back(0);
    CHECK(writer->Append(all).code() == DSOPT_E_INVALID_STATE);
    REQUIRE(writer->Append(bytes).ok());
  }
  CHECK(writer->Append(std::vector<uint8_t>(1)).code() == DSOPT_E_INVALID_STATE);
  REQUIRE(writer->Finish().ok());
  CHECK(writer->Finish().code() == DSOPT_E_INVALID_STATE);
  CHECK(writer->Append(std::vector<uint8_t>(1)).code() == DSOPT_E_INVALID_STATE);
  CHECK(writer->TakeBytes() == WriteFile(spec, data, {}));
}

TEST_CASE("a writer refuses what a reader would refuse", "[format]") {
  ModelSpec spec = SmallSpec();
  spec.config.hidden = 0;
  CHECK_THAT(Refusal(spec), Catch::Contains("writer: configuration: hidden is 0"));
  spec = SmallSpec();
  spec.tensors.clear();
  CHECK_THAT(Refusal(spec), Catch::Contains("number of tensors is 0"));
  spec = SmallSpec();
  spec.tensors[1].name = spec.tensors[0].name;
  CHECK_THAT(Refusal(spec), Catch::Contains("comes after 'zeta'"));
  spec = SmallSpec();
  spec.tensors[0].shape = {0};
  CHECK_THAT(Refusal(spec), Catch::Contains("a dimension is 0"));
  spec = SmallSpec();
  spec.tensors[0].dtype = DSOPT_DTYPE_DEFAULT;
  CHECK_THAT(Refusal(spec), Catch::Contains("type 0 has no size"));
  spec = SmallSpec();
  spec.metadata["source"].assign(1, '\xff');
  CHECK_THAT(Refusal(spec), Catch::Contains("not valid UTF-8"));
  spec = SmallSpec();
  spec.tokenizer.eos = 12345;
  CHECK_THAT(Refusal(spec), Catch::Contains("eos is token 12345"));
  for (uint32_t bytes : {0u, 32u, 100u, (64u << 20) + 64}) {
    WriterOptions options;
    options.chunk_bytes = bytes;
    CHECK_THAT(Refusal(SmallSpec(), options), Catch::Contains("expected a multiple of 64"));
  }
}

TEST_CASE("too many chunks are refused before memory is allocated for them", "[format]") {
  ModelSpec spec = SmallSpec();
  spec.tensors[0].shape = {uint64_t{1} << 45};
  Result<Writer> writer = Writer::Create("", spec, {});
  CHECK(writer.status().code() == DSOPT_E_UNSUPPORTED);
  CHECK_THAT(std::string(writer.status().message()), Catch::Contains("expected larger chunks"));
}

TEST_CASE("a folder that is absent and a file that cannot grow are errors that name the file", "[format]") {
  Result<Writer> absent = Writer::Create("/nonexistent/model.dsopt", SmallSpec(), {});
  CHECK(absent.status().code() == DSOPT_E_IO);
  CHECK_THAT(std::string(absent.status().message()), Catch::Contains("/nonexistent/model.dsopt.part"));

  Folder folder;
  const std::string path = folder.path / "model.dsopt";
  const auto data = SmallData(SmallSpec(), 3);
  rlimit limit;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const rlim_t full = limit.rlim_cur;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  {
    Result<Writer> writer = Writer::Create(path, SmallSpec(), {});
    REQUIRE(writer.ok());
    limit.rlim_cur = 64;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    const Status status = writer->Append(data[0]);
    const Status again = writer->Append(data[1]), finish = writer->Finish();
    limit.rlim_cur = full;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK(status.code() == DSOPT_E_IO);
    CHECK_THAT(std::string(status.message()), Catch::Contains("model.dsopt.part: writing failed"));
    CHECK(again.code() == DSOPT_E_IO);
    CHECK(finish.code() == DSOPT_E_IO);
  }
  std::signal(SIGXFSZ, handler);
  CHECK(std::filesystem::is_empty(folder.path));
}

}  // namespace dsopt::testing
