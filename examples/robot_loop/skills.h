// skills.h - what the skills share: finding what a name means in this house, and the steps they are made of.
// Private to skills.cc, skills_things.cc and places.cc.
#ifndef ROBOT_LOOP_SKILLS_H_
#define ROBOT_LOOP_SKILLS_H_

#include <optional>
#include <string>
#include <vector>

#include "executor.h"

inline constexpr double kArmSeconds = 0.8;

// ---- places.cc

std::string Spoken(std::string name);  // "living_room": "living room"
Place At(const World& world, Point p, double reach, std::string name);
Place PlaceOf(const World& world, const Fixture& fixture);
Place PlaceOf(const Door& door);
// The fixtures of this name: in `room` if given; the robot's room first, then the nearest. One, or all.
std::vector<Fixture*> FindFixtures(Executor* e, const std::string& name, const std::string& room, bool all);
Door* FindDoor(Executor* e, const std::string& name, const std::string& room);  // the nearest; nullptr: none
// The things an action names that lie somewhere, as many as it asks for; the robot's room first.
std::vector<Thing*> FindThings(Executor* e, const Action& a);
// Where a room, person, fixture, door or thing is; nullopt if there is none of this name.
std::optional<Place> Resolve(Executor* e, const std::string& name, const std::string& room);

// ---- steps

inline Step GoTo(Place place) { return {Step::kGo, std::move(place)}; }
inline Step Wait(double seconds) { return {Step::kWait, {}, seconds}; }
inline Step Turn(double degrees) { return {Step::kTurn, {}, degrees * std::numbers::pi / 180}; }
inline Step Do(std::function<Outcome()> act) { return {Step::kDo, {}, 0, std::move(act)}; }
Step Report(Executor* e, std::string line);  // writes the line in the journal
Outcome Missing(Executor* e, const std::string& name);
// Goes to `name` and then does the steps `then`.
Outcome GoAnd(Executor* e, const std::string& name, const std::string& room, std::vector<Step> then);

// ---- skills_things.cc: skills that take, move or operate something

Outcome Pick(Executor* e, const Action& a);
Outcome Drop(Executor* e, const Action& a);
Outcome PlaceThing(Executor* e, const Action& a);
Outcome Give(Executor* e, const Action& a);
Outcome Find(Executor* e, const Action& a);
Outcome Operate(Executor* e, const Action& a);  // open close lock unlock turn_on turn_off set check

#endif  // ROBOT_LOOP_SKILLS_H_
