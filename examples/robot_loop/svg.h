// svg.h - pictures of the run, as SVG: the world with the robot's path, and the histogram of tick times.
#ifndef ROBOT_LOOP_SVG_H_
#define ROBOT_LOOP_SVG_H_

#include <string>
#include <vector>

#include "ticks.h"
#include "world.h"

// One command and the part of the path that it took.
struct Trip {
  std::string command;
  std::vector<Point> path;
};

std::string DrawWorld(const World& world, Point robot, double heading, const std::vector<Trip>& trips);
std::string DrawHistogram(const TickLog& log);

#endif  // ROBOT_LOOP_SVG_H_
