// interrupt.h - SIGINT and SIGTERM as a flag, so that a command can remove its partial files before it ends.
#ifndef DSOPT_TOOLS_INTERRUPT_H_
#define DSOPT_TOOLS_INTERRUPT_H_

#include <atomic>
#include <csignal>

namespace dsopt::tools {

// Catches both signals while it lives. One at a time in a process.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  // Becomes true with the first signal; lives as long as the process.
  static const std::atomic<bool>& flag();

 private:
  struct sigaction old_int_ = {}, old_term_ = {};
};

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_INTERRUPT_H_
