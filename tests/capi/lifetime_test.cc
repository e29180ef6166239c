// Handles in any order, serial calls, callbacks.
#include <algorithm>
#include <functional>

#include "tests/capi/capi_harness.h"

namespace dsopt::testing {
namespace {

TEST_CASE("handles may be released in any of the 24 orders, with work in flight", "[capi]") {
  std::vector<int> order = {0, 1, 2, 3};
  do {
    CAPTURE(order);
    dsopt_runtime* runtime = NewRuntime().release();
    dsopt_model* model = OpenModel(runtime).release();
    dsopt_session* session = NewSession(model).release();
    dsopt_stream* stream = NewStream(session, "Any order").release();
    const auto options = Options(100);
    REQUIRE_OK(dsopt_stream_generate(stream, &options));
    REQUIRE(dsopt_session_poll(session, 50, nullptr) == DSOPT_PENDING);
    for (int which : order) {
      if (which == 0) dsopt_runtime_release(runtime);
      if (which == 1) dsopt_model_release(model);
      if (which == 2) dsopt_session_release(session);
      if (which == 3) dsopt_stream_release(stream);
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

// A callback that runs a function with the event.
struct Sink {
  std::function<int(dsopt_stream*, const dsopt_event&)> function;
  static int DSOPT_CALL Call(void* user, dsopt_stream* stream, const dsopt_event* event) {
    return static_cast<Sink*>(user)->function(stream, *event);
  }
  dsopt_generate_options Options(uint32_t max_tokens) {
    auto options = dsopt::testing::Options(max_tokens);
    options.on_event = Call;
    options.user = this;
    return options;
  }
};

void PollToEnd(dsopt_session* session) {
  dsopt_status status;
  while ((status = dsopt_session_poll(session, 1000, nullptr)) == DSOPT_PENDING) {
  }
  REQUIRE(status == DSOPT_OK);
}

TEST_CASE("a callback gets every token and then the end", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  StreamPtr stream = NewStream(session.get(), "Callback");
  size_t tokens = 0;
  int ends = 0;
  Sink sink{[&](dsopt_stream* from, const dsopt_event& event) {
    CHECK(from == stream.get());
    CHECK(ends == 0);
    tokens += event.token_count;
    if (event.kind == DSOPT_EVENT_DONE) ++ends;
    return 0;
  }};
  const auto options = sink.Options(30);
  REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
  PollToEnd(session.get());
  CHECK(tokens == 30);
  CHECK(ends == 1);
}

TEST_CASE("a callback that returns non-zero cancels its stream", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  StreamPtr stream = NewStream(session.get(), "Enough");
  size_t tokens = 0;
  dsopt_finish finish = DSOPT_FINISH_NONE;
  Sink sink{[&](dsopt_stream*, const dsopt_event& event) {
    tokens += event.token_count;
    finish = event.finish;
    return tokens >= 5 ? 1 : 0;
  }};
  const auto options = sink.Options(500);
  REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
  PollToEnd(session.get());
  CHECK(finish == DSOPT_FINISH_CANCELLED);
  CHECK(tokens == 5);
  CHECK(dsopt_stream_token_count(stream.get()) == 12);
}

TEST_CASE("serial calls from a callback on its own session are busy, shared ones work", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get(), 2);
  SessionPtr other = NewSession(model.get());
  StreamPtr stream = NewStream(session.get(), "Busy");
  int calls = 0;
  Sink sink{[&](dsopt_stream* from, const dsopt_event&) {
    ++calls;
    dsopt_stream* created = nullptr;
    auto event = Sized<dsopt_event>();
    CHECK_FAILS(DSOPT_E_BUSY, dsopt_session_poll(session.get(), 0, nullptr));
    CHECK_FAILS(DSOPT_E_BUSY, dsopt_session_wait(session.get(), 0));
    CHECK_FAILS(DSOPT_E_BUSY, dsopt_stream_create(session.get(), &created));
    CHECK_FAILS(DSOPT_E_BUSY, dsopt_stream_fork(from, &created));
    CHECK_FAILS(DSOPT_E_BUSY, dsopt_stream_read(from, &event));
    CHECK_FAILS(DSOPT_E_BUSY, dsopt_stream_rewind(from, 0));
    auto stats = Sized<dsopt_session_stats>();
    REQUIRE_OK(dsopt_session_get_stats(session.get(), &stats));
    dsopt_token token = 0;
    size_t count = 0;
    REQUIRE_OK(dsopt_stream_get_tokens(from, 0, &token, 1, &count));
    REQUIRE_OK(dsopt_stream_error(from, nullptr, 0, nullptr));
    REQUIRE_OK(dsopt_stream_create(other.get(), &created));  // another session is not busy
    dsopt_stream_release(created);
    return 0;
  }};
  const auto options = sink.Options(2);
  REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
  PollToEnd(session.get());
  CHECK(calls == 3);
}

TEST_CASE("a callback may release its own stream and its session", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  for (const bool session_too : {false, true}) {
    SessionPtr session = NewSession(model.get(), 2);
    dsopt_session* raw_session = session.get();
    StreamPtr stream = NewStream(session.get(), "Gone");
    StreamPtr stays = session_too ? StreamPtr() : NewStream(session.get(), "Stays");
    int calls = 0;
    Sink sink{[&](dsopt_stream* from, const dsopt_event&) {
      ++calls;
      dsopt_stream_release(stream.release());
      CHECK(dsopt_stream_token_count(from) == 6);  // the handle lives until the poll ends
      if (session_too) session.reset();
      return 0;
    }};
    const auto options = sink.Options(50);
    REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
    if (stays) {
      const auto plain = Options(5);
      REQUIRE_OK(dsopt_stream_generate(stays.get(), &plain));
    }
    while (calls == 0) REQUIRE(dsopt_session_poll(raw_session, 1000, nullptr) >= 0);
    CHECK(calls == 1);  // no event after the release
    if (stays) CHECK(ReadAll(session.get(), stays.get()).tokens.size() == 5);
    CHECK(calls == 1);
  }
}

TEST_CASE("a stream released while it generates gives its pages back", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get(), 2);
  StreamPtr stream = NewStream(session.get(), std::string(200, 'p'));
  const auto options = Options(100);
  REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
  CHECK(dsopt_session_poll(session.get(), 300, nullptr) == DSOPT_PENDING);
  stream.reset();
  CHECK(dsopt_session_poll(session.get(), 300, nullptr) == DSOPT_OK);
  auto stats = Sized<dsopt_session_stats>();
  REQUIRE_OK(dsopt_session_get_stats(session.get(), &stats));
  CHECK(stats.kv_tokens_used == 0);
}

}  // namespace
}  // namespace dsopt::testing
