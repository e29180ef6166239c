// Steady decoding allocates nothing: neither through the host's allocator nor with operator new.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/capi/capi_harness.h"

namespace {

std::atomic<uint64_t> g_news{0}, g_host_allocs{0};

}  // namespace

// Not inlined: gcc would compare the malloc and free inside with new and delete.
[[gnu::noinline]] void* operator new(size_t size) {
  g_news.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
// The sanitizers have one of their own otherwise, which does not match the delete above.
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  try {
    return operator new(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

namespace dsopt::testing {
namespace {

void* DSOPT_CALL CountedAlloc(void*, size_t size, size_t align) {
  g_host_allocs.fetch_add(1, std::memory_order_relaxed);
  return std::aligned_alloc(std::max<size_t>(align, 64), (size + 63) / 64 * 64 + (size == 0 ? 64 : 0));
}
void DSOPT_CALL CountedFree(void*, void* memory, size_t, size_t) { std::free(memory); }

TEST_CASE("one hundred tokens of steady decoding allocate nothing", "[capi]") {
  const TinyFamily family = GENERATE(from_range(std::begin(kTinyFamilies), std::end(kTinyFamilies)));
  const bool sampled = GENERATE(false, true);
  CAPTURE(static_cast<int>(family), sampled);
  auto allocator = Sized<dsopt_allocator>();
  allocator.alloc = CountedAlloc;
  allocator.free = CountedFree;
  auto runtime_options = Sized<dsopt_runtime_options>();
  runtime_options.allocator = &allocator;
  runtime_options.cpu_threads = 2;
  dsopt_runtime* raw_runtime = nullptr;
  REQUIRE_OK(dsopt_runtime_create(&runtime_options, &raw_runtime));
  RuntimePtr runtime(raw_runtime);
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(family));
  SessionPtr session = NewSession(model.get(), 2);
  StreamPtr streams[] = {NewStream(session.get(), "Steady"), NewStream(session.get(), "state")};
  auto options = Options(200);
  auto sampling = Sized<dsopt_sampling>();
  const char* stops[] = {"never ever", "abcabcabcabd"};
  const dsopt_logit_bias bias = {'x', -1.0f};
  if (sampled) {
    sampling.temperature = 1;
    sampling.top_p = 0.9f;
    sampling.top_k = 50;
    sampling.typical_p = 0.95f;
    sampling.repeat_penalty = 1.1f;
    options.sampling = &sampling;
    options.stop = stops;
    options.stop_count = 2;
    options.bias = &bias;
    options.bias_count = 1;
    options.logprobs = 1;
    options.top_logprobs = 3;
  }
  for (const StreamPtr& stream : streams) REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
  const uint64_t host_before_prefill = g_host_allocs;
  const auto poll = [&] {  // no Catch macro here: those allocate
    bool ok = dsopt_session_poll(session.get(), 200, nullptr) == DSOPT_PENDING;
    for (const StreamPtr& stream : streams) {
      auto event = Sized<dsopt_event>();
      while (dsopt_stream_read(stream.get(), &event) == DSOPT_OK) ok = ok && event.kind == DSOPT_EVENT_TEXT;
    }
    return ok;
  };
  bool ok = true;
  while (ok && dsopt_stream_token_count(streams[1].get()) < 20) ok = poll();
  const uint64_t news = g_news, host_allocs = g_host_allocs;
  while (ok && dsopt_stream_token_count(streams[1].get()) < 120) ok = poll();
  const uint64_t news_after = g_news, host_allocs_after = g_host_allocs;
  CHECK(ok);
  CHECK(news_after - news == 0);
  CHECK(host_allocs_after - host_allocs == 0);
  CHECK(host_allocs - host_before_prefill == 0);  // prefill and the first tokens neither
}

TEST_CASE("the counters of this test do count", "[capi]") {
  const uint64_t news = g_news, host_allocs = g_host_allocs;
  RuntimePtr runtime = NewRuntime();
  CHECK(g_news > news);
  CHECK(g_host_allocs == host_allocs);  // that runtime has the default allocator
  CHECK(g_host_allocs > 0);
}

}  // namespace
}  // namespace dsopt::testing
