// A device that works on between two calls, and what cancel, interrupt and release do to its batches.
#include "tests/unit/runtime/session_harness.h"

namespace dsopt::testing {
namespace {

FakeDevice Asynchronous(uint32_t advances) {
  FakeDevice fake;
  fake.kind = DSOPT_DEVICE_CUDA;
  fake.advances_per_batch = advances;
  return fake;
}

dsopt_finish LastFinish(Stream* stream) {
  dsopt_event event;
  dsopt_finish finish = DSOPT_FINISH_NONE;
  while (stream->events().Read(&event)) finish = event.finish;
  return finish;
}

TEST_CASE("poll does not wait for a device that is at work", "[async]") {
  Harness h({}, Asynchronous(3));
  Stream* stream = h.NewStream(Prompt(4));
  REQUIRE(h.Generate(stream, 2).ok());
  PollReport report = h.session->Poll(1000000);
  CHECK(report.active_streams == 1);
  CHECK(report.suggested_wait_us == 50);
  CHECK(report.spent_us < 100000);
  CHECK(stream->tokens().size() == 4);
  report = h.session->Poll(1000000);
  CHECK(stream->tokens().size() == 4);
  report = h.session->Poll(1000000);
  CHECK(stream->tokens().size() == 5);
  h.Finish();
  CheckTokens(*stream, 4);
}

TEST_CASE("a poll without budget harvests what the device finished", "[async]") {
  Harness h({}, Asynchronous(2));
  Stream* stream = h.NewStream(Prompt(4));
  REQUIRE(h.Generate(stream, 2).ok());
  CHECK(h.session->Poll(0).tokens_sampled == 0);
  CHECK(g_fake.batches == 0);  // nothing was begun without budget
  h.session->Poll(100);
  CHECK(h.session->Poll(0).tokens_sampled == 1);
}

TEST_CASE("wait returns with the first event, at its timeout, or when interrupted", "[async]") {
  Harness h({}, Asynchronous(2));
  Stream* stream = h.NewStream(Prompt(4));
  CHECK(h.session->Wait(1000000).ok());  // nothing is active
  REQUIRE(h.Generate(stream, 2).ok());
  REQUIRE(h.session->Wait(1000000).ok());
  CHECK(stream->tokens().size() == 5);
  CHECK(h.session->Wait(1000000).ok());  // the event is still there
  CHECK(stream->tokens().size() == 5);
  CHECK(stream->events().count() == 1);
  g_fake.advances_per_batch = 1000000;
  dsopt_event event;
  REQUIRE(stream->events().Read(&event));
  CHECK(h.session->Wait(3000).code() == DSOPT_E_TIMEOUT);
  h.session->Interrupt();
  CHECK(h.session->Wait(1000000).code() == DSOPT_E_CANCELLED);
  CHECK(h.session->Wait(1000).code() == DSOPT_E_TIMEOUT);  // the interrupt was used up
}

TEST_CASE("cancelling the only stream of a batch cancels the batch", "[async]") {
  Harness h({}, Asynchronous(1000));
  Stream* stream = h.NewStream(Prompt(4));
  REQUIRE(h.Generate(stream, 2).ok());
  h.session->Poll(100);
  stream->Cancel();
  CHECK(h.session->Poll(0).active_streams == 0);
  CHECK(g_fake.cancels == 1);
  CHECK(LastFinish(stream) == DSOPT_FINISH_CANCELLED);
  g_fake.advances_per_batch = 1;
  REQUIRE(h.Generate(stream, 5).ok());
  h.Finish();
  CheckTokens(*stream, 4);
}

TEST_CASE("cancelling one of several streams drops its results and keeps the batch", "[async]") {
  SessionOptions options;
  options.max_streams = 2;
  Harness h(options, Asynchronous(3));
  Stream* stays = h.NewStream(Prompt(4));
  Stream* leaves = h.NewStream(Prompt(4, 1));
  REQUIRE(h.Generate(stays, 5).ok());
  REQUIRE(h.Generate(leaves, 5).ok());
  h.session->Poll(100);
  leaves->Cancel();
  h.session->Poll(0);
  CHECK(LastFinish(leaves) == DSOPT_FINISH_CANCELLED);
  REQUIRE(leaves->Rewind(2).ok());  // while its rows are in flight
  REQUIRE(h.Generate(leaves, 3).ok());
  h.Finish();
  CHECK(g_fake.cancels == 0);
  CHECK(stays->tokens().size() == 9);
  CheckTokens(*stays, 4);
  CHECK(leaves->tokens().size() == 5);
  CheckTokens(*leaves, 2);
}

TEST_CASE("pages released during a batch are not used again before it ends", "[async]") {
  SessionOptions options;
  options.max_streams = 2;
  options.max_tokens = 128;
  FakeDevice fake = Asynchronous(3);
  fake.preferred_rows = 64;
  Harness h(options, fake);
  Stream* released = h.NewStream(Prompt(50));
  Stream* stays = h.NewStream(Prompt(10, 1));
  REQUIRE(h.Generate(released, 5).ok());
  REQUIRE(h.Generate(stays, 5).ok());
  h.session->Poll(100);
  CHECK(h.session->Stats().kv_tokens_used == 128);
  h.session->Release(released);
  CHECK(h.session->Stats().kv_tokens_used == 128);  // the batch still writes there
  Stream* next = h.NewStream(Prompt(20, 2));
  REQUIRE(h.Generate(next, 5).ok());
  h.Finish();
  CHECK(h.session->Stats().kv_tokens_used == 128);
  CheckTokens(*stays, 10);
  CheckTokens(*next, 20);
}

TEST_CASE("saving a stream starts the batch in flight again without losing a token", "[async]") {
  SessionOptions options;
  options.max_streams = 2;
  Harness h(options, Asynchronous(4));
  Stream* idle = h.NewStream(Prompt(70));
  Stream* busy = h.NewStream(Prompt(10, 1));
  REQUIRE(h.Generate(busy, 8).ok());
  uint64_t bytes = 0;
  (void)h.session->Save(*idle, {}, &bytes).ok();
  std::vector<uint8_t> saved(bytes);
  for (int i = 0; i < 5; ++i) {
    h.session->Poll(100);
    REQUIRE(h.session->Save(*idle, saved, &bytes).ok());
    REQUIRE(h.session->Load(idle, saved).ok());
  }
  CHECK(g_fake.cancels == 5);
  h.Finish();
  CHECK(busy->tokens().size() == 18);
  CheckTokens(*busy, 10);
}

TEST_CASE("a session can be destroyed while a batch is in flight", "[async]") {
  Harness h({}, Asynchronous(1000));
  REQUIRE(h.Generate(h.NewStream(Prompt(4)), 2).ok());
  h.session->Poll(100);
  h.session.reset();
  CHECK(g_fake.cancels == 1);
  CHECK(g_fake.programs == 0);
  h.model.reset();
  CHECK(g_fake.open_devices == 0);
}

}  // namespace
}  // namespace dsopt::testing
