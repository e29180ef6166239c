// clock.h - CLOCK_MONOTONIC in nanoseconds: the time base of budgets and deadlines.
#ifndef DSOPT_BASE_CLOCK_H_
#define DSOPT_BASE_CLOCK_H_

#include <ctime>
#include <cstdint>

namespace dsopt {

inline uint64_t NowNs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

// now + budget_us, saturating.
inline uint64_t DeadlineNs(uint64_t now_ns, uint64_t budget_us) {
  return budget_us > (UINT64_MAX - now_ns) / 1000 ? UINT64_MAX : now_ns + budget_us * 1000;
}

}  // namespace dsopt
#endif  // DSOPT_BASE_CLOCK_H_
