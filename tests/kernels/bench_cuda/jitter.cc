// jitter.cc - how even decode steps are: 10 000 steps that all do the same work (the position is held), alone
// and while another program of the same device prefills 32768 tokens; and what the graphs of steps cost.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "bench.h"

namespace dsopt::bench {
namespace {

constexpr uint32_t kContext = 512, kSteps = 10000, kWarmup = 200;
constexpr uint32_t kMostSequences = 16;
constexpr uint32_t kPrompt = 32768, kChunk = 2048, kSliceUs = 1000;

double Percentile(const std::vector<double>& ascending, double percent) {
  const auto at = static_cast<size_t>(percent / 100.0 * static_cast<double>(ascending.size()));
  return ascending[std::min(at, ascending.size() - 1)];
}

void Print(const char* shape, const char* what, std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  const double p50 = Percentile(seconds, 50), p99 = Percentile(seconds, 99), p999 = Percentile(seconds, 99.9);
  std::printf("%-18s %-14s %zu steps: p50 %.1f us  p99 %.1f  p99.9 %.1f  max %.1f  min %.1f  p99.9/p50 %.3f\n",
              shape, what, seconds.size(), p50 * 1e6, p99 * 1e6, p999 * 1e6, seconds.back() * 1e6,
              seconds.front() * 1e6, p999 / p50);
  // Steps by time over the median.
  const double edges[] = {0.9, 0.95, 0.98, 0.99, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 5.0, 10.0, INFINITY};
  size_t from = 0;
  for (const double edge : edges) {
    const size_t to = static_cast<size_t>(
        std::upper_bound(seconds.begin() + static_cast<std::ptrdiff_t>(from), seconds.end(), p50 * edge) -
        seconds.begin());
    if (to > from) {
      const auto bar = static_cast<size_t>(
          std::ceil(static_cast<double>(to - from) * 50.0 / static_cast<double>(seconds.size())));
      std::printf("  <= %5.2f x p50 %7zu %s\n", edge, to - from, std::string(bar, '#').c_str());
    }
    from = to;
  }
  std::fflush(stdout);
}

}  // namespace

void Jitter(Model* model) {
  Program program(model, DSOPT_PRECISION_FAST, DSOPT_BF16, 1, kContext + 64, 16, 1);
  program.FillCache();
  const std::vector<int32_t> tokens = Tokens(1, model->shape.vocab, 9);
  std::vector<double> seconds;
  seconds.reserve(kSteps);
  for (uint32_t i = 0; i < kWarmup + kSteps; ++i) {
    const double t = program.Run(1, kContext, 1, tokens, 1);
    if (i >= kWarmup) seconds.push_back(t);
  }
  std::printf("%-18s alone: %u of %u steps were replayed as a graph\n", model->shape.name, program.replayed,
              kWarmup + kSteps);
  Print(model->shape.name, "alone", std::move(seconds));
}

// Steps of 1 to 16 sequences: a state each. The first two are launched kernel by kernel, the third makes the
// graph.
void Replays(Model* model) {
  Program program(model, DSOPT_PRECISION_FAST, DSOPT_BF16, kMostSequences, kContext + 64, kMostSequences,
                  kMostSequences);
  program.FillCache();
  const auto free_bytes = [] {
    dsopt_device_info info = {};
    info.struct_size = sizeof(info);
    Must(g_api->device_info(0, &info), "device_info");
    return static_cast<double>(info.memory_free);
  };
  const std::vector<int32_t> tokens = Tokens(kMostSequences, model->shape.vocab, 9);
  // All kernels are loaded, whatever their state is later.
  for (uint32_t sequences = 1; sequences <= kMostSequences; ++sequences)
    program.Run(sequences, kContext, 1, tokens, sequences);
  const double before = free_bytes();
  for (uint32_t sequences = 1; sequences <= kMostSequences; ++sequences) {
    const auto run = [&] { return program.Run(sequences, kContext, 1, tokens, sequences) * 1e6; };
    const double launched = run(), made = run();
    std::vector<double> later;
    const uint32_t replayed = program.replayed;
    for (int i = 0; i < 200; ++i) later.push_back(run());
    std::printf("%-18s %2u rows: second step %.1f us, third %.1f, then %.1f (%u of 200 replayed)\n",
                model->shape.name, sequences, launched, made, Median(later), program.replayed - replayed);
  }
  std::printf("%-18s device memory of %u graphs: %.2f MiB\n", model->shape.name, kMostSequences,
              (before - free_bytes()) / (1 << 20));
  std::fflush(stdout);
}

void Beside(Model* model) {
  Program program(model, DSOPT_PRECISION_FAST, DSOPT_BF16, 1, kContext + 64, 16, 1);
  program.FillCache();
  Program other(model, DSOPT_PRECISION_FAST, DSOPT_BF16, 1, kPrompt, kChunk, 1, kSliceUs);
  const std::vector<int32_t> tokens = Tokens(1, model->shape.vocab, 9),
                             chunk = Tokens(kChunk, model->shape.vocab, 3);
  for (uint32_t i = 0; i < kWarmup; ++i) program.Run(1, kContext, 1, tokens, 1);
  std::vector<double> seconds;
  seconds.reserve(kSteps);
  uint32_t at = 0, prompts = 0;
  bool chunk_runs = false;
  double first = Now(), prompt_seconds = 0;
  // One host thread serves both, as a session does; a step counts from its begin to its result.
  const auto advance_other = [&] {
    if (!chunk_runs) other.Begin(1, at, kChunk, chunk, 1);
    chunk_runs = !other.Poll();
    if (chunk_runs) return;
    at += kChunk;
    if (at < kPrompt) return;
    at = 0;
    ++prompts;
    prompt_seconds += Now() - first;
    first = Now();
  };
  const double end = Now() + 60;
  while (seconds.size() < kSteps && Now() < end) {
    program.Begin(1, kContext, 1, tokens, 1);
    while (!program.Poll()) advance_other();
    seconds.push_back(Now() - program.started);
    advance_other();
  }
  while (chunk_runs) chunk_runs = !other.Poll();
  if (prompts > 0)
    std::printf("%-18s prefill of %u tokens beside: %.1f ms, %.0f tok/s (slices of %u us), %u times\n",
                model->shape.name, kPrompt, prompt_seconds / prompts * 1e3, kPrompt * prompts / prompt_seconds,
                kSliceUs, prompts);
  Print(model->shape.name, "beside prefill", std::move(seconds));
}

}  // namespace dsopt::bench
