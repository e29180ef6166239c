// geometry.h - points, segments and rectangles of the plane. Metres; x to the right, y down; angles in radians.
#ifndef ROBOT_LOOP_GEOMETRY_H_
#define ROBOT_LOOP_GEOMETRY_H_

#include <algorithm>
#include <cmath>
#include <numbers>

struct Point {
  double x = 0, y = 0;
};

inline Point operator+(Point a, Point b) { return {a.x + b.x, a.y + b.y}; }
inline Point operator-(Point a, Point b) { return {a.x - b.x, a.y - b.y}; }
inline Point operator*(Point a, double s) { return {a.x * s, a.y * s}; }
inline double Length(Point a) { return std::hypot(a.x, a.y); }
inline double Distance(Point a, Point b) { return Length(a - b); }
inline Point Towards(double angle) { return {std::cos(angle), std::sin(angle)}; }

// The same angle in (-pi, pi].
inline double Wrap(double angle) { return std::remainder(angle, 2 * std::numbers::pi); }

struct Rect {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
  Point Center() const { return {(x0 + x1) / 2, (y0 + y1) / 2}; }
  bool Contains(Point p) const { return p.x >= x0 && p.x <= x1 && p.y >= y0 && p.y <= y1; }
};

inline double Distance(Point p, const Rect& r) {
  return std::hypot(std::max({r.x0 - p.x, 0.0, p.x - r.x1}), std::max({r.y0 - p.y, 0.0, p.y - r.y1}));
}

struct Segment {
  Point a, b;
};

inline double Distance(Point p, const Segment& s) {
  const Point d = s.b - s.a;
  const double square = d.x * d.x + d.y * d.y;
  const double along = square > 0 ? ((p.x - s.a.x) * d.x + (p.y - s.a.y) * d.y) / square : 0;
  return Distance(p, s.a + d * std::clamp(along, 0.0, 1.0));
}

// Distance from `from` along the unit vector `direction` to the segment; infinity if it misses.
inline double RayHit(Point from, Point direction, const Segment& s) {
  const Point edge = s.b - s.a, offset = s.a - from;
  const double cross = direction.x * edge.y - direction.y * edge.x;
  if (std::abs(cross) < 1e-12) return INFINITY;
  const double distance = (offset.x * edge.y - offset.y * edge.x) / cross;
  const double along = (offset.x * direction.y - offset.y * direction.x) / cross;
  return distance >= 0 && along >= 0 && along <= 1 ? distance : INFINITY;
}

#endif  // ROBOT_LOOP_GEOMETRY_H_
