// What a stream computes does not depend on its company, nor on how the time is cut.
#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "tests/capi/capi_harness.h"

namespace dsopt::testing {
namespace {

TEST_CASE("a stream alone, beside seven others and in slices of 0.2 ms gives the same greedy tokens",
          "[capi]") {
  const TinyFamily family = GENERATE(from_range(std::begin(kTinyFamilies), std::end(kTinyFamilies)));
  const uint32_t threads = GENERATE(1u, 2u);
  CAPTURE(static_cast<int>(family), threads);
  RuntimePtr runtime = NewRuntime(threads);
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(family));
  const std::string prompt = "Alone or in company, " + std::string(50, 'c');
  std::vector<dsopt_token> alone;
  {
    SessionPtr session = NewSession(model.get());
    StreamPtr stream = NewStream(session.get(), prompt);
    alone = Generate(session.get(), stream.get(), 60).tokens;
  }
  {
    SessionPtr session = NewSession(model.get());
    StreamPtr stream = NewStream(session.get(), prompt);
    CHECK(Generate(session.get(), stream.get(), Options(60), 200).tokens == alone);
  }
  SessionPtr session = NewSession(model.get(), 8, 4096, 24);
  std::vector<StreamPtr> others;
  auto options = Options(0);
  for (uint32_t i = 0; i < 7; ++i) {
    others.push_back(NewStream(session.get(), std::string(3 + 11 * i, static_cast<char>('A' + i))));
    options.max_tokens = 15 * (i + 1);
    REQUIRE_OK(dsopt_stream_generate(others.back().get(), &options));
    REQUIRE(dsopt_session_poll(session.get(), 300, nullptr) >= 0);
  }
  StreamPtr stream = NewStream(session.get(), prompt);
  CHECK(Generate(session.get(), stream.get(), Options(60), 200).tokens == alone);
}

TEST_CASE("two runtimes with their own allocators live side by side and die in any order", "[capi]") {
  struct Counter {
    std::atomic<int64_t> live{0}, total{0};
  };
  Counter counters[2];
  const auto alloc = [](void* user, size_t size, size_t align) -> void* {
    void* memory = std::aligned_alloc(std::max<size_t>(align, 16), (size + 63) / 64 * 64);
    static_cast<Counter*>(user)->live += static_cast<int64_t>(size);
    static_cast<Counter*>(user)->total += 1;
    return memory;
  };
  const auto release = [](void* user, void* memory, size_t size, size_t) {
    static_cast<Counter*>(user)->live -= static_cast<int64_t>(size);
    std::free(memory);
  };
  RuntimePtr runtimes[2];
  ModelPtr models[2];
  std::vector<dsopt_token> tokens[2];
  for (int i = 0; i < 2; ++i) {
    auto allocator = Sized<dsopt_allocator>();
    allocator.user = &counters[i];
    allocator.alloc = alloc;
    allocator.free = release;
    auto options = Sized<dsopt_runtime_options>();
    options.allocator = &allocator;
    options.cpu_threads = 1;
    options.disable_backend_scan = 1;
    dsopt_runtime* runtime = nullptr;
    REQUIRE_OK(dsopt_runtime_create(&options, &runtime));
    runtimes[i].reset(runtime);
  }
  runtimes[1].reset();  // the one created last goes before the first opens a device
  CHECK(counters[1].live == 0);
  {
    auto options = Sized<dsopt_runtime_options>();
    dsopt_runtime* runtime = nullptr;
    REQUIRE_OK(dsopt_runtime_create(&options, &runtime));
    runtimes[1].reset(runtime);
  }
  for (int i = 0; i < 2; ++i) {
    models[i] = OpenModel(runtimes[i].get());
    SessionPtr session = NewSession(models[i].get());
    StreamPtr stream = NewStream(session.get(), "Two of them");
    tokens[i] = Generate(session.get(), stream.get(), 20).tokens;
  }
  CHECK(tokens[0] == tokens[1]);
  CHECK(counters[0].total > 3);
  CHECK(counters[1].live == 0);
  runtimes[0].reset();
  models[1].reset();
  models[0].reset();
  CHECK(counters[0].live == 0);
}

}  // namespace
}  // namespace dsopt::testing
