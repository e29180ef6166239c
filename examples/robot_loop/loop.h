// loop.h - the 100 Hz control loop: wakes at absolute times, does its own work, and gives the mind what is left
// of the tick. Blocks of 100 ticks with inference and 100 without alternate, so that both see the same machine.
#ifndef ROBOT_LOOP_LOOP_H_
#define ROBOT_LOOP_LOOP_H_

#include <optional>
#include <string>
#include <vector>

#include "executor.h"
#include "mind.h"
#include "svg.h"
#include "ticks.h"

struct LoopOptions {
  int64_t ticks = 3000;            // with inference, and as many without; 0: until the commands are carried out
  bool baseline = true;            // false: inference in every tick
  bool fast = false;               // does not wait for the clock: for tests of what happens, not of when
  bool realtime = true;            // the witness too
  int64_t reserve_ns = 1'000'000;  // of each tick that the mind does not get
  std::vector<std::string> commands;
};

class ControlLoop {
 public:
  ControlLoop(const LoopOptions& options, Mind* mind, Journal* journal);
  void Run();

  const World& world() const { return world_; }
  const Robot& robot() const { return robot_; }
  const Executor& executor() const { return executor_; }
  const TickLog& log() const { return log_; }
  const std::vector<Trip>& trips() const { return trips_; }
  const std::vector<Stall>& stalls() const { return stalls_; }  // of the machine
  size_t commands_done() const { return commands_done_; }

 private:
  static constexpr int64_t kLongest = 200'000;  // ticks, where the commands decide

  std::string Prepare(std::optional<Witness>* witness) const;
  bool Done(int64_t tick) const;
  void OwnWork(int64_t tick);
  void Think(int64_t release, Tick* record);

  LoopOptions options_;
  Mind* mind_;
  Journal* journal_;
  World world_;
  Robot robot_;
  Executor executor_;
  TickLog log_;
  std::vector<Stall> stalls_;
  std::vector<Trip> trips_;
  std::vector<Action> actions_;
  size_t next_command_ = 0, commands_done_ = 0;
  bool waiting_ = false;  // the last command is not carried out yet
};

#endif  // ROBOT_LOOP_LOOP_H_
