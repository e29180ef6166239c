// skills_things.cc - the skills that take, move or operate something.
#include "skills.h"

namespace {

// Puts what is held at the place that `where` gives when the robot has arrived there.
Step PutDown(Executor* e, const Action& a, std::string verb, std::string on, std::function<Point()> where) {
  return Do([e, a, verb = std::move(verb), on = std::move(on), where = std::move(where)] {
    const std::vector<Thing*> held = e->Carried(a);
    if (held.empty()) return e->Fail("the robot does not hold the " + Describe(a));
    for (size_t i = 0; i < held.size(); ++i) {
      held[i]->carried = false;
      held[i]->on = on;
      held[i]->at = where() + Point{0.12 * static_cast<double>(i), 0};
      e->Say("  " + verb + " the " + held[i]->color + (held[i]->color.empty() ? "" : " ") + held[i]->name +
             " (" + Spoken(on) + ")");
    }
    return Outcome::kGoOn;
  });
}

// open close lock unlock turn_on turn_off set check on one fixture; the line that tells of it.
std::string Change(const Action& a, Fixture* f) {
  const std::string name = "the " + Spoken(f->name) + " (" + Spoken(f->room) + ")";
  if (a.verb == "open" || a.verb == "close") f->open = a.verb == "open";
  if (a.verb == "lock" || a.verb == "unlock") f->locked = a.verb == "lock";
  if (a.verb == "turn_on" || a.verb == "turn_off") f->on = a.verb == "turn_on";
  if (a.verb == "set") f->value = a.value;
  if (a.verb == "set") return "sets " + name + " to " + a.value;
  if (a.verb != "check") return Spoken(a.verb) + ": " + name;
  return name + ": " + (f->open ? "open" : "closed") + (f->locked ? ", locked" : "") +
         (f->on ? ", on" : ", off");
}

std::string Change(const Action& a, Door* d) {
  const std::string name = "the " + Spoken(d->name) + " (" + Spoken(d->room) + ")";
  if (a.verb == "open" && d->locked) return name + " is locked";
  if (a.verb == "open" || a.verb == "close") d->open = a.verb == "open";
  if (a.verb == "lock") d->open = false;
  if (a.verb == "lock" || a.verb == "unlock") d->locked = a.verb == "lock";
  if (a.verb != "check") return Spoken(a.verb) + ": " + name;
  return name + ": " + (d->open ? "open" : "closed") + (d->locked ? ", locked" : "");
}

}  // namespace

Outcome Pick(Executor* e, const Action& a) {
  if (a.object == "it" || !e->Carried(a).empty()) return Outcome::kGoOn;  // it has it already
  const std::vector<Thing*> things = FindThings(e, a);
  if (things.empty())
    return e->Fail("there is no " + Describe(a) + (a.from.empty() ? "" : " with the " + Spoken(a.from)) +
                   " in this house");
  std::vector<Step> steps;
  for (Thing* thing : things) {
    steps.push_back(GoTo(At(e->world(), thing->at, 0.85, "the " + Describe(a))));
    steps.push_back(Wait(kArmSeconds));
    steps.push_back(Do([e, thing] {
      e->Say("  takes the " + thing->color + (thing->color.empty() ? "" : " ") + thing->name + " (" +
             Spoken(thing->on) + ")");
      thing->carried = true;
      thing->on = "robot";
      return Outcome::kGoOn;
    }));
  }
  e->Insert(std::move(steps));
  return Outcome::kGoOn;
}

Outcome Drop(Executor* e, const Action& a) {
  const Room* room = e->world().RoomAt(e->robot().at());
  e->Insert({Wait(kArmSeconds), PutDown(e, a, "drops", room == nullptr ? "floor" : room->name, [e] {
               return e->robot().at() + Towards(e->robot().heading()) * 0.35;
             })});
  return Outcome::kGoOn;
}

Outcome PlaceThing(Executor* e, const Action& a) {
  if (e->world().FindRoom(a.target) != nullptr)
    return GoAnd(e, a.target, "", {Wait(kArmSeconds), PutDown(e, a, "puts down", a.target, [e] {
                                     return e->robot().at() + Towards(e->robot().heading()) * 0.4;
                                   })});
  const auto fixtures = FindFixtures(e, a.target, a.room, false);
  if (fixtures.empty()) return Missing(e, a.target);
  const Rect area = fixtures[0]->area;
  e->Insert({GoTo(PlaceOf(e->world(), *fixtures[0])), Wait(kArmSeconds),
             PutDown(e, a, "puts " + Spoken(a.relation) + " the " + Spoken(a.target), a.target, [e, area] {
               const Point p = e->robot().at();  // the nearest part of the furniture
               return Point{std::clamp(p.x, area.x0 + 0.1, area.x1 - 0.1),
                            std::clamp(p.y, area.y0 + 0.1, area.y1 - 0.1)};
             })});
  return Outcome::kGoOn;
}

Outcome Give(Executor* e, const Action& a) {
  Person* person = e->world().FindPerson(a.to);
  if (person == nullptr) return e->Fail("nobody called " + a.to + " is in this house");
  return GoAnd(e, a.to, "",
               {Wait(kArmSeconds),
                PutDown(e, a, "gives " + (a.to == "user" ? std::string("you") : a.to), a.to, [person] {
                  return person->at + Point{0.15, 0.1};
                })});
}

// Goes from room to room until the thing or person is in the same room and in sight.
Outcome Find(Executor* e, const Action& a) {
  if (!a.object.empty() && !e->Carried(a).empty()) return Outcome::kGoOn;
  std::vector<const Room*> rooms;
  for (const Room& room : e->world().rooms)
    if (a.room.empty() || room.name == a.room) rooms.push_back(&room);
  const Point at = e->robot().at();
  const Room* here = e->world().RoomAt(at);
  std::sort(rooms.begin(), rooms.end(), [&](const Room* x, const Room* y) {
    return (x != here) + Distance(at, x->area.Center()) / 100 <
           (y != here) + Distance(at, y->area.Center()) / 100;
  });
  const auto look = [e, a] {
    std::vector<Point> spots;
    if (const Person* person = e->world().FindPerson(a.target)) spots.push_back(person->at);
    for (const Thing* thing : FindThings(e, a)) spots.push_back(thing->at);
    for (const Point spot : spots)
      if (e->world().RoomAt(spot) == e->world().RoomAt(e->robot().at())) {
        e->Say("  found the " + Describe(a) + " in the " + Spoken(e->world().RoomAt(spot)->name));
        return Outcome::kActionDone;
      }
    return Outcome::kGoOn;
  };
  std::vector<Step> steps{Do(look)};
  for (const Room* room : rooms) {
    if (room == here) continue;
    steps.push_back(GoTo(*Resolve(e, room->name, "")));
    steps.push_back(Do(look));
  }
  steps.push_back(Do([e, a] { return e->Fail("found no " + Describe(a)); }));
  e->Insert(std::move(steps));
  return Outcome::kGoOn;
}

Outcome Operate(Executor* e, const Action& a) {
  std::vector<Step> steps;
  for (Fixture* f : FindFixtures(e, a.target, a.room, a.all)) {
    steps.push_back(GoTo(PlaceOf(e->world(), *f)));
    steps.push_back(Wait(kArmSeconds));
    steps.push_back(Do([e, a, f] { return e->Say("  " + Change(a, f)), Outcome::kGoOn; }));
  }
  if (Door* d = steps.empty() ? FindDoor(e, a.target, a.room) : nullptr) {
    steps.push_back(GoTo(PlaceOf(*d)));
    steps.push_back(Wait(kArmSeconds));
    steps.push_back(Do([e, a, d] { return e->Say("  " + Change(a, d)), Outcome::kGoOn; }));
  }
  if (steps.empty()) return Missing(e, a.target);
  e->Insert(std::move(steps));
  return Outcome::kGoOn;
}
