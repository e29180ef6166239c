#include "world.h"

namespace {

// A straight wall without the doors that lie in it. Walls are horizontal or vertical.
void AddWall(Point from, Point to, World* world) {
  const Point direction = (to - from) * (1 / Distance(from, to));
  const auto along = [&](Point p) { return (p.x - from.x) * direction.x + (p.y - from.y) * direction.y; };
  std::vector<std::pair<double, double>> gaps;
  for (const Door& door : world->doors) {
    if (Distance(door.gap.a, Segment{from, to}) > 0.01 || Distance(door.gap.b, Segment{from, to}) > 0.01)
      continue;
    gaps.emplace_back(along(door.gap.a), along(door.gap.b));
  }
  std::sort(gaps.begin(), gaps.end());
  double begin = 0;
  for (const auto& [start, end] : gaps) {
    world->walls.push_back({from + direction * begin, from + direction * start});
    begin = end;
  }
  world->walls.push_back({from + direction * begin, to});
}

std::vector<Fixture> Furniture() {
  return {
      {"counter", "kitchen", {0.1, 0.1, 2.5, 0.7}},
      {"stove", "kitchen", {2.6, 0.1, 3.4, 0.7}},
      {"fridge", "kitchen", {0.1, 1.2, 0.75, 2.0}},
      {"table", "kitchen", {1.7, 1.6, 2.9, 2.3}},
      {"trash_can", "kitchen", {3.9, 3.2, 4.25, 3.55}},
      {"tv", "living_room", {5.4, 0.1, 6.8, 0.35}},
      {"shelf", "living_room", {7.3, 0.1, 9.0, 0.45}},
      {"coffee_table", "living_room", {6.6, 1.5, 7.4, 2.2}},
      {"sofa", "living_room", {8.6, 1.2, 9.4, 3.0}},
      {"closet", "bedroom", {9.65, 0.1, 10.3, 1.6}},
      {"nightstand", "bedroom", {11.2, 0.1, 11.65, 0.55}},
      {"bed", "bedroom", {11.75, 0.1, 13.9, 1.8}},
      {"dresser", "bedroom", {13.35, 2.3, 13.9, 3.5}},
      {"desk", "office", {0.1, 8.1, 2.2, 8.8}},
      {"chair", "office", {0.9, 7.4, 1.4, 7.85}},
      {"cabinet", "office", {3.35, 6.9, 3.9, 8.8}},
      {"bathtub", "bathroom", {4.1, 8.0, 6.4, 8.9}},
      {"sink", "bathroom", {5.95, 6.1, 6.4, 6.8}},
      {"washing_machine", "bathroom", {4.1, 6.5, 4.7, 7.15}},
      {"bench", "entrance", {6.6, 6.3, 7.0, 7.8}},
      {"mailbox", "entrance", {8.6, 8.5, 8.9, 8.85}},
      {"workbench", "garage", {9.6, 8.3, 12.4, 8.9}},
      {"toolbox", "garage", {12.9, 8.4, 13.5, 8.8}},
      {"cart", "garage", {9.15, 6.2, 9.75, 7.1}},
  };
}

// What can be switched or opened and stands in nobody's way.
std::vector<Fixture> Devices() {
  std::vector<Fixture> devices;
  const auto add = [&](const char* name, const char* room, Point at, bool on) {
    devices.push_back(
        {name, room, {at.x - 0.1, at.y - 0.1, at.x + 0.1, at.y + 0.1}, false, false, on, false, {}});
  };
  add("light", "kitchen", {2.2, 2.9}, true);
  add("light", "living_room", {6.0, 2.6}, true);
  add("light", "bedroom", {11.2, 2.4}, true);
  add("light", "hallway", {7.0, 4.5}, true);
  add("light", "office", {2.3, 6.4}, false);
  add("light", "garage", {11.6, 6.6}, true);
  add("lamp", "office", {2.0, 8.3}, false);
  add("computer", "office", {0.9, 8.5}, true);
  add("printer", "office", {3.6, 7.2}, false);
  add("radio", "living_room", {8.6, 0.3}, false);
  add("heater", "bedroom", {13.8, 2.1}, true);
  add("window", "kitchen", {3.9, 0.1}, false);
  add("window", "living_room", {5.0, 0.1}, false);
  add("window", "bedroom", {10.7, 0.1}, false);
  add("curtains", "bedroom", {10.7, 0.2}, false);
  add("window", "office", {0.1, 6.4}, false);
  return devices;
}

std::vector<Thing> Things() {
  return {
      {"cup", "red", "", {1.1, 0.45}, "counter"},
      {"cup", "blue", "", {2.1, 1.9}, "table"},
      {"plate", "white", "", {2.5, 2.0}, "table"},
      {"apple", "green", "", {1.8, 0.4}, "counter"},
      {"milk", "white", "", {0.45, 1.6}, "fridge"},
      {"book", "blue", "", {1.5, 8.4}, "desk"},
      {"book", "red", "", {7.7, 0.28}, "shelf"},
      {"ball", "orange", "", {5.2, 3.0}, "living_room"},
      {"remote", "black", "", {7.0, 1.8}, "coffee_table"},
      {"phone", "black", "", {11.4, 0.35}, "nightstand"},
      {"blanket", "yellow", "big", {12.6, 1.4}, "bed"},
      {"glasses", "", "", {13.6, 2.8}, "dresser"},
      {"hammer", "gray", "", {11.2, 8.6}, "workbench"},
      {"screwdriver", "yellow", "small", {10.2, 8.55}, "workbench"},
      {"umbrella", "purple", "", {6.8, 6.6}, "bench"},
      {"letter", "white", "", {8.75, 8.65}, "mailbox"},
      {"towel", "green", "", {4.4, 6.8}, "washing_machine"},
  };
}

}  // namespace

World MakeHouse() {
  World world;
  world.bounds = {0, 0, 14, 9};
  world.rooms = {{"kitchen", {0, 0, 4.5, 3.8}},  {"living_room", {4.5, 0, 9.5, 3.8}},
                 {"bedroom", {9.5, 0, 14, 3.8}}, {"hallway", {0, 3.8, 14, 5.2}},
                 {"office", {0, 5.2, 4, 9}},     {"bathroom", {4, 5.2, 6.5, 9}},
                 {"entrance", {6.5, 5.2, 9, 9}}, {"garage", {9, 5.2, 14, 9}}};
  world.doors = {{"door", "kitchen", {{2.9, 3.8}, {3.9, 3.8}}},
                 {"door", "living_room", {{6.9, 3.8}, {8.1, 3.8}}},
                 {"door", "bedroom", {{10.8, 3.8}, {11.8, 3.8}}, false},
                 {"door", "office", {{1.6, 5.2}, {2.6, 5.2}}},
                 {"door", "bathroom", {{4.9, 5.2}, {5.8, 5.2}}, false},
                 {"door", "entrance", {{7.3, 5.2}, {8.5, 5.2}}},
                 {"door", "garage", {{10.2, 5.2}, {11.4, 5.2}}},
                 {"door", "kitchen", {{4.5, 1.6}, {4.5, 2.6}}},
                 {"front_door", "entrance", {{7.2, 9}, {8.2, 9}}, false, false, true},
                 {"back_door", "garage", {{14, 6.6}, {14, 7.6}}, false, true, true}};
  AddWall({0, 0}, {14, 0}, &world);
  AddWall({0, 9}, {14, 9}, &world);
  AddWall({0, 0}, {0, 9}, &world);
  AddWall({14, 0}, {14, 9}, &world);
  AddWall({0, 3.8}, {14, 3.8}, &world);
  AddWall({0, 5.2}, {14, 5.2}, &world);
  for (double x : {4.5, 9.5}) AddWall({x, 0}, {x, 3.8}, &world);
  for (double x : {4.0, 6.5, 9.0}) AddWall({x, 5.2}, {x, 9}, &world);
  world.fixtures = Furniture();
  for (Fixture& device : Devices()) world.fixtures.push_back(std::move(device));
  world.things = Things();
  for (Thing& thing : world.things) thing.start = thing.at;
  world.people = {{"user", {8.2, 2.4}},
                  {"anna", {3.7, 1.2}},
                  {"grandma", {12.3, 2.9}},
                  {"dad", {12.7, 7.4}},
                  {"cat", {2.6, 7.0}, true}};
  world.charger = {13.4, 5.75};
  return world;
}

const Room* World::RoomAt(Point p) const {
  for (const Room& room : rooms)
    if (room.area.Contains(p)) return &room;
  return nullptr;
}

const Room* World::FindRoom(std::string_view name) const {
  for (const Room& room : rooms)
    if (room.name == name) return &room;
  return nullptr;
}

Person* World::FindPerson(std::string_view name) {
  for (Person& person : people)
    if (person.name == name) return &person;
  return nullptr;
}

void World::Obstacles(std::vector<Segment>* out) const {
  out->assign(walls.begin(), walls.end());
  for (const Door& door : doors)
    if (!door.open || door.outer) out->push_back(door.gap);
  for (const Fixture& f : fixtures) {
    if (!f.solid) continue;
    const Point corner[4] = {
        {f.area.x0, f.area.y0}, {f.area.x1, f.area.y0}, {f.area.x1, f.area.y1}, {f.area.x0, f.area.y1}};
    for (int i = 0; i < 4; ++i) out->push_back({corner[i], corner[(i + 1) % 4]});
  }
}
