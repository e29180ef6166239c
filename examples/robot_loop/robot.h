// robot.h - the body: a differential drive that follows a way, a laser scanner, and the check that it hits
// nothing. Step() is the work of one tick of the control loop. It knows nothing of plans.
#ifndef ROBOT_LOOP_ROBOT_H_
#define ROBOT_LOOP_ROBOT_H_

#include <array>
#include <vector>

#include "world.h"

inline constexpr double kTick = 0.01;         // seconds
inline constexpr double kRobotRadius = 0.24;  // metres

enum class Motion { kIdle, kMoving, kBlocked };

class Robot {
 public:
  Robot(Point at, double heading) : at_(at), heading_(heading) {}

  // One tick: scan, steer, check the path of the next 0.4 s against everything, move.
  void Step(const World& world);

  void Follow(const std::vector<Point>& corners);      // drives along the straight lines between them
  void Turn(double radians) { turn_left_ = radians; }  // on the spot, clockwise
  void Back(double metres);                            // straight back
  void Halt();

  Motion motion() const { return motion_; }
  Point at() const { return at_; }
  double heading() const { return heading_; }
  bool Turning() const { return turn_left_ != 0; }
  // Metres to the nearest thing seen within 60 degrees of straight ahead.
  double Clearance() const;
  // True if a straight line to p meets no obstacle.
  bool Sees(Point p) const;
  double driven() const { return driven_; }
  int collisions() const { return collisions_; }  // ticks in which the body overlapped an obstacle

 private:
  static constexpr int kRays = 180;
  struct Wish {
    double speed = 0, spin = 0;
  };

  void Scan();
  Wish Steer(Point at, double heading, size_t* next) const;
  bool WouldHit(double share) const;
  bool Overlaps(Point p, double radius) const;

  Point at_;
  double heading_, speed_ = 0, spin_ = 0;
  Motion motion_ = Motion::kIdle;
  std::vector<Point> way_;
  size_t next_ = 0;
  double turn_left_ = 0, back_left_ = 0;
  double driven_ = 0;
  int collisions_ = 0, blocked_ticks_ = 0;
  std::vector<Segment> obstacles_;
  std::array<double, kRays> ranges_{};
};

#endif  // ROBOT_LOOP_ROBOT_H_
