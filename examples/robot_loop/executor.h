// executor.h - carries out actions in the world, one tick at a time. Each action becomes a few steps (go, turn,
// wait, change something); skills.cc says which.
#ifndef ROBOT_LOOP_EXECUTOR_H_
#define ROBOT_LOOP_EXECUTOR_H_

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "journal.h"
#include "plan.h"
#include "robot.h"
#include "route.h"
#include "world.h"

// Where something is, and how near the robot must come to reach it.
struct Place {
  Rect area;
  double reach = 0.6;
  const Room* room = nullptr;  // the robot has to be in it; nullptr: anywhere
  std::string name;
};

enum class Outcome { kGoOn, kActionDone, kFailed };

struct Step {
  enum Kind { kGo, kTurn, kBack, kWait, kDo } kind = kDo;
  Place place = {};                   // kGo
  double amount = 0;                  // kTurn: radians; kBack: metres; kWait: seconds
  std::function<Outcome()> act = {};  // kDo; may Insert() steps that come next
  bool begun = false;
};

class Executor {
 public:
  Executor(World* world, Robot* robot, Journal* journal);

  // A new command was given: `return` goes back to where the robot is now.
  void Begin() { origin_ = robot_->at(); }
  void Add(Action action) { actions_.push_back(std::move(action)); }
  // One tick of work: begins or continues a step.
  void Tick(double now);
  bool Idle() const { return actions_.empty() && steps_.empty(); }
  int done() const { return done_; }
  int failed() const { return failed_; }

  // For the skills.
  World& world() { return *world_; }
  Robot& robot() { return *robot_; }
  Point origin() const { return origin_; }
  void Insert(std::vector<Step> steps);
  void Say(const std::string& what);  // one line in the journal
  Outcome Fail(const std::string& why);
  std::vector<Thing*> Carried(const Action& action);  // what `it` or the object means among what is held
  void Guide(Person* person) { guided_ = person; }
  void DropPlan();  // `stop`

 private:
  void RunStep(double now);
  void Go(Step* step, double now);
  Door* ClosedDoorAhead();
  void EndAction(bool success);

  World* world_;
  Robot* robot_;
  Journal* journal_;
  RoutePlanner planner_;
  Point origin_;
  std::deque<Action> actions_;
  std::deque<Step> steps_;  // of actions_.front()
  double until_ = 0, now_ = 0;
  int retries_ = 0;
  Person* guided_ = nullptr;
  int done_ = 0, failed_ = 0;
};

// The steps of an action, in front of the executor's queue. kFailed if the world has nothing of the kind.
Outcome StartAction(const Action& action, Executor* executor);

#endif  // ROBOT_LOOP_EXECUTOR_H_
