// Chunks decoded ahead on worker threads: the same bytes and the same failures in the same order as one by one.
#include "format/read_ahead.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <thread>

#include "format/reader.h"
#include "tests/tiny_model.h"

namespace dsopt {
namespace {

using testing::TinyModelBytes;

// Bytes in memory that are read like a file, on the thread that made it only; the read number fail_at fails.
class CountingSource : public Source {
 public:
  explicit CountingSource(std::vector<uint8_t> bytes) : bytes_(std::move(bytes)) {}
  uint64_t size() const override { return bytes_.size(); }
  Status ReadAt(uint64_t offset, std::span<uint8_t> dst) override {
    if (std::this_thread::get_id() != owner_) return Error(DSOPT_E_INTERNAL, "read on another thread");
    if (reads++ == fail_at) return Error(DSOPT_E_IO, "read %d fails", fail_at);
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), dst.size(), dst.begin());
    return {};
  }
  std::span<const uint8_t> View(uint64_t, uint64_t) override { return {}; }
  const std::string& name() const override { return name_; }
  std::vector<uint8_t>& bytes() { return bytes_; }

  int reads = 0, fail_at = -1;

 private:
  std::vector<uint8_t> bytes_;
  std::string name_ = "counting";
  std::thread::id owner_ = std::this_thread::get_id();
};

struct HostMemory {
  std::atomic<int64_t> live{0}, peak{0}, countdown{INT64_MAX};
  dsopt_allocator allocator = {sizeof(dsopt_allocator), 0, this, Alloc, Free};
  static void* DSOPT_CALL Alloc(void* user, size_t size, size_t align) {
    auto* self = static_cast<HostMemory*>(user);
    if (self->countdown.fetch_sub(1) <= 0) return nullptr;
    self->peak = std::max<int64_t>(self->peak, self->live += static_cast<int64_t>(size));
    return std::aligned_alloc(align, (size + align - 1) / align * align);
  }
  static void DSOPT_CALL Free(void* user, void* memory, size_t size, size_t) {
    static_cast<HostMemory*>(user)->live -= static_cast<int64_t>(size);
    std::free(memory);
  }
};

struct File {
  explicit File(bool compress = true) : source(TinyModelBytes({.compress = compress})) {
    Result<ModelSpec> read = ReadModelSpec(source, DefaultAllocator());
    REQUIRE(read.ok());
    spec = *std::move(read);
    for (uint32_t i = 0; i < spec.chunks.size(); ++i) order.push_back(i);
    REQUIRE(order.size() > 20);
    source.reads = 0;
  }
  std::unique_ptr<ReadAhead> Ahead(uint32_t workers, const dsopt_allocator& allocator = DefaultAllocator(),
                                   uint64_t max_bytes = 1u << 30) {
    Result<std::unique_ptr<ReadAhead>> ahead =
        ReadAhead::Create(spec, source, allocator, order, {true, workers, max_bytes});
    REQUIRE(ahead.ok());
    return *std::move(ahead);
  }
  CountingSource source;
  ModelSpec spec;
  std::vector<uint32_t> order;
};

TEST_CASE("chunks read ahead are those read one by one", "[format]") {
  const uint32_t workers = GENERATE(0u, 1u, 2u, 7u);
  const bool compress = GENERATE(true, false);
  CAPTURE(workers, compress);
  File file(compress);
  std::reverse(file.order.begin(), file.order.end());
  file.order.push_back(file.order[3]);
  Result<ChunkReader> reader = ChunkReader::Create(file.spec, file.source, DefaultAllocator(), true);
  REQUIRE(reader.ok());
  std::vector<std::vector<uint8_t>> expected;
  for (uint32_t index : file.order) {
    Result<std::span<const uint8_t>> chunk = reader->Read(index);
    REQUIRE(chunk.ok());
    expected.emplace_back(chunk->begin(), chunk->end());
  }
  file.source.reads = 0;
  const std::unique_ptr<ReadAhead> ahead = file.Ahead(workers);
  for (size_t i = 0; i < file.order.size(); ++i) {
    const int before = file.source.reads;
    Result<std::span<const uint8_t>> chunk = ahead->Read(file.order[i]);
    CAPTURE(i, std::string(chunk.status().message()));
    REQUIRE(chunk.ok());
    REQUIRE(std::equal(chunk->begin(), chunk->end(), expected[i].begin(), expected[i].end()));
    REQUIRE(file.source.reads - before <= 2);
  }
  CHECK(file.source.reads == static_cast<int>(file.order.size()));
  CHECK(ahead->Read(0).status().code() == DSOPT_E_INTERNAL);
}

TEST_CASE("a chunk that cannot be read or decoded fails at its turn", "[format]") {
  const uint32_t workers = GENERATE(0u, 1u, 4u);
  const bool corrupt = GENERATE(true, false);
  File file;
  for (int bad = 0; bad < static_cast<int>(file.order.size()); ++bad) {
    CAPTURE(workers, corrupt, bad);
    uint8_t& byte = file.source.bytes()[file.spec.chunks[static_cast<size_t>(bad)].offset + 3];
    if (corrupt) byte ^= 0x40;
    file.source.fail_at = corrupt ? -1 : bad;
    file.source.reads = 0;
    const std::unique_ptr<ReadAhead> ahead = file.Ahead(workers);
    for (int i = 0; i < bad; ++i) REQUIRE(ahead->Read(static_cast<uint32_t>(i)).ok());
    const Status status = ahead->Read(static_cast<uint32_t>(bad)).status();
    CHECK(status.code() == (corrupt ? DSOPT_E_CORRUPT : DSOPT_E_IO));
    CHECK(!status.message().empty());
    if (!corrupt) CHECK(file.source.reads == bad + 1);  // a source that failed is left alone
    if (corrupt) byte ^= 0x40;
  }
}

TEST_CASE("a reader ahead can end at any chunk", "[format]") {
  File file;
  for (uint32_t stop = 0; stop < file.order.size(); ++stop) {
    HostMemory memory;
    {
      const std::unique_ptr<ReadAhead> ahead = file.Ahead(3, memory.allocator);
      for (uint32_t i = 0; i < stop; ++i) REQUIRE(ahead->Read(i).ok());
    }
    REQUIRE(memory.live == 0);
  }
}

TEST_CASE("a reader ahead keeps its bound in bytes and survives a failing allocator", "[format]") {
  File file;
  HostMemory memory;
  uint32_t stored = 0, raw = 0;
  for (const ChunkSpec& chunk : file.spec.chunks) {
    stored = std::max(stored, chunk.stored_size);
    raw = std::max(raw, chunk.raw_size);
  }
  const int64_t bound = 3 * (int64_t{stored} + raw);
  {
    const std::unique_ptr<ReadAhead> ahead = file.Ahead(64, memory.allocator, static_cast<uint64_t>(bound));
    for (uint32_t i : file.order) REQUIRE(ahead->Read(i).ok());
  }
  CHECK(memory.peak > bound / 2);
  CHECK(memory.peak <= bound + 3 * int64_t{raw} / 2);  // and the decoders' scratch
  for (int64_t n = 0;; ++n) {
    memory.countdown = n;
    Result<std::unique_ptr<ReadAhead>> ahead =
        ReadAhead::Create(file.spec, file.source, memory.allocator, file.order, {false, 2, 1u << 30});
    if (ahead.ok()) {
      CHECK(n > 10);
      break;
    }
    CHECK(ahead.status().code() == DSOPT_E_OUT_OF_MEMORY);
    REQUIRE(memory.live == 0);
  }
}

}  // namespace
}  // namespace dsopt
