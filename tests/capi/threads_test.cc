// Threads over one runtime: sessions of their own, shared calls, and [any] calls from outside while others
// poll. Meant for the thread sanitizer; also a stress test without it.
#include <atomic>
#include <thread>

#include "tests/capi/capi_harness.h"

namespace dsopt::testing {
namespace {

// Catch2 is not thread-safe: threads count failures, the main thread checks.
struct Failures {
  std::atomic<int> count{0};
  void Expect(bool condition) {
    if (!condition) count.fetch_add(1, std::memory_order_relaxed);
  }
};

// Some moments in which a thread calls nothing.
void Pause(uint64_t count) {
  static std::atomic<uint64_t> nothing{0};
  for (uint64_t i = 0; i < 10 * count; ++i) nothing.load(std::memory_order_seq_cst);
}

void RunStream(dsopt_session* session, dsopt_stream* stream, uint32_t max_tokens, Failures* failures,
               std::vector<dsopt_token>* tokens) {
  const auto options = Options(max_tokens);
  failures->Expect(dsopt_stream_generate(stream, &options) == DSOPT_OK);
  for (bool done = false; !done;) {
    const dsopt_status polled = dsopt_session_poll(session, 500, nullptr);
    failures->Expect(polled >= 0);
    if (polled < 0) return;
    auto event = Sized<dsopt_event>();
    while (dsopt_stream_read(stream, &event) == DSOPT_OK) {
      tokens->insert(tokens->end(), event.tokens, event.tokens + event.token_count);
      done = done || event.kind != DSOPT_EVENT_TEXT;
    }
  }
}

TEST_CASE("models load at the same time with workers of their own, and end early or not", "[threads]") {
  RuntimePtr runtime = NewRuntime(3);
  Failures failures;
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 8; ++round) {
        auto options = Sized<dsopt_model_options>();
        options.flags = DSOPT_MODEL_LAZY | DSOPT_MODEL_VERIFY;
        options.device = "cpu";
        dsopt_model* model = nullptr;
        const std::vector<uint8_t>& bytes = ModelBytes();
        failures.Expect(dsopt_model_open_memory(runtime.get(), bytes.data(), bytes.size(), &options, &model) ==
                        DSOPT_OK);
        dsopt_status status = DSOPT_PENDING;
        for (int polls = 0; status == DSOPT_PENDING && (i % 3 == 0 || polls < round * 3); ++polls) {
          status = dsopt_model_poll(model, 0, nullptr);
        }
        failures.Expect(status == DSOPT_PENDING || status == DSOPT_OK);
        if (i % 3 == 1 && status == DSOPT_PENDING) {
          dsopt_model_cancel(model);
          failures.Expect(dsopt_model_poll(model, 1000, nullptr) == DSOPT_E_CANCELLED);
        }
        dsopt_model_release(model);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures.count == 0);
}

TEST_CASE("eight threads with sessions of their own on one model get the same tokens", "[threads]") {
  const uint32_t pool_threads = GENERATE(1u, 2u);
  RuntimePtr runtime = NewRuntime(pool_threads);
  ModelPtr model = OpenModel(runtime.get());
  Failures failures;
  std::vector<std::vector<dsopt_token>> tokens(8);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      dsopt_session* session = nullptr;
      dsopt_stream* stream = nullptr;
      failures.Expect(dsopt_session_create(model.get(), nullptr, &session) == DSOPT_OK);
      failures.Expect(dsopt_stream_create(session, &stream) == DSOPT_OK);
      failures.Expect(dsopt_stream_append_text(stream, "Threads", 7, 0) == DSOPT_OK);
      RunStream(session, stream, 40, &failures, &tokens[i]);
      auto info = Sized<dsopt_device_info>();
      failures.Expect(dsopt_device_get_info(runtime.get(), 0, &info) == DSOPT_OK);
      dsopt_session_release(session);
      dsopt_stream_release(stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures.count == 0);
  for (size_t i = 0; i < 8; ++i) CHECK(tokens[i] == tokens[0]);
  CHECK(tokens[0].size() == 40);
}

TEST_CASE("models open, poll and close on several threads of one runtime", "[threads]") {
  RuntimePtr runtime = NewRuntime(2);
  const std::vector<uint8_t>& bytes = ModelBytes();
  Failures failures;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      auto options = Sized<dsopt_model_options>();
      options.flags = DSOPT_MODEL_LAZY;
      dsopt_model* model = nullptr;
      failures.Expect(dsopt_model_open_memory(runtime.get(), bytes.data(), bytes.size(), &options, &model) ==
                      DSOPT_OK);
      dsopt_status status = DSOPT_PENDING;
      while (status == DSOPT_PENDING) status = dsopt_model_poll(model, 300, nullptr);
      failures.Expect(status == DSOPT_OK);
      size_t count = 0;
      failures.Expect(dsopt_tokenize(model, "text", 4, 0, nullptr, 0, &count) == DSOPT_E_BUFFER_TOO_SMALL);
      if (i % 2 == 0) dsopt_model_cancel(model);
      dsopt_model_release(model);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures.count == 0);
}

TEST_CASE("shared calls, cancels, interrupts and releases arrive while another thread polls", "[threads]") {
  RuntimePtr runtime = NewRuntime(2);
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get(), 4, 4096);
  StreamPtr steady = NewStream(session.get(), "Steady");
  Failures failures;
  std::atomic<bool> stop{false};
  std::atomic<dsopt_stream*> victim{nullptr};
  std::vector<std::thread> threads;
  threads.emplace_back([&] {  // [shared]
    while (!stop) {
      auto stats = Sized<dsopt_session_stats>();
      dsopt_token tokens[64];
      float logprobs[64];
      size_t count = 0;
      failures.Expect(dsopt_session_get_stats(session.get(), &stats) == DSOPT_OK);
      failures.Expect(dsopt_stream_get_tokens(steady.get(), 0, tokens, 64, &count) == DSOPT_OK);
      failures.Expect(dsopt_stream_get_logprobs(steady.get(), 0, logprobs, 64, &count) == DSOPT_OK);
      failures.Expect(dsopt_stream_token_count(steady.get()) >= 7);
      dsopt_stream_error(steady.get(), nullptr, 0, nullptr);
      auto info = Sized<dsopt_model_info>();
      failures.Expect(dsopt_model_get_info(model.get(), &info) == DSOPT_OK);
    }
  });
  threads.emplace_back([&] {  // [any]
    while (!stop) {
      std::this_thread::sleep_for(std::chrono::microseconds(700));
      dsopt_session_interrupt(session.get());
    }
  });
  threads.emplace_back([&] {  // cancels, then releases what the polling thread hands over
    for (uint32_t i = 0; !stop; ++i) {
      dsopt_stream* stream = victim.exchange(nullptr);
      if (stream != nullptr) {
        if (i % 2 == 0) dsopt_stream_cancel(stream);
        dsopt_stream_release(stream);
      }
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  threads.emplace_back([&] {  // a second [serial] caller: busy or served, never torn
    while (!stop) {
      const dsopt_status status = dsopt_session_trim(session.get());
      failures.Expect(status == DSOPT_OK || status == DSOPT_E_BUSY);
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
  });
  const auto retry = [](auto call) {
    dsopt_status status;
    while ((status = call()) == DSOPT_E_BUSY) std::this_thread::yield();
    return status;
  };
  const auto options = Options(300);
  failures.Expect(retry([&] { return dsopt_stream_generate(steady.get(), &options); }) == DSOPT_OK);
  for (int round = 0; round < 60; ++round) {
    dsopt_stream* stream = nullptr;
    failures.Expect(retry([&] { return dsopt_stream_create(session.get(), &stream); }) == DSOPT_OK);
    failures.Expect(retry([&] { return dsopt_stream_append_text(stream, "victim", 6, 0); }) == DSOPT_OK);
    failures.Expect(retry([&] { return dsopt_stream_generate(stream, &options); }) == DSOPT_OK);
    dsopt_stream* before = victim.exchange(stream);
    if (before != nullptr) dsopt_stream_release(before);
    for (int i = 0; i < 3; ++i) {
      failures.Expect(retry([&] { return dsopt_session_poll(session.get(), 1000, nullptr); }) >= 0);
    }
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  if (dsopt_stream* left = victim.exchange(nullptr)) dsopt_stream_release(left);
  CHECK(failures.count == 0);
  dsopt_session_poll(session.get(), 0, nullptr);  // uses up a pending interrupt
  const Output output = ReadAll(session.get(), steady.get());
  CHECK(output.finish == DSOPT_FINISH_LENGTH);
  CHECK(dsopt_stream_token_count(steady.get()) == 307);
  steady.reset();
  auto stats = Sized<dsopt_session_stats>();
  REQUIRE_OK(dsopt_session_get_stats(session.get(), &stats));
  CHECK(stats.kv_tokens_used == 0);
}

TEST_CASE("a release never makes the only serial call of a session busy", "[threads]") {
  RuntimePtr runtime = NewRuntime(1);
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  Failures failures;
  uint32_t pauses = 0;
  for (int round = 0; round < 40; ++round) {
    std::vector<dsopt_stream*> streams(1000);
    for (dsopt_stream*& stream : streams)
      failures.Expect(dsopt_stream_create(session.get(), &stream) == DSOPT_OK);
    std::atomic<bool> over{false};
    std::thread releaser([&] {
      for (size_t i = 0; i < streams.size(); ++i) {
        dsopt_stream_release(streams[i]);
        Pause(i % 61);
      }
      over = true;
    });
    do {
      Pause(++pauses % 53);
      failures.Expect(dsopt_session_trim(session.get()) == DSOPT_OK);
      failures.Expect(dsopt_session_poll(session.get(), 0, nullptr) == DSOPT_OK);
    } while (!over);
    releaser.join();
  }
  CHECK(failures.count == 0);
}

TEST_CASE("a session released by another thread during a poll lives to its end", "[threads]") {
  RuntimePtr runtime = NewRuntime(2);
  ModelPtr model = OpenModel(runtime.get());
  for (int round = 0; round < 10; ++round) {
    dsopt_session* session = NewSession(model.get()).release();
    dsopt_stream* stream = NewStream(session, "Released meanwhile").release();
    struct Shared {
      std::atomic<bool> polling{false};
    } shared;
    auto options = Options(900);
    options.user = &shared;
    options.on_event = [](void* user, dsopt_stream*, const dsopt_event*) {
      static_cast<Shared*>(user)->polling = true;  // the poll is inside: the handles may go
      return 0;
    };
    REQUIRE_OK(dsopt_stream_generate(stream, &options));
    std::thread other([&] {
      while (!shared.polling) std::this_thread::yield();
      dsopt_session_release(session);
      dsopt_stream_release(stream);
    });
    CHECK(dsopt_session_poll(session, 30000000, nullptr) >= 0);
    other.join();
  }
}

}  // namespace
}  // namespace dsopt::testing
