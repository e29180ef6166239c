// places.cc - what the names in a plan mean in this house.
#include "skills.h"

namespace {

bool Matches(const Thing& thing, const Action& a) {
  return thing.name == a.object && (a.color.empty() || thing.color == a.color) &&
         (a.size.empty() || thing.size == a.size);
}

}  // namespace

std::string Spoken(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

Place At(const World& world, Point p, double reach, std::string name) {
  return {{p.x, p.y, p.x, p.y}, reach, world.RoomAt(p), std::move(name)};
}

// The fixtures of this name: in `room` if given, else those of the robot's room, else all, nearest first.
std::vector<Fixture*> FindFixtures(Executor* e, const std::string& name, const std::string& room, bool all) {
  std::vector<Fixture*> found;
  for (Fixture& f : e->world().fixtures)
    if (f.name == name && (room.empty() || f.room == room)) found.push_back(&f);
  const Room* here = e->world().RoomAt(e->robot().at());
  const auto distance = [&](const Fixture* f) {
    return Distance(e->robot().at(), f->area) + (here != nullptr && f->room == here->name ? 0 : 100);
  };
  std::sort(found.begin(), found.end(), [&](Fixture* a, Fixture* b) { return distance(a) < distance(b); });
  if (!all && found.size() > 1) found.resize(1);
  return found;
}

Door* FindDoor(Executor* e, const std::string& name, const std::string& room) {
  Door* best = nullptr;
  for (Door& door : e->world().doors) {
    if (door.name != name || (!room.empty() && door.room != room)) continue;
    if (best == nullptr || Distance(e->robot().at(), door.gap) < Distance(e->robot().at(), best->gap))
      best = &door;
  }
  return best;
}

Place PlaceOf(const World& world, const Fixture& f) {
  return {f.area, f.solid ? 0.5 : 0.9, world.FindRoom(f.room), "the " + Spoken(f.name)};
}

Place PlaceOf(const Door& door) {
  const Segment& g = door.gap;
  return {{std::min(g.a.x, g.b.x), std::min(g.a.y, g.b.y), std::max(g.a.x, g.b.x), std::max(g.a.y, g.b.y)},
          0.6,
          nullptr,
          "the " + Spoken(door.name)};
}

// The things an action names that lie somewhere, nearest first, as many as it asks for.
std::vector<Thing*> FindThings(Executor* e, const Action& a) {
  std::vector<Thing*> found;
  for (Thing& thing : e->world().things)
    if (Matches(thing, a) && !thing.carried && (a.from.empty() || thing.on == a.from)) found.push_back(&thing);
  const Room* here = e->world().RoomAt(e->robot().at());
  const auto distance = [&](const Thing* t) {
    return Distance(e->robot().at(), t->at) + (e->world().RoomAt(t->at) == here ? 0 : 100);
  };
  std::sort(found.begin(), found.end(), [&](Thing* x, Thing* y) { return distance(x) < distance(y); });
  const size_t wanted = a.all ? found.size() : a.count > 0 ? static_cast<size_t>(a.count) : 1;
  if (found.size() > wanted) found.resize(wanted);
  return found;
}

// Where a name of any kind is.
std::optional<Place> Resolve(Executor* e, const std::string& name, const std::string& room) {
  World& world = e->world();
  if (const Room* r = world.FindRoom(name))
    return Place{{r->area.Center().x, r->area.Center().y, r->area.Center().x, r->area.Center().y},
                 0.9,
                 r,
                 "the " + Spoken(name)};
  if (Person* p = world.FindPerson(name)) return At(world, p->at, 0.75, p->name == "user" ? "you" : p->name);
  if (const auto fixtures = FindFixtures(e, name, room, false); !fixtures.empty())
    return PlaceOf(world, *fixtures[0]);
  if (Door* door = FindDoor(e, name, room)) return PlaceOf(*door);
  Action thing;
  thing.object = name;
  if (const auto things = FindThings(e, thing); !things.empty())
    return At(world, things[0]->at, 0.75, "the " + Spoken(name));
  return std::nullopt;
}

Outcome Missing(Executor* e, const std::string& name) {
  return e->Fail("there is no " + Spoken(name) + " in this house");
}

// Goes to `name` and then does `act`.
Outcome GoAnd(Executor* e, const std::string& name, const std::string& room, std::vector<Step> then) {
  const std::optional<Place> place = Resolve(e, name, room);
  if (!place) return Missing(e, name);
  std::vector<Step> steps{GoTo(*place)};
  for (Step& step : then) steps.push_back(std::move(step));
  e->Insert(std::move(steps));
  return Outcome::kGoOn;
}

Step Report(Executor* e, std::string line) {
  return Do([e, line = std::move(line)] {
    e->Say("  " + line);
    return Outcome::kGoOn;
  });
}
