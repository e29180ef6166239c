#include "runtime/event_queue.h"

#include <catch2/catch.hpp>

namespace dsopt {
namespace {

void Push(EventQueue* queue, dsopt_token token, const char* text) {
  const dsopt_token top[] = {token, 7};
  const float top_logprobs[] = {-0.5f, -1.5f};
  queue->PushToken(token, -0.5f, top, top_logprobs);
  queue->text()->append(text);
}

TEST_CASE("events that were not read merge into one", "[events]") {
  EventQueue queue;
  queue.Start(true, 2);
  Push(&queue, 1, "a");
  Push(&queue, 2, "b");
  queue.PushEnd(DSOPT_FINISH_LENGTH, DSOPT_OK);
  CHECK(queue.count() == 2);
  dsopt_event event;
  REQUIRE(queue.Read(&event));
  CHECK(event.kind == DSOPT_EVENT_TEXT);
  CHECK(std::string_view(event.text, event.text_len) == "ab");
  REQUIRE(event.token_count == 2);
  CHECK(event.tokens[1] == 2);
  CHECK(event.logprobs[0] == -0.5f);
  REQUIRE(event.top_count == 2);
  CHECK(event.top_tokens[2] == 2);
  CHECK(event.top_logprobs[3] == -1.5f);
  REQUIRE(queue.Read(&event));
  CHECK(event.kind == DSOPT_EVENT_DONE);
  CHECK(event.finish == DSOPT_FINISH_LENGTH);
  CHECK(event.text_len == 0);
  CHECK(event.text != nullptr);
  CHECK(!queue.Read(&event));
}

TEST_CASE("an event stays valid while the next one is collected", "[events]") {
  EventQueue queue;
  queue.Start(false, 0);
  Push(&queue, 1, "first");
  dsopt_event event;
  REQUIRE(queue.Read(&event));
  for (int i = 0; i < 1000; ++i) Push(&queue, i, "more");
  CHECK(std::string_view(event.text, event.text_len) == "first");
  CHECK(event.tokens[0] == 1);
  CHECK(event.logprobs == nullptr);
  CHECK(event.top_tokens == nullptr);
}

TEST_CASE("a new generation drops what was not read", "[events]") {
  EventQueue queue;
  queue.Start(false, 0);
  Push(&queue, 1, "old");
  queue.PushEnd(DSOPT_FINISH_ERROR, DSOPT_E_DEVICE_MEMORY);
  queue.Start(false, 0);
  dsopt_event event;
  CHECK(queue.count() == 0);
  CHECK(!queue.Read(&event));
}

}  // namespace
}  // namespace dsopt
