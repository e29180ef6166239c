// plan.h - turns the text of the model, as it arrives, into actions. The text is a JSON array of flat objects;
// each is handed out when its closing brace has come, so that the robot starts before the plan is complete.
#ifndef ROBOT_LOOP_PLAN_H_
#define ROBOT_LOOP_PLAN_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

// One action: the fields of examples/robot_model/README.md, "" or -1 where they are absent.
struct Action {
  std::string verb;  // "action"
  std::string target, object, color, size, from, to, room, relation, direction, text, name, reason, state,
      person;
  std::string value;  // a number or a word
  double count = -1, meters = -1, steps = -1, degrees = -1, seconds = -1;
  bool all = false;  // "count":"all"
  std::string json;  // as it was written
};

class PlanReader {
 public:
  // Appends the actions that `piece` completes to *out. False if the text cannot be a plan: error() says why.
  bool Add(std::string_view piece, std::vector<Action>* out);
  // The array was closed.
  bool complete() const { return closed_; }
  const std::string& error() const { return error_; }
  void Reset() { *this = {}; }

 private:
  bool Fail(std::string message);
  bool Parse(std::vector<Action>* out);

  std::string object_;  // the object that is being read
  bool opened_ = false, closed_ = false, in_object_ = false, in_string_ = false, escaped_ = false;
  std::string error_;
};

// "the small red cup", "all windows": for the log.
std::string Describe(const Action& action);

#endif  // ROBOT_LOOP_PLAN_H_
