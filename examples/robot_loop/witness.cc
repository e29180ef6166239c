#include "witness.h"

#include "realtime.h"
#include "ticks.h"

namespace {
constexpr int64_t kStep = 1'000'000, kWorthNoting = 1'000'000;
constexpr size_t kMost = 100'000;
}  // namespace

Witness::Witness(bool realtime) {
  stalls_.reserve(kMost);
  thread_ = std::thread([this, realtime] { Watch(realtime); });
}

void Witness::Stop() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
}

// Without real-time priority the witness runs as it can, and other programs delay it too.
void Witness::Watch(bool realtime) {
  if (realtime) AskForRealtime(kStep / 4, kStep, 60);
  int64_t at = NowNs();
  while (!stop_.load(std::memory_order_relaxed)) {
    at += kStep;
    SleepUntil(at);
    const int64_t now = NowNs();
    if (now - at > kWorthNoting && stalls_.size() < kMost) stalls_.push_back({at, now});
    if (now - at > kStep) at = now;
  }
}
