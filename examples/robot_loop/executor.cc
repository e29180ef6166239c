#include "executor.h"

namespace {
constexpr double kDoorSeconds = 1.0;  // to open a door in the way
constexpr int kRetries = 5;           // new ways to try when something is in the way
}  // namespace

Executor::Executor(World* world, Robot* robot, Journal* journal)
    : world_(world),
      robot_(robot),
      journal_(journal),
      planner_(*world, kRobotRadius + 0.08),
      origin_(robot->at()) {}

void Executor::Insert(std::vector<Step> steps) {
  steps_.insert(steps_.begin(), std::make_move_iterator(steps.begin()), std::make_move_iterator(steps.end()));
}

void Executor::Say(const std::string& what) {
  char time[32];
  std::snprintf(time, sizeof time, "%7.2f s  ", now_);
  journal_->Write(time + what);
}

Outcome Executor::Fail(const std::string& why) {
  Say("  cannot: " + why);
  return Outcome::kFailed;
}

void Executor::DropPlan() {
  robot_->Halt();
  if (actions_.size() > 1) actions_.erase(actions_.begin() + 1, actions_.end());
}

std::vector<Thing*> Executor::Carried(const Action& action) {
  std::vector<Thing*> held;
  for (Thing& thing : world_->things) {
    const bool same = action.object == "it" ||
                      (thing.name == action.object && (action.color.empty() || thing.color == action.color));
    if (thing.carried && same) held.push_back(&thing);
  }
  return held;
}

void Executor::EndAction(bool success) {
  steps_.clear();
  robot_->Halt();
  guided_ = nullptr;
  ++(success ? done_ : failed_);
  if (success) {
    actions_.pop_front();
  } else {
    actions_.clear();  // the rest of the plan builds on it
  }
}

Door* Executor::ClosedDoorAhead() {
  for (Door& door : world_->doors)
    if (!door.open && !door.locked && !door.outer && Distance(robot_->at(), door.gap) < 0.9) return &door;
  return nullptr;
}

// Drives to the step's place; opens doors in the way; tries another way when it is blocked.
void Executor::Go(Step* step, double now) {
  if (!step->begun) {
    step->begun = true;
    std::vector<Point> way;
    if (!planner_.Find(*world_, robot_->at(), step->place.area, step->place.reach, step->place.room, &way)) {
      Fail("no way to " + step->place.name);
      EndAction(false);
      return;
    }
    robot_->Follow(way);
    return;
  }
  if (robot_->motion() == Motion::kMoving) return;
  if (robot_->motion() == Motion::kIdle) {
    retries_ = 0;
    steps_.pop_front();
    return;
  }
  if (++retries_ > kRetries) {
    Fail("the way to " + step->place.name + " is blocked");
    retries_ = 0;
    EndAction(false);
    return;
  }
  robot_->Halt();
  step->begun = false;
  if (Door* door = ClosedDoorAhead()) {
    until_ = now + kDoorSeconds;
    Insert({{Step::kWait, {}, kDoorSeconds}, {Step::kDo, {}, 0, [this, door] {
                                                door->open = true;
                                                Say("  opens the door of the " + door->room);
                                                return Outcome::kGoOn;
                                              }}});
  }
}

void Executor::RunStep(double now) {
  Step& step = steps_.front();
  switch (step.kind) {
    case Step::kGo:
      Go(&step, now);
      return;
    case Step::kTurn:
    case Step::kBack:
      if (!step.begun) {
        step.begun = true;
        step.kind == Step::kTurn ? robot_->Turn(step.amount) : robot_->Back(step.amount);
      } else if (step.kind == Step::kTurn ? !robot_->Turning() : robot_->motion() != Motion::kMoving) {
        steps_.pop_front();
      }
      return;
    case Step::kWait:
      if (!step.begun) {
        step.begun = true;
        until_ = now + step.amount;
      } else if (now >= until_) {
        steps_.pop_front();
      }
      return;
    case Step::kDo: {
      const std::function<Outcome()> act = std::move(step.act);
      steps_.pop_front();
      const Outcome outcome = act();
      if (outcome == Outcome::kFailed) EndAction(false);
      if (outcome == Outcome::kActionDone) EndAction(true);
      return;
    }
  }
}

void Executor::Tick(double now) {
  now_ = now;
  if (guided_ != nullptr && Distance(guided_->at, robot_->at()) > 0.75) {
    guided_->at = guided_->at + (robot_->at() - guided_->at) * 0.02;  // walks behind the robot
  }
  for (Thing& thing : world_->things)
    if (thing.carried) thing.at = robot_->at();
  if (!steps_.empty()) {
    RunStep(now);
    if (steps_.empty() && !actions_.empty()) EndAction(true);
    return;
  }
  if (actions_.empty()) return;
  Say("> " + actions_.front().json);
  if (StartAction(actions_.front(), this) == Outcome::kFailed) {
    EndAction(false);
  } else if (steps_.empty()) {
    EndAction(true);
  }
}
