#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "format/reader.h"
#include "tests/unit/format/spec_builder.h"

namespace dsopt::testing {
namespace {

// Host callbacks over a vector; the call numbered `failing` fails.
struct Host {
  std::vector<uint8_t> bytes;
  int calls = 0, failing = -1, closed = 0;
  dsopt_io Io() {
    dsopt_io io = {};
    io.struct_size = sizeof io;
    io.user = this;
    io.size = bytes.size();
    io.read_at = [](void* user, uint64_t offset, void* dst, size_t len) -> dsopt_status {
      Host& host = *static_cast<Host*>(user);
      if (host.calls++ == host.failing) return DSOPT_E_IO;
      std::memcpy(dst, host.bytes.data() + offset, len);
      return DSOPT_OK;
    };
    io.close = [](void* user) { ++static_cast<Host*>(user)->closed; };
    return io;
  }
};

}  // namespace

TEST_CASE("the n-th read of the host fails: a typed error names the place, close is called once", "[format]") {
  Host host;
  host.bytes = WriteFile(SmallSpec(), SmallData(SmallSpec(), 4), {});
  bool finished = false;
  for (int n = 0; !finished; ++n) {
    host.calls = host.closed = 0;
    host.failing = n;
    {
      auto source = MakeIoSource(host.Io());
      REQUIRE(source.ok());
      const Status status = OpenAndReadAll(**source, true);
      finished = status.ok();
      if (!finished) {
        CHECK(status.code() == DSOPT_E_CALLBACK);
        CHECK(status.message().find("read_at(") != std::string_view::npos);
      }
    }
    CHECK(host.closed == 1);
    REQUIRE(n < 100);
  }
  CHECK(host.calls > 5);
}

TEST_CASE("a source without read_at is refused and closed", "[format]") {
  Host host;
  dsopt_io io = host.Io();
  io.read_at = nullptr;
  CHECK(MakeIoSource(io).status().code() == DSOPT_E_INVALID_ARGUMENT);
  CHECK(host.closed == 1);
}

TEST_CASE("a read outside of a source is refused", "[format]") {
  const std::vector<uint8_t> bytes(100);
  const auto source = MakeMemorySource(bytes);
  uint8_t buffer[16];
  CHECK(source->ReadAt(84, buffer).ok());
  CHECK(source->ReadAt(85, buffer).code() == DSOPT_E_CORRUPT);
  CHECK(source->ReadAt(UINT64_MAX - 3, buffer).code() == DSOPT_E_CORRUPT);
  CHECK(source->View(85, 16).empty());
  CHECK(source->View(84, 16).size() == 16);
}

TEST_CASE("a positive status of the host is a failure, too: the bytes may not be there", "[format]") {
  Host host;
  host.bytes.resize(64);
  dsopt_io io = host.Io();
  io.read_at = [](void*, uint64_t, void*, size_t) -> dsopt_status { return DSOPT_PENDING; };
  auto source = MakeIoSource(io);
  REQUIRE(source.ok());
  uint8_t buffer[16];
  const Status status = (*source)->ReadAt(32, buffer);
  CHECK(status.code() == DSOPT_E_CALLBACK);
  CHECK_THAT(std::string(status.message()), Catch::Contains("read_at(32, 16 bytes)"));
}

namespace {

struct TempFile {
  explicit TempFile(std::span<const uint8_t> bytes) {
    char name[] = "/tmp/dsopt_source_test_XXXXXX";
    file = mkstemp(name);
    REQUIRE(file >= 0);
    path = name;
    REQUIRE(write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  ~TempFile() {
    close(file);
    unlink(path.c_str());
  }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  int file = -1;
  std::string path;
};

}  // namespace

TEST_CASE("a file that shrinks after it was opened gives DSOPT_E_IO with its path and offset", "[format]") {
  const std::vector<uint8_t> bytes = WriteFile(SmallSpec(), SmallData(SmallSpec(), 4), {});
  TempFile temp(bytes);
  for (size_t left = 0; left < bytes.size(); left += 97) {
    REQUIRE(ftruncate(temp.file, 0) == 0);
    REQUIRE(pwrite(temp.file, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    auto source = OpenFileSource(temp.path, false);
    REQUIRE(source.ok());
    REQUIRE(ftruncate(temp.file, static_cast<off_t>(left)) == 0);
    std::vector<uint8_t> all(bytes.size());
    const Status status = (*source)->ReadAt(0, all);
    REQUIRE(status.code() == DSOPT_E_IO);
    CHECK_THAT(std::string(status.message()),
               Catch::StartsWith(temp.path) && Catch::Contains(std::to_string(left)));
    CHECK_FALSE(OpenAndReadAll(**source, true).ok());
  }
}

TEST_CASE("files are read alike with and without a mapping", "[format]") {
  const std::vector<uint8_t> bytes = {1, 2, 3, 4, 5};
  TempFile temp(bytes);
  for (bool map : {false, true}) {
    auto source = OpenFileSource(temp.path, map);
    REQUIRE(source.ok());
    CHECK((*source)->size() == 5);
    CHECK((*source)->name() == temp.path);
    uint8_t part[2];
    REQUIRE((*source)->ReadAt(3, part).ok());
    CHECK((part[0] == 4 && part[1] == 5));
    CHECK((*source)->ReadAt(4, part).code() == DSOPT_E_CORRUPT);
    CHECK((*source)->View(1, 3).size() == (map ? 3u : 0u));
    CHECK((*source)->View(1, 5).empty());
  }
  TempFile empty({});
  auto source = OpenFileSource(empty.path, true);
  REQUIRE(source.ok());
  CHECK((*source)->size() == 0);
}

TEST_CASE("a missing file and a folder are told apart", "[format]") {
  CHECK(OpenFileSource("/nonexistent/model.dsopt", false).status().code() == DSOPT_E_NOT_FOUND);
  CHECK(OpenFileSource("/tmp", false).status().code() == DSOPT_E_IO);
}

TEST_CASE("a pipe is refused without waiting for its writer", "[format]") {
  TempFile temp({});
  const std::string pipe = temp.path + ".pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(OpenFileSource(pipe, false).status().code() == DSOPT_E_IO);
  unlink(pipe.c_str());
}

}  // namespace dsopt::testing
