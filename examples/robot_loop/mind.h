// mind.h - commands in, actions out, by polling a dsopt session. Nothing runs outside Poll(): no thread of its
// own.
#ifndef ROBOT_LOOP_MIND_H_
#define ROBOT_LOOP_MIND_H_

#include <chrono>
#include <dsopt/dsopt.hpp>
#include <string>
#include <vector>

#include "plan.h"

struct MindOptions {
  std::string model = "examples/robot_model/robot.dsopt";
  std::string cpu_variant;  // "": the best of this machine
  uint32_t threads = 1;     // 1: all work happens on the loop's own thread
  bool busy = true;         // a second stream translates sentences all the time, so that every poll has work
};

class Mind {
 public:
  explicit Mind(const MindOptions& options);  // loads the model; throws dsopt::Error

  // Begins a plan for the command. Only while not thinking().
  void Ask(const std::string& command);
  // Works for at most about `budget` and appends the actions that became complete.
  void Poll(std::chrono::nanoseconds budget, std::vector<Action>* actions);

  bool thinking() const { return thinking_; }
  const std::string& error() const { return error_; }  // why the last plan ended early; "" if it did not
  const std::string& text() const { return text_; }    // what the model wrote so far
  uint64_t tokens() const { return tokens_; }          // sampled by both streams
  uint64_t background_answers() const { return background_answers_; }
  std::string device() const { return model_.Info().device; }

 private:
  void Begin(dsopt::Stream* stream, const std::string& command, int32_t priority);
  void ReadPlan(std::vector<Action>* actions);
  void ReadBackground();

  MindOptions options_;
  dsopt::Runtime runtime_;
  dsopt::Model model_;
  dsopt::Session session_;
  dsopt::Stream plan_, background_;
  PlanReader reader_;
  bool thinking_ = false;
  std::string text_, error_;
  uint64_t tokens_ = 0, background_answers_ = 0;
};

#endif  // ROBOT_LOOP_MIND_H_
