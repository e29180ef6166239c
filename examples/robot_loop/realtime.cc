#include "realtime.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace {

// struct sched_attr of the kernel, which Debian 12's C library does not declare.
struct Attributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;  // ns
};
constexpr uint32_t kDeadline = 6;  // SCHED_DEADLINE

}  // namespace

std::string AskForRealtime(int64_t runtime_ns, int64_t period_ns, int fifo_priority) {
  Attributes attributes{};
  attributes.size = sizeof attributes;
  attributes.policy = kDeadline;
  attributes.runtime = static_cast<uint64_t>(runtime_ns);
  attributes.deadline = attributes.period = static_cast<uint64_t>(period_ns);
  if (syscall(SYS_sched_setattr, 0, &attributes, 0) == 0) {
    return "SCHED_DEADLINE " + std::to_string(runtime_ns / 1000) + " of " + std::to_string(period_ns / 1000) +
           " us";
  }
  const sched_param parameter{.sched_priority = fifo_priority};
  if (sched_setscheduler(0, SCHED_FIFO, &parameter) == 0) return "SCHED_FIFO " + std::to_string(fifo_priority);
  return std::string("normal (SCHED_FIFO: ") + std::strerror(errno) + ")";
}

void BackToNormal() {
  const sched_param normal{.sched_priority = 0};
  sched_setscheduler(0, SCHED_OTHER, &normal);
}

std::string LockMemory() {
  if (mlockall(MCL_CURRENT | MCL_FUTURE) == 0) return "memory locked";
  return std::string("memory not locked (") + std::strerror(errno) + ")";
}
