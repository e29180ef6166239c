// journal.h - lines for people, written by the control loop without waiting for whoever reads them: a ring that
// an ordinary thread empties to standard output every 20 ms. What does not fit is counted, not waited for.
#ifndef ROBOT_LOOP_JOURNAL_H_
#define ROBOT_LOOP_JOURNAL_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <thread>

class Journal {
 public:
  Journal() : printer_([this] { Print(); }) {}
  ~Journal() {
    stop_.store(true);
    printer_.join();
    if (dropped_ > 0) std::printf("journal: %d lines did not fit\n", dropped_);
    std::fflush(stdout);
  }
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // From one thread only. Lines longer than the slot are cut.
  void Write(std::string_view line) {
    const size_t head = head_.load(std::memory_order_relaxed);
    if (head - tail_.load(std::memory_order_acquire) == kLines) {
      ++dropped_;
      return;
    }
    Line& slot = lines_[head % kLines];
    slot.length = std::min(line.size(), slot.text.size());
    std::memcpy(slot.text.data(), line.data(), slot.length);
    head_.store(head + 1, std::memory_order_release);
  }

 private:
  static constexpr size_t kLines = 512;
  struct Line {
    size_t length;
    std::array<char, 400> text;
  };

  void Print() {
    for (bool last = false;; std::this_thread::sleep_for(std::chrono::milliseconds(20))) {
      last = stop_.load();
      size_t tail = tail_.load(std::memory_order_relaxed);
      for (const size_t head = head_.load(std::memory_order_acquire); tail != head; ++tail) {
        std::printf("%.*s\n", static_cast<int>(lines_[tail % kLines].length),
                    lines_[tail % kLines].text.data());
      }
      tail_.store(tail, std::memory_order_release);
      std::fflush(stdout);
      if (last) return;
    }
  }

  std::array<Line, kLines> lines_{};
  std::atomic<size_t> head_{0}, tail_{0};
  std::atomic<bool> stop_{false};
  int dropped_ = 0;
  std::thread printer_;  // last: it reads the others
};

#endif  // ROBOT_LOOP_JOURNAL_H_
