#include <cmath>

#include "tests/unit/runtime/session_harness.h"

namespace dsopt::testing {
namespace {

TEST_CASE("a stream generates what the model says for its own tokens", "[session]") {
  Harness h;
  Stream* stream = h.NewStream(Prompt(20));
  REQUIRE(h.Generate(stream, 100).ok());
  h.Finish();
  CHECK(stream->tokens().size() == 120);
  CheckTokens(*stream, 20);
  CHECK(stream->cache().tokens() == 119);  // the last token is not needed in the cache yet
}

TEST_CASE("a prompt is cut into chunks of prefill_chunk rows", "[session]") {
  SessionOptions options;
  options.prefill_chunk = 16;
  Harness h(options);
  Stream* stream = h.NewStream(Prompt(100));
  REQUIRE(h.Generate(stream, 1).ok());
  h.Finish();
  CHECK(g_fake.largest_batch_rows == 16);
  CHECK(g_fake.batches == 7);
  CheckTokens(*stream, 100);
}

TEST_CASE("a session counts the batches that were replayed", "[session]") {
  Harness h;
  Stream* stream = h.NewStream(Prompt(5));
  REQUIRE(h.Generate(stream, 4).ok());
  h.Finish();
  CHECK(h.session->Stats().replayed_batches == 0);
  g_fake.replays = true;
  REQUIRE(h.Generate(stream, 3).ok());
  h.Finish();
  CHECK(h.session->Stats().replayed_batches == 3);
  CHECK(h.session->Stats().batches == g_fake.batches);
}

TEST_CASE("eight streams share batches and each one gets its own tokens", "[session]") {
  SessionOptions options;
  options.max_streams = 8;
  options.max_tokens = 4096;
  Harness h(options);
  std::vector<Stream*> streams;
  for (uint32_t i = 0; i < 8; ++i) {
    streams.push_back(h.NewStream(Prompt(5 + 9 * i, i)));
    REQUIRE(h.Generate(streams.back(), 100 + 5 * i).ok());
    h.session->Poll(0);
  }
  h.Finish();
  CHECK(g_fake.largest_batch_seqs == 8);
  for (uint32_t i = 0; i < 8; ++i) {
    CAPTURE(i);
    CHECK(streams[i]->tokens().size() == 105 + 14 * i);
    CheckTokens(*streams[i], 5 + 9 * i);
  }
}

TEST_CASE("more streams than max_streams wait for their turn", "[session]") {
  SessionOptions options;
  options.max_streams = 2;
  Harness h(options);
  std::vector<Stream*> streams;
  for (uint32_t i = 0; i < 5; ++i) {
    streams.push_back(h.NewStream(Prompt(3, i)));
    REQUIRE(h.Generate(streams.back(), 4).ok());
  }
  h.Finish();
  CHECK(g_fake.largest_batch_seqs == 2);
  for (Stream* stream : streams) CheckTokens(*stream, 3);
}

TEST_CASE("a stream with a larger priority overtakes an older one", "[session]") {
  SessionOptions options;
  options.max_streams = 1;
  Harness h(options);
  Stream* low = h.NewStream(Prompt(3, 1));
  Stream* high = h.NewStream(Prompt(3, 2));
  REQUIRE(h.Generate(low, 50).ok());
  Generation generation;
  generation.priority = 1;
  REQUIRE(h.Generate(high, 50, generation).ok());
  while (high->generating()) h.session->Poll(1000, true), high->events().Start(false, 0);
  CHECK(low->tokens().size() == 3);
  h.Finish();
  CheckTokens(*low, 3);
  CheckTokens(*high, 3);
}

TEST_CASE("fork, rewind, append, save, load and release in any order keep every cache right", "[session]") {
  SessionOptions options;
  options.max_streams = 4;
  options.max_tokens = 64 * 40;
  options.prefill_chunk = 24;
  Harness h(options);
  uint64_t state = GENERATE(range(1, 9));
  CAPTURE(state);
  const auto next = [&](uint64_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % bound;
  };
  std::vector<Stream*> streams = {h.NewStream(Prompt(70))};
  std::vector<std::vector<uint8_t>> saves;
  for (int step = 0; step < 400; ++step) {
    CAPTURE(step);
    const size_t at = next(streams.size());
    Stream* stream = streams[at];
    const size_t count = stream->tokens().size();
    switch (next(9)) {
      case 0:
        if (streams.size() < 10) {
          auto fork = h.session->Fork(*stream);
          REQUIRE(fork.ok());
          streams.push_back(fork->get());
        }
        break;
      case 1:
        if (!stream->generating()) REQUIRE(stream->Rewind(next(count + 1)).ok());
        break;
      case 2:
        if (!stream->generating() && count < 250) {
          REQUIRE(stream->AppendTokens(Prompt(1 + static_cast<uint32_t>(next(60)), static_cast<uint32_t>(step)))
                      .ok());
        }
        break;
      case 3:
      case 4:
        if (!stream->generating() && count > 0 && count < 250) {
          REQUIRE(h.Generate(stream, 1 + static_cast<uint32_t>(next(20))).ok());
        }
        break;
      case 5: {
        uint64_t bytes = 0;
        CHECK(h.session->Save(*stream, {}, &bytes).code() == DSOPT_E_BUFFER_TOO_SMALL);
        saves.emplace_back(bytes);
        REQUIRE(h.session->Save(*stream, saves.back(), &bytes).ok());
        break;
      }
      case 6:
        if (!saves.empty() && !stream->generating()) {
          const Status status = h.session->Load(stream, saves[next(saves.size())]);
          REQUIRE((status.ok() || status.code() == DSOPT_E_DEVICE_MEMORY));
        }
        break;
      case 7:
        if (streams.size() > 3) {
          h.session->Release(stream);
          streams.erase(streams.begin() + static_cast<ptrdiff_t>(at));
        } else if (stream->generating()) {
          stream->Cancel();
        }
        break;
      default: {
        const size_t before = stream->tokens().size();
        g_fake.advances_per_batch = 1 + static_cast<uint32_t>(next(3));
        h.session->Poll(next(2) * 20);
        CheckTokens(*stream, before);
      }
    }
    for (Stream* left : streams) {
      REQUIRE((left->LastError().ok() || left->LastError().code() == DSOPT_E_DEVICE_MEMORY));
    }
  }
  h.Finish();
  for (Stream* stream : streams) {
    const size_t before = stream->tokens().size();
    if (before == 0 || !h.Generate(stream, 5).ok()) continue;
    h.Finish();
    CheckTokens(*stream, before);
  }
  for (Stream* stream : streams) h.session->Release(stream);
  h.session->Poll(0);
  CHECK(h.session->Stats().kv_tokens_used == 0);
}

TEST_CASE("the stream that finds no free page fails and the others go on", "[session]") {
  SessionOptions options;
  options.max_streams = 2;
  options.max_tokens = 64 * 3;
  Harness h(options);
  Stream* first = h.NewStream(Prompt(60));
  Stream* second = h.NewStream(Prompt(60, 1));
  REQUIRE(h.Generate(first, 60).ok());
  REQUIRE(h.Generate(second, 60).ok());
  h.Finish();
  Stream* failed = first->LastError().ok() ? second : first;
  Stream* other = failed == first ? second : first;
  CHECK(failed->LastError().code() == DSOPT_E_DEVICE_MEMORY);
  CHECK(other->LastError().ok());
  CHECK(failed->tokens().size() == 65);  // one page full, and the token that needs the next
  CheckTokens(*failed, 60);
  CheckTokens(*other, 60);
  dsopt_event event;
  REQUIRE(failed->events().Read(&event));
  REQUIRE(failed->events().Read(&event));
  CHECK(event.kind == DSOPT_EVENT_ERROR);
  CHECK(event.status == DSOPT_E_DEVICE_MEMORY);
  CHECK(event.finish == DSOPT_FINISH_ERROR);
  REQUIRE(other->Rewind(0).ok());  // its pages are free now
  REQUIRE(h.Generate(failed, 10).ok());
  h.Finish();
  CHECK(failed->LastError().ok());
  CheckTokens(*failed, 60);
}

TEST_CASE("a lowered cache limit ends the stream that grows next, and no other", "[session]") {
  SessionOptions options;
  options.max_streams = 2;
  options.max_tokens = 64 * 4;
  Harness h(options);
  Stream* large = h.NewStream(Prompt(100));
  Stream* small = h.NewStream(Prompt(10, 1));
  REQUIRE(h.Generate(large, 10).ok());
  REQUIRE(h.Generate(small, 10).ok());
  h.Finish();
  CHECK(h.session->Stats().kv_tokens_used == 64 * 3);
  REQUIRE(h.Generate(large, 50).ok());
  REQUIRE(h.Generate(small, 30).ok());
  const uint64_t page_bytes = h.model->model().kv_bytes_per_token(DSOPT_BF16) * 64;
  h.session->SetCacheLimit(2 * page_bytes + 1);  // below what is held
  CHECK(h.session->Stats().kv_tokens_total == 64 * 2);
  h.Finish();
  CHECK(large->LastError().code() == DSOPT_E_DEVICE_MEMORY);
  CHECK(large->tokens().size() == 129);  // the token after its last page was sampled, but has no place
  CHECK(small->LastError().code() == DSOPT_OK);
  CHECK(small->tokens().size() == 50);
  CheckTokens(*large, 100);
  CheckTokens(*small, 10);
  h.session->SetCacheLimit(0);
  CHECK(h.session->Stats().kv_tokens_total == 64 * 4);
  REQUIRE(h.Generate(large, 20).ok());
  h.Finish();
  CHECK(large->LastError().code() == DSOPT_OK);
  CheckTokens(*large, 100);
}

TEST_CASE("a stream that fills the context ends with its length", "[session]") {
  Harness h;
  Stream* stream = h.NewStream(Prompt(1000));
  REQUIRE(h.Generate(stream, 0).ok());
  h.Finish();
  CHECK(stream->tokens().size() == kTinyContext);
  dsopt_event event;
  while (stream->events().Read(&event) && event.kind != DSOPT_EVENT_DONE) {
  }
  CHECK(event.finish == DSOPT_FINISH_LENGTH);
  CHECK(stream->AppendTokens(Prompt(1)).code() == DSOPT_E_INVALID_ARGUMENT);
  REQUIRE(h.Generate(stream, 5).ok());  // no room: ends at once
  CHECK(!stream->generating());
}

TEST_CASE("a prompt larger than the session's cache is refused before any work", "[session]") {
  SessionOptions options;
  options.max_tokens = 100;  // two pages
  Harness h(options);
  Stream* stream = h.NewStream(Prompt(129));
  CHECK(h.Generate(stream, 1).code() == DSOPT_E_DEVICE_MEMORY);
  CHECK(!stream->generating());
  REQUIRE(stream->Rewind(120).ok());
  REQUIRE(h.Generate(stream, 0).ok());
  h.Finish();
  CHECK(stream->tokens().size() == 128);
}

TEST_CASE("generating without tokens is refused", "[session]") {
  Harness h;
  CHECK(h.Generate(h.NewStream(), 1).code() == DSOPT_E_INVALID_STATE);
}

TEST_CASE("score gives the log probability of every token that was not in the cache", "[session]") {
  SessionOptions options;
  options.prefill_chunk = 16;
  Harness h(options);
  const auto prompt = Prompt(50);
  Stream* stream = h.NewStream(prompt);
  Generation generation;
  generation.score = generation.prefill_only = true;
  REQUIRE(h.Generate(stream, 0, generation).ok());
  h.Finish();
  CHECK(stream->tokens().size() == 50);
  CHECK(stream->cache().tokens() == 50);
  std::vector<float> logprobs(50);
  REQUIRE(stream->CopyLogprobs(0, logprobs) == 50);
  CHECK(std::isnan(logprobs[0]));
  for (size_t i = 1; i < 50; ++i) {
    CAPTURE(i);
    REQUIRE(logprobs[i] == FakeLogprob({prompt.data(), i}, prompt[i]));
  }
  REQUIRE(stream->AppendTokens(Prompt(10, 4)).ok());
  generation.prefill_only = false;
  REQUIRE(h.Generate(stream, 3, generation).ok());
  h.Finish();
  const auto tokens = Tokens(*stream);
  logprobs.resize(63);
  REQUIRE(stream->CopyLogprobs(0, logprobs) == 63);
  for (size_t i = 1; i < 63; ++i) {
    CAPTURE(i);
    REQUIRE(logprobs[i] == FakeLogprob({tokens.data(), i}, tokens[i]));
  }
}

TEST_CASE("rewinding cuts log probabilities with the tokens", "[session]") {
  Harness h;
  Stream* stream = h.NewStream(Prompt(10));
  REQUIRE(h.Generate(stream, 10).ok());
  h.Finish();
  REQUIRE(stream->Rewind(12).ok());
  REQUIRE(stream->AppendTokens(Prompt(2)).ok());
  std::vector<float> logprobs(20);
  CHECK(stream->CopyLogprobs(0, logprobs) == 14);
  CHECK(!std::isnan(logprobs[11]));
  CHECK(std::isnan(logprobs[12]));
  CHECK(stream->Rewind(15).code() == DSOPT_E_INVALID_ARGUMENT);
}

TEST_CASE("logits belong to the last token in the cache, also after prefill only", "[session]") {
  SessionOptions options;
  options.max_streams = 2;
  Harness h(options);
  const auto prompt = Prompt(30);
  Stream* stream = h.NewStream(prompt);
  std::vector<float> logits(kTinyVocab);
  CHECK(h.session->ReadLogits(*stream, logits.data()).code() == DSOPT_E_INVALID_STATE);
  Generation generation;
  generation.prefill_only = true;
  REQUIRE(h.Generate(stream, 0, generation).ok());
  h.Finish();
  REQUIRE(h.session->ReadLogits(*stream, logits.data()).ok());
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  CHECK(best == FakeNextToken(prompt, kTinyVocab));
  Stream* other = h.NewStream(Prompt(5));
  REQUIRE(h.Generate(other, 1).ok());
  h.Finish();
  CHECK(h.session->ReadLogits(*stream, logits.data()).code() == DSOPT_E_INVALID_STATE);
  CHECK(h.session->ReadLogits(*other, logits.data()).ok());
  REQUIRE(other->Rewind(3).ok());
  CHECK(h.session->ReadLogits(*other, logits.data()).code() == DSOPT_E_INVALID_STATE);
}

TEST_CASE("a sampled continuation depends on seed and position only", "[session]") {
  const auto run = [](uint64_t seed, uint32_t chunk, bool company) {
    SessionOptions options;
    options.max_streams = 4;
    options.prefill_chunk = chunk;
    Harness h(options);
    Generation generation;
    generation.sampling.temperature = 1;
    generation.sampling.seed = seed;
    Stream* stream = h.NewStream(Prompt(40));
    if (company) REQUIRE(h.Generate(h.NewStream(Prompt(17, 5)), 30, generation).ok());
    REQUIRE(h.Generate(stream, 20, generation).ok());
    h.Finish();
    return Tokens(*stream);
  };
  CHECK(run(1, 8, false) == run(1, 32, true));
  CHECK(run(1, 8, false) != run(2, 8, false));
}

TEST_CASE("a batch that fails ends its streams with the reason and the session lives on", "[session]") {
  Harness h;
  Stream* stream = h.NewStream(Prompt(10));
  g_fake.fail_begin = DSOPT_E_INTERNAL;
  REQUIRE(h.Generate(stream, 5).ok());
  h.Finish();
  CHECK(stream->LastError().code() == DSOPT_E_INTERNAL);
  CHECK(std::string(stream->LastError().message()) == "batch: the fake was told to fail");
  g_fake.fail_advance = DSOPT_E_DEVICE_MEMORY;
  REQUIRE(h.Generate(stream, 5).ok());
  h.Finish();
  CHECK(stream->LastError().code() == DSOPT_E_DEVICE_MEMORY);
  REQUIRE(h.Generate(stream, 5).ok());
  h.Finish();
  CHECK(stream->LastError().ok());
  CheckTokens(*stream, 10);
}

TEST_CASE("a lost device is sticky", "[session]") {
  Harness h;
  Stream* stream = h.NewStream(Prompt(10));
  g_fake.fail_advance = DSOPT_E_DEVICE_LOST;
  REQUIRE(h.Generate(stream, 5).ok());
  h.Finish();
  CHECK(stream->LastError().code() == DSOPT_E_DEVICE_LOST);
  CHECK(h.Generate(stream, 5).code() == DSOPT_E_DEVICE_LOST);
}

TEST_CASE("a page that cannot be copied fails the fork only, which can be used again", "[session]") {
  SessionOptions options;
  options.max_streams = 2;
  Harness h(options);
  Stream* parent = h.NewStream(Prompt(70));
  REQUIRE(h.Generate(parent, 3).ok());
  h.Finish();
  Stream* fork = h.session->Fork(*parent)->get();
  g_fake.fail_copy = DSOPT_E_INTERNAL;
  REQUIRE(h.Generate(fork, 3).ok());
  h.Finish();
  CHECK(fork->LastError().code() == DSOPT_E_INTERNAL);
  REQUIRE(h.Generate(fork, 3).ok());
  REQUIRE(h.Generate(parent, 3).ok());
  h.Finish();
  CheckTokens(*fork, 70);
  CheckTokens(*parent, 70);
}

TEST_CASE("a load that fails leaves the stream as it was", "[session]") {
  Harness h;
  Stream* stream = h.NewStream(Prompt(70));
  REQUIRE(h.Generate(stream, 5).ok());
  h.Finish();
  const auto tokens = Tokens(*stream);
  uint64_t bytes = 0;
  (void)h.session->Save(*stream, {}, &bytes).ok();
  std::vector<uint8_t> saved(bytes);
  REQUIRE(h.session->Save(*stream, saved, &bytes).ok());
  const uint32_t used = h.session->Stats().kv_tokens_used;
  g_fake.fail_write = DSOPT_E_INTERNAL;
  CHECK(h.session->Load(stream, saved).code() == DSOPT_E_INTERNAL);
  saved[100] ^= 1;
  CHECK(h.session->Load(stream, saved).code() == DSOPT_E_CORRUPT);
  CHECK(Tokens(*stream) == tokens);
  CHECK(h.session->Stats().kv_tokens_used == used);
  REQUIRE(h.Generate(stream, 5).ok());
  h.Finish();
  CheckTokens(*stream, 70);
}

uint64_t PageBytes(const LoadedModel& model) {
  const auto plan = Session::PlanMemory(model, {});
  REQUIRE(plan.ok());
  return plan->cache_bytes / (plan->tokens / plan->page_tokens);
}

FakeDevice Gpu() {
  FakeDevice fake;
  fake.kind = DSOPT_DEVICE_CUDA;
  return fake;
}

TEST_CASE("pages beyond a cap on the device go to the host where that is permitted", "[session]") {
  Harness h({}, Gpu());
  const uint64_t page_bytes = PageBytes(*h.model), weight_bytes = h.model->model().weight_bytes();
  constexpr uint64_t kWorkspace = 1000;  // of the fake
  SessionOptions options;
  options.max_tokens = 5 * 64;
  const auto split = [&](uint32_t device_pages, uint32_t host_pages) {
    const auto plan = Session::PlanMemory(*h.model, options);
    REQUIRE(plan.ok());
    CHECK(plan->wanted_tokens == 5 * 64);
    CHECK(plan->tokens == (device_pages + host_pages) * 64);
    CHECK(plan->host_tokens == host_pages * 64);
    CHECK(plan->cache_bytes == device_pages * page_bytes);
    CHECK(plan->host_cache_bytes == host_pages * page_bytes);
    const auto session = Session::Create(h.model, options);
    if (device_pages + host_pages < 5) {
      CHECK(session.status().code() == DSOPT_E_DEVICE_MEMORY);
      return;
    }
    REQUIRE(session.ok());
    CHECK(g_fake.page_count == 5);
    CHECK(g_fake.host_pages == host_pages);
    const dsopt_session_stats stats = (*session)->Stats();
    CHECK(stats.kv_tokens_total == 5 * 64);
    CHECK(stats.kv_host_tokens_total == host_pages * 64);
    CHECK(stats.kv_host_tokens_used == 0);
    CHECK(stats.device_bytes == device_pages * page_bytes + kWorkspace);
    CHECK(stats.host_bytes == host_pages * page_bytes + 10);
  };
  split(5, 0);
  options.max_cache_bytes = 2 * page_bytes + 1;
  split(2, 0);
  options.max_host_cache_bytes = 3 * page_bytes - 1;
  split(2, 2);
  options.max_host_cache_bytes = 3 * page_bytes;
  split(2, 3);
  options.max_device_bytes = weight_bytes + kWorkspace + 2 * page_bytes - 1;
  split(1, 3);
  options.max_host_cache_bytes = 100 * page_bytes;
  split(1, 4);
  options.max_device_bytes = weight_bytes + kWorkspace;
  split(0, 5);
  options.max_device_bytes -= 1;  // weights and workspace alone are too large
  split(0, 0);
  options.max_device_bytes = UINT64_MAX;
  options.max_cache_bytes = 0;
  split(5, 0);
  g_fake.memory_used = g_fake.memory_total - g_fake.memory_total / 64 - kWorkspace - 3 * page_bytes;
  split(3, 2);
  options.max_host_cache_bytes = 0;  // what is free counts where the rest may go elsewhere
  options.max_device_bytes = 0;
  split(5, 0);
}

TEST_CASE("a stream goes on from the device's pages to those on the host", "[session]") {
  Harness h({}, Gpu());
  SessionOptions options;
  options.max_tokens = 5 * 64;
  options.max_cache_bytes = 2 * PageBytes(*h.model);
  options.max_host_cache_bytes = UINT64_MAX;
  const auto created = Session::Create(h.model, options);
  REQUIRE(created.ok());
  h.session = *created;
  Stream* stream = h.NewStream(Prompt(100));
  REQUIRE(h.Generate(stream, 1).ok());
  h.Finish();
  CHECK(h.session->Stats().kv_host_tokens_used == 0);
  REQUIRE(h.Generate(stream, 160).ok());
  h.Finish();
  CheckTokens(*stream, 100);
  CHECK(h.session->Stats().kv_tokens_used == 5 * 64);
  CHECK(h.session->Stats().kv_host_tokens_used == 3 * 64);
}

TEST_CASE("pages on the host are refused where the backend, the device or the host has no place for them",
          "[session]") {
  SessionOptions options;
  options.max_tokens = 5 * 64;
  {
    FakeDevice old = Gpu();
    old.knows_host_pages = false;
    Harness h({}, old);
    options.max_cache_bytes = 2 * PageBytes(*h.model);
    options.max_host_cache_bytes = UINT64_MAX;
    CHECK(Session::Create(h.model, options).status().code() == DSOPT_E_UNSUPPORTED);
    CHECK(Session::PlanMemory(*h.model, options).status().code() == DSOPT_E_UNSUPPORTED);
  }
  Harness h;  // the CPU: its memory is the host's
  CHECK(Session::Create(h.model, options).status().code() == DSOPT_E_DEVICE_MEMORY);
  options.max_tokens = 0;
  const auto session = Session::Create(h.model, options);
  REQUIRE(session.ok());
  CHECK((*session)->Stats().kv_tokens_total == 2 * 64);
  CHECK(g_fake.host_pages == 0);
}

}  // namespace
}  // namespace dsopt::testing
