#include "route.h"

namespace {
constexpr double kCell = 0.1;
constexpr int kStep[8][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}, {1, 1}, {1, -1}, {-1, 1}, {-1, -1}};
}  // namespace

RoutePlanner::RoutePlanner(const World& world, double clearance)
    : clearance_(clearance),
      bounds_(world.bounds),
      width_(static_cast<int>(std::lround((bounds_.x1 - bounds_.x0) / kCell))),
      height_(static_cast<int>(std::lround((bounds_.y1 - bounds_.y0) / kCell))) {
  const size_t count = static_cast<size_t>(width_) * static_cast<size_t>(height_);
  distance_.assign(count, INFINITY);
  blocked_.assign(count, 0);
  cells_.assign(count, {});
  open_.reserve(count * 8);
  for (size_t i = 0; i < count; ++i) {
    const Point p = CenterOf(static_cast<int32_t>(i));
    for (const Segment& wall : world.walls) distance_[i] = std::min(distance_[i], Distance(p, wall));
    for (const Fixture& f : world.fixtures)
      if (f.solid) distance_[i] = std::min(distance_[i], Distance(p, f.area));
    for (const Door& door : world.doors)
      if (door.outer) distance_[i] = std::min(distance_[i], Distance(p, door.gap));
  }
}

Point RoutePlanner::CenterOf(int32_t cell) const {
  return {bounds_.x0 + (cell % width_ + 0.5) * kCell, bounds_.y0 + (cell / width_ + 0.5) * kCell};
}

int32_t RoutePlanner::CellAt(Point p) const {
  const int x = std::clamp(static_cast<int>((p.x - bounds_.x0) / kCell), 0, width_ - 1);
  const int y = std::clamp(static_cast<int>((p.y - bounds_.y0) / kCell), 0, height_ - 1);
  return y * width_ + x;
}

void RoutePlanner::Mark(const World& world) {
  for (size_t i = 0; i < blocked_.size(); ++i) blocked_[i] = distance_[i] < clearance_;
  for (const Door& door : world.doors) {
    if (!door.locked || door.outer) continue;
    for (size_t i = 0; i < blocked_.size(); ++i)
      if (Distance(CenterOf(static_cast<int32_t>(i)), door.gap) < clearance_) blocked_[i] = 1;
  }
  for (const Person& person : world.people) {
    if (person.pet) continue;
    for (size_t i = 0; i < blocked_.size(); ++i)
      if (Distance(CenterOf(static_cast<int32_t>(i)), person.at) < clearance_ + 0.2) blocked_[i] = 1;
  }
}

bool RoutePlanner::Free(Point a, Point b) const {
  const int steps = static_cast<int>(Distance(a, b) / (kCell / 2)) + 1;
  for (int i = 0; i <= steps; ++i)
    if (Blocked(CellAt(a + (b - a) * (static_cast<double>(i) / steps)))) return false;
  return true;
}

// Drops each corner that the one after it can be reached without.
void RoutePlanner::Straighten(std::vector<Point>* way) const {
  size_t kept = 0;
  for (size_t i = 1; i + 1 < way->size(); ++i)
    if (!Free((*way)[kept], (*way)[i + 1])) (*way)[++kept] = (*way)[i];
  if (way->size() > 1) {
    (*way)[kept + 1] = way->back();
    way->resize(kept + 2);
  }
}

bool RoutePlanner::Find(const World& world, Point from, const Rect& target, double reach, const Room* room,
                        std::vector<Point>* way) {
  Mark(world);
  ++round_;
  open_.clear();
  way->clear();
  const auto visit = [&](int32_t cell, float cost, int32_t parent) {
    Cell& c = cells_[static_cast<size_t>(cell)];
    if (c.round == round_ && (c.done || c.cost <= cost)) return;
    c = {cost, parent, round_, false};
    const double left = std::max(0.0, Distance(CenterOf(cell), target) - reach);
    open_.push_back({cost + static_cast<float>(left), cell});
    std::push_heap(open_.begin(), open_.end());
  };
  visit(CellAt(from), 0, -1);
  while (!open_.empty()) {
    std::pop_heap(open_.begin(), open_.end());
    const int32_t cell = open_.back().cell;
    open_.pop_back();
    Cell& c = cells_[static_cast<size_t>(cell)];
    if (c.done) continue;
    c.done = true;
    const Point p = CenterOf(cell);
    if (!Blocked(cell) && Distance(p, target) <= reach && (room == nullptr || room->area.Contains(p))) {
      for (int32_t i = cell; i >= 0; i = cells_[static_cast<size_t>(i)].parent) way->push_back(CenterOf(i));
      std::reverse(way->begin(), way->end());
      way->front() = from;
      Straighten(way);
      return true;
    }
    const int x = cell % width_, y = cell / width_;
    for (const auto& [dx, dy] : kStep) {
      if (x + dx < 0 || x + dx >= width_ || y + dy < 0 || y + dy >= height_) continue;
      const int32_t next = cell + dy * width_ + dx;
      // A robot that stands too near to something may move away from it.
      if (Blocked(next) &&
          !(Blocked(cell) && distance_[static_cast<size_t>(next)] > distance_[static_cast<size_t>(cell)]))
        continue;
      if (dx != 0 && dy != 0 && (Blocked(cell + dx) || Blocked(cell + dy * width_)) && !Blocked(cell)) continue;
      visit(next, c.cost + static_cast<float>(kCell * (dx != 0 && dy != 0 ? std::numbers::sqrt2 : 1)), cell);
    }
  }
  return false;
}
