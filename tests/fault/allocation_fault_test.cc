// The n-th allocation of the whole path fails, for n = 0, 1, ... until nothing fails any more: once through the
// host's allocator, once through operator new. Each failed call has a typed error and a message, leaves its
// objects as they were (the same call then succeeds), and nothing leaks.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "dsopt/ops.h"
#include "tests/capi/capi_harness.h"

namespace {

// Counts down while armed; the allocation that finds 0 fails.
struct Fault {
  bool armed = false;
  int64_t countdown = -1;
  bool fired = false;
  bool Fails() {
    if (!armed || countdown < 0) return false;
    if (countdown-- > 0) return false;
    fired = true;
    return true;
  }
};
Fault g_new_fault, g_host_fault;
std::atomic<int64_t> g_live_news{0};

}  // namespace

// Not inlined: gcc would compare the malloc and free inside with new and delete.
[[gnu::noinline]] void* operator new(size_t size) {
  if (g_new_fault.Fails()) throw std::bad_alloc();
  if (void* memory = std::malloc(size > 0 ? size : 1)) {
    g_live_news.fetch_add(1, std::memory_order_relaxed);
    return memory;
  }
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  if (memory != nullptr) g_live_news.fetch_sub(1, std::memory_order_relaxed);
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
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

struct HostMemory {
  int64_t live_bytes = 0;
  static void* DSOPT_CALL Alloc(void* user, size_t size, size_t align) {
    if (g_host_fault.Fails()) return nullptr;
    static_cast<HostMemory*>(user)->live_bytes += static_cast<int64_t>(size);
    return std::aligned_alloc(std::max<size_t>(align, 64), (std::max<size_t>(size, 1) + 63) / 64 * 64);
  }
  static void DSOPT_CALL Free(void* user, void* memory, size_t size, size_t) {
    static_cast<HostMemory*>(user)->live_bytes -= static_cast<int64_t>(size);
    std::free(memory);
  }
};

// What one run of the path saw. Plain arrays: the run itself must not allocate with the counters on.
struct Trace {
  int failures = 0;  // calls that failed because of the fault
  int wrong = 0;     // calls that failed otherwise, without message, or again on the second try
  const char* wrong_step = "";
  dsopt_token tokens[64] = {};
  size_t token_count = 0;
};

// Calls once with the fault armed; after a failure once more without.
template <typename Call>
dsopt_status Try(Trace* trace, const char* step, Call call) {
  g_new_fault.armed = g_host_fault.armed = true;
  dsopt_status status = call();
  g_new_fault.armed = g_host_fault.armed = false;
  if (status >= 0) return status;
  ++trace->failures;
  const bool typed = status == DSOPT_E_OUT_OF_MEMORY || status == DSOPT_E_DEVICE_MEMORY;
  const bool explained = dsopt_last_error()[0] != '\0';
  status = call();
  if (!typed || !explained || status < 0) {
    if (trace->wrong++ == 0) trace->wrong_step = step;
  }
  return status;
}

bool PollToEnd(Trace* trace, dsopt_session* session, dsopt_stream* stream) {
  for (;;) {
    const dsopt_status status = Try(trace, "poll", [&] { return dsopt_session_poll(session, 1000, nullptr); });
    if (status < 0) return false;
    for (;;) {
      auto event = Sized<dsopt_event>();
      const dsopt_status read = Try(trace, "read", [&] { return dsopt_stream_read(stream, &event); });
      if (read != DSOPT_OK) break;
      if (event.kind == DSOPT_EVENT_DONE) return true;
      if (event.kind == DSOPT_EVENT_ERROR) return false;
    }
  }
}

void RunSession(Trace* trace, dsopt_model* model, void* saved, size_t saved_cap) {
  dsopt_session* session = nullptr;
  dsopt_stream *stream = nullptr, *fork = nullptr;
  auto session_options = Sized<dsopt_session_options>();
  session_options.max_streams = 2;
  const char* stops[] = {"does not come"};
  auto options = Options(10);
  options.stop = stops;
  options.stop_count = 1;
  options.top_logprobs = 2;
  size_t bytes = 0;
  Try(trace, "session", [&] { return dsopt_session_create(model, &session_options, &session); });
  if (session == nullptr) return;
  Try(trace, "stream", [&] { return dsopt_stream_create(session, &stream); });
  if (stream != nullptr) {
    Try(trace, "append", [&] { return dsopt_stream_append_text(stream, "Fault \xC3\xA9", DSOPT_NTS, 1); });
    Try(trace, "generate", [&] { return dsopt_stream_generate(stream, &options); });
    if (!PollToEnd(trace, session, stream)) {  // a typed failure of the generation itself: start over
      char text[64] = "";
      const dsopt_status error = dsopt_stream_error(stream, text, sizeof text, nullptr);
      if (error != DSOPT_E_OUT_OF_MEMORY && error != DSOPT_E_DEVICE_MEMORY) ++trace->wrong;
      ++trace->failures;
      dsopt_stream_rewind(stream, 9);
      dsopt_stream_generate(stream, &options);
      if (!PollToEnd(trace, session, stream)) ++trace->wrong;
    }
    Try(trace, "save", [&] { return dsopt_stream_save(stream, saved, saved_cap, &bytes); });
    Try(trace, "fork", [&] { return dsopt_stream_fork(stream, &fork); });
    Try(trace, "load", [&] { return dsopt_stream_load(fork, saved, bytes); });
    Try(trace, "generate", [&] { return dsopt_stream_generate(fork, &options); });
    if (!PollToEnd(trace, session, fork)) {
      dsopt_stream_load(fork, saved, bytes);
      dsopt_stream_generate(fork, &options);
      if (!PollToEnd(trace, session, fork)) ++trace->wrong;
    }
    dsopt_stream_get_tokens(fork, 0, trace->tokens, 64, &trace->token_count);
    Try(trace, "trim", [&] { return dsopt_session_trim(session); });
  }
  dsopt_stream_release(fork);
  dsopt_stream_release(stream);
  dsopt_session_release(session);
}

void RunOperators(Trace* trace, dsopt_runtime* runtime) {
  float x[4] = {1, 2, 3, 4}, weight[4] = {1, 1, 1, 1}, out[4];
  alignas(256) static unsigned char scratch[4096];
  auto view = Sized<dsopt_tensor>();
  view.dtype = DSOPT_F32;
  view.ndim = 2;
  view.shape[0] = 1;
  view.shape[1] = 4;
  dsopt_tensor views[] = {view, view, view};
  views[0].data = x;
  views[1].data = weight;
  views[1].ndim = 1;
  views[1].shape[0] = 4;
  views[1].shape[1] = 0;
  views[2].data = out;
  auto args = Sized<dsopt_rmsnorm_args>();
  args.x = &views[0];
  args.weight = &views[1];
  args.out = &views[2];
  auto launch = Sized<dsopt_launch>();
  launch.workspace = scratch;
  launch.workspace_size = sizeof scratch;
  dsopt_ops* ops = nullptr;
  Try(trace, "operators", [&] { return dsopt_ops_create(runtime, "cpu", &ops); });
  Try(trace, "rmsnorm", [&] { return dsopt_op_rmsnorm(ops, &args, &launch); });
  dsopt_ops_release(ops);
}

void RunPath(Trace* trace, HostMemory* memory, const std::vector<uint8_t>& bytes, std::vector<uint8_t>* saved) {
  auto allocator = Sized<dsopt_allocator>();
  allocator.user = memory;
  allocator.alloc = HostMemory::Alloc;
  allocator.free = HostMemory::Free;
  auto options = Sized<dsopt_runtime_options>();
  options.allocator = &allocator;
  options.cpu_threads = 1;
  options.disable_backend_scan = 1;
  dsopt_runtime* runtime = nullptr;
  dsopt_model* model = nullptr;
  Try(trace, "runtime", [&] { return dsopt_runtime_create(&options, &runtime); });
  if (runtime == nullptr) return;
  Try(trace, "model",
      [&] { return dsopt_model_open_memory(runtime, bytes.data(), bytes.size(), nullptr, &model); });
  if (model != nullptr) {
    char text[300];
    size_t length = 0;
    const dsopt_message message = {"user", "hi", 2};
    Try(trace, "chat", [&] { return dsopt_chat_format(model, &message, 1, 1, text, sizeof text, &length); });
    dsopt_token tokens[8];
    Try(trace, "tokenize", [&] { return dsopt_tokenize(model, "abc", 3, 0, tokens, 8, &length); });
    Try(trace, "detokenize", [&] { return dsopt_detokenize(model, tokens, 3, 0, text, sizeof text, &length); });
    RunSession(trace, model, saved->data(), saved->size());
  }
  RunOperators(trace, runtime);
  dsopt_model_release(model);
  dsopt_runtime_release(runtime);
}

void RunUntilNothingFails(Fault* fault) {
  const TinyFamily family = GENERATE(TinyFamily::kLlama, TinyFamily::kDeepseekV2);
  CAPTURE(static_cast<int>(family));
  TinyOptions tiny;
  tiny.family = family;
  tiny.context = 128;
  const std::vector<uint8_t> bytes = TinyModelBytes(tiny);
  std::vector<uint8_t> saved(4u << 20);
  Trace reference;
  {
    HostMemory memory;
    RunPath(&reference, &memory, bytes, &saved);
    REQUIRE(reference.failures == 0);
    REQUIRE(reference.wrong == 0);
    REQUIRE(reference.token_count == 29);
    REQUIRE(memory.live_bytes == 0);
  }
  for (int64_t n = 0;; ++n) {
    HostMemory memory;
    Trace trace;
    fault->countdown = n;
    fault->fired = false;
    const int64_t live_before = g_live_news;
    RunPath(&trace, &memory, bytes, &saved);
    const int64_t live_after = g_live_news;
    fault->countdown = -1;
    CAPTURE(n, trace.failures, std::string(trace.wrong_step));
    REQUIRE(trace.wrong == 0);
    REQUIRE(memory.live_bytes == 0);
    REQUIRE(live_after == live_before);
    REQUIRE(trace.failures <= 1);
    REQUIRE(trace.token_count == reference.token_count);
    REQUIRE(std::equal(trace.tokens, trace.tokens + trace.token_count, reference.tokens));
    if (!fault->fired) {
      CHECK(n > 3);
      break;
    }
  }
}

TEST_CASE("the n-th allocation through the host's allocator fails", "[fault]") {
  RunUntilNothingFails(&g_host_fault);
}

TEST_CASE("the n-th operator new fails", "[fault]") { RunUntilNothingFails(&g_new_fault); }

}  // namespace
}  // namespace dsopt::testing
