#include "robot.h"

namespace {
constexpr double kMaxSpeed = 1.2, kAcceleration = 1.5;   // m/s, m/s^2
constexpr double kMaxSpin = 2.5, kSpinAcceleration = 8;  // rad/s, rad/s^2
constexpr double kLookAhead = 0.25, kArrived = 0.06;     // m
constexpr double kSpacing = 0.05;                        // m between the points of a way
constexpr double kSeconds = 0.4;                         // how far the collision check looks ahead

double Approach(double value, double goal, double step) {
  return value < goal ? std::min(goal, value + step) : std::max(goal, value - step);
}
}  // namespace

void Robot::Follow(const std::vector<Point>& corners) {
  way_.clear();
  for (size_t i = 0; i + 1 < corners.size(); ++i) {
    const double length = Distance(corners[i], corners[i + 1]);
    for (double at = 0; at < length; at += kSpacing)
      way_.push_back(corners[i] + (corners[i + 1] - corners[i]) * (at / length));
  }
  if (!corners.empty()) way_.push_back(corners.back());
  next_ = 0;
  back_left_ = turn_left_ = 0;
  blocked_ticks_ = 0;
  motion_ = Motion::kMoving;
}

void Robot::Back(double metres) {
  Halt();
  back_left_ = metres;
  motion_ = Motion::kMoving;
}

void Robot::Halt() {
  way_.clear();
  next_ = 0;
  back_left_ = turn_left_ = 0;
  motion_ = Motion::kIdle;
}

void Robot::Scan() {
  for (int i = 0; i < kRays; ++i) {
    const Point direction = Towards(heading_ + i * (2 * std::numbers::pi / kRays));
    double range = INFINITY;
    for (const Segment& s : obstacles_) range = std::min(range, RayHit(at_, direction, s));
    ranges_[static_cast<size_t>(i)] = range;
  }
}

double Robot::Clearance() const {
  double nearest = INFINITY;
  for (int i = -kRays / 6; i <= kRays / 6; ++i)
    nearest = std::min(nearest, ranges_[static_cast<size_t>((i + kRays) % kRays)]);
  return nearest;
}

bool Robot::Sees(Point p) const {
  const double distance = Distance(at_, p);
  if (distance < 1e-6) return true;
  const Point direction = (p - at_) * (1 / distance);
  for (const Segment& s : obstacles_)
    if (RayHit(at_, direction, s) < distance) return false;
  return true;
}

// Pure pursuit: steers to the point of the way that is kLookAhead further on.
Robot::Wish Robot::Steer(Point at, double heading, size_t* next) const {
  if (turn_left_ != 0) return {0, std::clamp(turn_left_ * 4, -kMaxSpin, kMaxSpin)};
  if (back_left_ > 0) return {-std::min(0.4, back_left_ * 2 + 0.05), 0};
  if (way_.empty()) return {};
  while (*next + 1 < way_.size() && Distance(at, way_[*next]) < kLookAhead) ++*next;
  const Point goal = way_[*next];
  const double left = Distance(at, goal) + kSpacing * static_cast<double>(way_.size() - 1 - *next);
  const double error = Wrap(std::atan2(goal.y - at.y, goal.x - at.x) - heading);
  Wish wish{0, std::clamp(error * 5, -kMaxSpin, kMaxSpin)};
  if (std::abs(error) < 0.7)
    wish.speed = std::min({kMaxSpeed, std::sqrt(2 * 0.7 * left), 0.3 + Clearance()}) * std::cos(error);
  return wish;
}

bool Robot::Overlaps(Point p, double radius) const {
  for (const Segment& s : obstacles_)
    if (Distance(p, s) < radius) return true;
  return false;
}

// Steers a copy of the robot for kSeconds, at a share of the speed that is wanted.
bool Robot::WouldHit(double share) const {
  constexpr double kStep = 0.05;
  Point p = at_;
  double angle = heading_;
  size_t next = next_;
  for (double t = 0; t < kSeconds; t += kStep) {
    const Wish wish = Steer(p, angle, &next);
    angle += wish.spin * kStep;
    p = p + Towards(angle) * (wish.speed * share * kStep);
    // Nearer than now: a robot that stands too near to something may still drive away from it.
    for (const Segment& s : obstacles_) {
      const double distance = Distance(p, s);
      if (distance < kRobotRadius + 0.01 && distance < Distance(at_, s)) return true;
    }
  }
  return false;
}

void Robot::Step(const World& world) {
  world.Obstacles(&obstacles_);
  Scan();
  Wish wish = Steer(at_, heading_, &next_);
  if (wish.speed != 0 && WouldHit(1)) wish.speed = WouldHit(0.25) ? 0 : wish.speed * 0.25;
  const bool stuck = motion_ == Motion::kMoving && wish.speed == 0 && std::abs(wish.spin) < 0.3;
  blocked_ticks_ = stuck ? blocked_ticks_ + 1 : 0;
  if (blocked_ticks_ > 20) motion_ = Motion::kBlocked;

  speed_ = wish.speed == 0 ? 0 : Approach(speed_, wish.speed, kAcceleration * kTick);
  spin_ = Approach(spin_, wish.spin, kSpinAcceleration * kTick);
  const double angle = spin_ * kTick;
  heading_ = Wrap(heading_ + angle);
  at_ = at_ + Towards(heading_) * (speed_ * kTick);
  driven_ += std::abs(speed_) * kTick;
  if (Overlaps(at_, kRobotRadius - 0.02)) ++collisions_;

  if (turn_left_ != 0) {
    turn_left_ -= angle;
    if (std::abs(turn_left_) < 0.01) turn_left_ = 0;
  }
  if (back_left_ > 0) {
    back_left_ -= std::abs(speed_) * kTick;
    if (back_left_ <= 0) Halt();
  }
  if (!way_.empty() && Distance(at_, way_.back()) < kArrived) Halt();
}
