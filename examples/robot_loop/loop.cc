#include "loop.h"

#include "realtime.h"

namespace {

constexpr int64_t kBlock = 100;  // ticks
constexpr int64_t kLeastBudget = 100'000;
constexpr int64_t kRuntime = 9'400'000;  // of each period: what the own work, a poll and its overrun may take

}  // namespace

ControlLoop::ControlLoop(const LoopOptions& options, Mind* mind, Journal* journal)
    : options_(options),
      mind_(mind),
      journal_(journal),
      world_(MakeHouse()),
      robot_({7.6, 2.9}, std::numbers::pi / 2),
      executor_(&world_, &robot_, journal),
      log_(static_cast<size_t>(options.ticks > 0 ? 2 * options.ticks : kLongest)) {
  trips_.reserve(options_.commands.size());
  actions_.reserve(64);
}

bool ControlLoop::Done(int64_t tick) const {
  if (options_.ticks > 0) return tick >= options_.ticks * (options_.baseline ? 2 : 1);
  return tick >= kLongest || (next_command_ == options_.commands.size() && !waiting_);
}

// Everything the robot would do without a language model: planning, steering, scanning, not hitting anything.
void ControlLoop::OwnWork(int64_t tick) {
  executor_.Tick(static_cast<double>(tick) * kTick);
  robot_.Step(world_);
  if (!trips_.empty() && tick % 5 == 0 && trips_.back().path.size() < trips_.back().path.capacity())
    trips_.back().path.push_back(robot_.at());
  if (waiting_ && !mind_->thinking() && executor_.Idle()) {
    waiting_ = false;
    ++commands_done_;
  }
}

void ControlLoop::Think(int64_t release, Tick* record) {
  const int64_t start = NowNs(), cpu = NowNs(CLOCK_THREAD_CPUTIME_ID);
  record->budget =
      options_.fast ? kPeriodNs - options_.reserve_ns : release + kPeriodNs - options_.reserve_ns - start;
  if (record->budget < kLeastBudget) return;
  if (!waiting_ && next_command_ < options_.commands.size()) {
    const std::string& command = options_.commands[next_command_++];
    executor_.Begin();
    trips_.push_back({command, {}});
    trips_.back().path.reserve(8192);
    journal_->Write("command: " + command);
    mind_->Ask(command);
    waiting_ = true;
  }
  const bool thought = mind_->thinking();
  mind_->Poll(std::chrono::nanoseconds(record->budget), &actions_);
  for (Action& action : actions_) executor_.Add(std::move(action));
  actions_.clear();
  if (thought && !mind_->thinking() && !mind_->error().empty())
    journal_->Write("no plan: " + mind_->error() + ": " + mind_->text());
  record->polled = true;
  record->poll_wall = NowNs() - start;
  record->poll_cpu = NowNs(CLOCK_THREAD_CPUTIME_ID) - cpu;
}

std::string ControlLoop::Prepare(std::optional<Witness>* witness) const {
  if (options_.fast) return "normal; --fast: times mean nothing";
  witness->emplace(options_.realtime);  // before: a SCHED_DEADLINE thread may not make others
  if (!options_.realtime) return "normal";
  return AskForRealtime(kRuntime, kPeriodNs, 50) + ", " + LockMemory();
}

void ControlLoop::Run() {
  std::optional<Witness> witness;
  journal_->Write("priority: " + Prepare(&witness));
  const int64_t start = NowNs() + 2 * kPeriodNs;
  Tick before;
  for (int64_t tick = 0; !Done(tick); ++tick) {
    Tick record;
    int64_t release = start + tick * kPeriodNs;
    if (options_.fast)
      release = NowNs();
    else
      SleepUntil(release);
    const int64_t woke = NowNs(), cpu = NowNs(CLOCK_THREAD_CPUTIME_ID);
    OwnWork(tick);
    const int64_t done = NowNs();
    record.own_cpu = NowNs(CLOCK_THREAD_CPUTIME_ID) - cpu;
    record.late = woke - release;
    record.own_wall = done - woke;
    record.response = done - release;
    record.from = before.polled ? before.done : release;
    record.done = done;
    if (before.polled) record.carried_cpu = std::max<int64_t>(0, before.poll_cpu - before.budget);
    const bool thinks = !options_.baseline || tick / kBlock % 2 == 1;
    record.inference = thinks || before.polled;
    if (thinks) Think(release, &record);
    log_.Add(record);
    before = record;
  }
  if (!witness) return;
  BackToNormal();
  witness->Stop();
  log_.Hear(witness->stalls());
  stalls_ = witness->stalls();
}
