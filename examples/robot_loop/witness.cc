#include "witness.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "ticks.h"

namespace {
constexpr int64_t kStep = 1'000'000, kWorthNoting = 1'000'000;
constexpr size_t kMost = 100'000;
}  // namespace

Witness::Witness() {
  stalls_.reserve(kMost);
  thread_ = std::thread([this] { Watch(); });
}

void Witness::Stop() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
}

// Where SCHED_FIFO is not permitted the witness runs as it can, and other programs delay it too.
void Witness::Watch() {
  cpu_set_t core;
  CPU_ZERO(&core);
  CPU_SET(static_cast<size_t>(sysconf(_SC_NPROCESSORS_ONLN) - 1), &core);
  pthread_setaffinity_np(pthread_self(), sizeof core, &core);
  const sched_param first{.sched_priority = 60};
  pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);
  int64_t at = NowNs();
  while (!stop_.load(std::memory_order_relaxed)) {
    at += kStep;
    SleepUntil(at);
    const int64_t now = NowNs();
    if (now - at > kWorthNoting && stalls_.size() < kMost) stalls_.push_back({at, now});
    if (now - at > kStep) at = now;
  }
}
