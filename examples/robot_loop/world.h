// world.h - the house: rooms, walls, doors, furniture and devices, things that can be carried, people. Names
// are those of examples/robot_model/vocabulary.py, which are the words of the plans.
#ifndef ROBOT_LOOP_WORLD_H_
#define ROBOT_LOOP_WORLD_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "geometry.h"

struct Room {
  std::string name;
  Rect area;
};

// A gap in a wall. A closed one stops the robot until it opens it; a locked one stops it for good.
struct Door {
  std::string name;  // "door", "front_door", "back_door"
  std::string room;  // whose door it is
  Segment gap;
  bool open = true;
  bool locked = false;
  bool outer = false;  // leads out of the map: never driven through
};

// Furniture or a device.
struct Fixture {
  std::string name, room;
  Rect area;
  bool solid = true;  // an obstacle; lights, windows and what stands on furniture are not
  bool open = false, on = false, locked = false;
  std::string value = {};  // what `set` has set
};

struct Thing {
  std::string name, color, size;
  Point at;
  std::string on;  // furniture, room or person it is with
  bool carried = false;
  Point start{};  // where it was in the beginning, for the drawing
};

struct Person {
  std::string name;
  Point at;
  bool pet = false;
};

struct World {
  std::vector<Room> rooms;
  std::vector<Segment> walls;
  std::vector<Door> doors;
  std::vector<Fixture> fixtures;
  std::vector<Thing> things;
  std::vector<Person> people;
  Point charger;
  Rect bounds;

  const Room* RoomAt(Point p) const;
  const Room* FindRoom(std::string_view name) const;
  Person* FindPerson(std::string_view name);
  // Walls, doors that are closed, edges of solid furniture: what a laser sees and a robot hits.
  void Obstacles(std::vector<Segment>* out) const;
};

World MakeHouse();

#endif  // ROBOT_LOOP_WORLD_H_
