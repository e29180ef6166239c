// witness.h - notices when the machine itself was away. A thread that does nothing but wake every millisecond,
// on the last core and before everything else: where it too came late, neither the loop nor the library was the
// reason.
#ifndef ROBOT_LOOP_WITNESS_H_
#define ROBOT_LOOP_WITNESS_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

struct Stall {
  int64_t from, to;  // ns, CLOCK_MONOTONIC: when the witness should have woken, and did
};

class Witness {
 public:
  explicit Witness(bool realtime);  // begins to watch
  ~Witness() { Stop(); }
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;

  void Stop();
  // After Stop: stalls of more than a millisecond.
  const std::vector<Stall>& stalls() const { return stalls_; }

 private:
  void Watch(bool realtime);

  std::vector<Stall> stalls_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

#endif  // ROBOT_LOOP_WITNESS_H_
