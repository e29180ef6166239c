// ticks.h - what each tick of the loop cost, and what that says: percentiles, missed ticks and whose fault they
// were.
#ifndef ROBOT_LOOP_TICKS_H_
#define ROBOT_LOOP_TICKS_H_

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "witness.h"

inline int64_t NowNs(clockid_t clock = CLOCK_MONOTONIC) {
  timespec t{};
  clock_gettime(clock, &t);
  return t.tv_sec * int64_t{1'000'000'000} + t.tv_nsec;
}

// CLOCK_MONOTONIC.
inline void SleepUntil(int64_t ns) {
  const timespec at{ns / 1'000'000'000, ns % 1'000'000'000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {
  }
}

inline constexpr int64_t kPeriodNs = 10'000'000;

// Nanoseconds. A tick is released at a multiple of 10 ms and does its own work first, then polls.
struct Tick {
  bool inference = false;  // it polled, or the tick before it did
  bool polled = false;
  int64_t late = 0;                   // from the release to the wake-up
  int64_t own_wall = 0, own_cpu = 0;  // the loop's own work
  int64_t response = 0;  // from the release to the end of the own work: missed if more than kPeriodNs
  int64_t budget = 0, poll_wall = 0, poll_cpu = 0;
  int64_t carried_cpu = 0;     // CPU time that the poll of the tick before used beyond its budget
  int64_t from = 0, done = 0;  // from the beginning of that poll, or the release, to the end of the own work
  int64_t away = 0;            // between them, as the witness saw it
};

inline bool Missed(const Tick& t) { return t.response > kPeriodNs; }
// The tick would have been missed on a machine that is always there. A frozen virtual machine counts as CPU
// time of whoever ran, so what the witness saw is taken off.
inline bool MissedByProgram(const Tick& t) {
  return Missed(t) && t.own_cpu + t.carried_cpu - t.away > kPeriodNs;
}

struct Row {
  const char* name;
  std::vector<int64_t> without, with;  // sorted
};

class TickLog {
 public:
  explicit TickLog(size_t capacity) { ticks_.reserve(capacity); }
  void Add(const Tick& tick) { ticks_.push_back(tick); }
  const std::vector<Tick>& ticks() const { return ticks_; }
  size_t Count(bool inference) const;
  // Fills in what the witness saw.
  void Hear(const std::vector<Stall>& stalls);
  // The table, histograms in characters, and the verdict.
  void Print(std::FILE* out) const;
  std::vector<Row> Rows() const;

 private:
  void PrintVerdict(std::FILE* out) const;

  std::vector<Tick> ticks_;
};

// Of sorted values; p in 0 .. 1. 0 if there are none.
int64_t Percentile(const std::vector<int64_t>& sorted, double p);

// Counts per bin of a tenth of a decade, from 1 us to 100 ms; what lies outside is in the first or last.
inline constexpr int kBins = 50;
std::vector<size_t> Histogram(const std::vector<int64_t>& values);

#endif  // ROBOT_LOOP_TICKS_H_
