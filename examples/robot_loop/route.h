// route.h - shortest ways through the house: A* over a grid of 10 cm cells, straightened afterwards. Memory is
// taken once, when the planner is made.
#ifndef ROBOT_LOOP_ROUTE_H_
#define ROBOT_LOOP_ROUTE_H_

#include <cstdint>
#include <vector>

#include "world.h"

class RoutePlanner {
 public:
  // clearance: how near the centre of the robot may come to an obstacle.
  RoutePlanner(const World& world, double clearance);

  // The way from `from` to the nearest free place of `room` that is at most `reach` from `target`. Closed doors
  // count as open, locked ones as walls. False if there is no way.
  bool Find(const World& world, Point from, const Rect& target, double reach, const Room* room,
            std::vector<Point>* way);

 private:
  struct Cell {
    float cost;
    int32_t parent;
    uint32_t round;  // the Find that wrote this cell
    bool done;
  };
  struct Open {
    float estimate;
    int32_t cell;
    bool operator<(const Open& other) const { return estimate > other.estimate; }
  };

  Point CenterOf(int32_t cell) const;
  int32_t CellAt(Point p) const;
  bool Blocked(int32_t cell) const { return blocked_[static_cast<size_t>(cell)] != 0; }
  // Nothing blocked on the straight line.
  bool Free(Point a, Point b) const;
  void Mark(const World& world);
  void Straighten(std::vector<Point>* way) const;

  double clearance_;
  Rect bounds_;
  int width_, height_;
  std::vector<double> distance_;  // per cell, to the nearest wall or furniture
  std::vector<uint8_t> blocked_;
  std::vector<Cell> cells_;
  std::vector<Open> open_;
  uint32_t round_ = 0;
};

#endif  // ROBOT_LOOP_ROUTE_H_
