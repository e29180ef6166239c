// Time: budgets, interrupt, cancel, wait. Limits are wide enough for a loaded test machine.
#include <chrono>
#include <thread>

#include "tests/capi/capi_harness.h"

namespace dsopt::testing {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t MicrosecondsSince(Clock::time_point start) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count());
}

TEST_CASE("a poll without budget computes nothing", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  StreamPtr stream = NewStream(session.get(), "Budget");
  const auto options = Options(50);
  REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
  for (int i = 0; i < 20; ++i) {
    auto result = Sized<dsopt_poll_result>();
    CHECK(dsopt_session_poll(session.get(), 0, &result) == DSOPT_PENDING);
    CHECK(result.active_streams == 1);
    CHECK(result.tokens_sampled == 0);
  }
  CHECK(dsopt_stream_token_count(stream.get()) == 7);
}

// By how much polls overrun is measured by `dsopt bench --poll-budget`; other processes on a test machine
// decide it here.
TEST_CASE("a poll with a budget stops long before the work is done", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get(), 4, 4096);
  std::vector<StreamPtr> streams;
  const auto options = Options(150);
  for (int i = 0; i < 4; ++i) {
    streams.push_back(NewStream(session.get(), std::string(500, 'b')));
    REQUIRE_OK(dsopt_stream_generate(streams.back().get(), &options));
  }
  int polls = 1;
  dsopt_status status;
  while ((status = dsopt_session_poll(session.get(), 500, nullptr)) == DSOPT_PENDING) ++polls;
  REQUIRE(status == DSOPT_OK);
  CAPTURE(polls);
  CHECK(polls > 5);
}

TEST_CASE("an interrupt makes the next poll or wait return at once, once", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  StreamPtr stream = NewStream(session.get(), "Interrupt");
  const auto options = Options(20);
  REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
  dsopt_session_interrupt(session.get());
  CHECK(dsopt_session_poll(session.get(), 1000000, nullptr) == DSOPT_PENDING);
  CHECK(dsopt_stream_token_count(stream.get()) == 10);
  dsopt_session_interrupt(session.get());
  CHECK_FAILS(DSOPT_E_CANCELLED, dsopt_session_wait(session.get(), 1000000));
  CHECK(ReadAll(session.get(), stream.get()).tokens.size() == 20);
}

TEST_CASE("an interrupt from another thread ends a long poll, and streams keep their progress", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get(), 1, 1024);
  StreamPtr stream = NewStream(session.get(), "Interrupt");
  const auto options = Options(1000);
  for (int round = 0; round < 5; ++round) {
    REQUIRE_OK(dsopt_stream_rewind(stream.get(), 10));
    REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
      dsopt_session_interrupt(session.get());
    });
    const auto start = Clock::now();
    const dsopt_status status = dsopt_session_poll(session.get(), 30000000, nullptr);
    const uint64_t spent_us = MicrosecondsSince(start);
    other.join();
    CAPTURE(round, spent_us);
    if (status == DSOPT_PENDING) CHECK(spent_us < 1000000);
    dsopt_session_poll(session.get(), 0, nullptr);  // uses up an interrupt that came after the end
    REQUIRE(ReadAll(session.get(), stream.get()).finish == DSOPT_FINISH_LENGTH);
  }
}

TEST_CASE("a cancelled stream ends and the tokens delivered so far stay", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  StreamPtr stream = NewStream(session.get(), "Cancel");
  const auto options = Options(900);
  REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
  while (dsopt_stream_token_count(stream.get()) < 10) {
    REQUIRE(dsopt_session_poll(session.get(), 200, nullptr) == DSOPT_PENDING);
  }
  dsopt_stream_cancel(stream.get());
  CHECK(dsopt_session_poll(session.get(), 0, nullptr) == DSOPT_OK);
  const Output output = ReadAll(session.get(), stream.get());
  CHECK(output.finish == DSOPT_FINISH_CANCELLED);
  CHECK(output.tokens.size() + 7 == dsopt_stream_token_count(stream.get()));
  const auto again = Generate(session.get(), stream.get(), 5);
  CHECK(again.tokens.size() == 5);
}

TEST_CASE("wait returns per event, when nothing is active, and at its timeout", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  REQUIRE_OK(dsopt_session_wait(session.get(), 1000000));
  StreamPtr stream = NewStream(session.get(), "Wait");
  const auto options = Options(3);
  REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
  CHECK_FAILS(DSOPT_E_TIMEOUT, dsopt_session_wait(session.get(), 0));
  std::vector<size_t> counts;
  for (;;) {
    REQUIRE_OK(dsopt_session_wait(session.get(), 10000000));
    auto event = Sized<dsopt_event>();
    REQUIRE_OK(dsopt_stream_read(stream.get(), &event));
    if (event.kind == DSOPT_EVENT_DONE) break;
    counts.push_back(event.token_count);
  }
  CHECK(counts == std::vector<size_t>{1, 1, 1});
}

}  // namespace
}  // namespace dsopt::testing
