// skills.cc - what each action of the language means in this house: a row of steps per verb.
#include "skills.h"

namespace {

constexpr double kLongestWait = 3.0;  // seconds: a demonstration does not wait half an hour

Outcome Scan(Executor* e, const Action& a) {
  const std::string target = a.target;
  std::vector<Step> steps;
  if (!target.empty()) {
    const std::optional<Place> place = Resolve(e, target, "");
    if (!place) return Missing(e, target);
    steps.push_back(GoTo(*place));
  }
  steps.push_back(Turn(359));
  steps.push_back(Do([e, target] {
    const Room* here = e->world().RoomAt(e->robot().at());
    const bool furniture = !target.empty() && e->world().FindRoom(target) == nullptr;
    std::string seen;
    for (const Person& p : e->world().people)
      if (!furniture && e->world().RoomAt(p.at) == here)
        seen += (seen.empty() ? "" : ", ") + (p.name == "user" ? "you" : p.name);
    for (const Thing& t : e->world().things)
      if (!t.carried && (furniture ? t.on == target : e->world().RoomAt(t.at) == here))
        seen += (seen.empty() ? "" : ", ") + t.color + (t.color.empty() ? "" : " ") + t.name;
    e->Say("  sees " + (seen.empty() ? "nothing and nobody" : seen));
    return Outcome::kGoOn;
  }));
  e->Insert(std::move(steps));
  return Outcome::kGoOn;
}

Outcome Move(Executor* e, const Action& a) {
  const double metres = a.meters > 0 ? a.meters : a.steps > 0 ? a.steps * 0.5 : 1;
  if (a.direction == "back") return e->Insert({{Step::kBack, {}, metres}}), Outcome::kGoOn;
  std::vector<Step> steps;
  if (a.direction == "left" || a.direction == "right") steps.push_back(Turn(a.direction == "left" ? -90 : 90));
  steps.push_back(Do([e, metres] {  // as far as there is room
    const double far = std::min(metres, e->robot().Clearance() - 0.45);
    if (far < 0.1) return e->Fail("something is in the way");
    e->Insert({GoTo(At(e->world(), e->robot().at() + Towards(e->robot().heading()) * far, 0.1, "there"))});
    return Outcome::kGoOn;
  }));
  e->Insert(std::move(steps));
  return Outcome::kGoOn;
}

Outcome Speak(Executor* e, const Action& a) {
  const std::string line = (a.verb == "ask" ? "asks " : "says ") +
                           (a.to.empty() ? "" : (a.verb == "ask" ? "" : "to ") + a.to + ": ") + "\"" + a.text +
                           "\"";
  if (a.to.empty() || a.to == "everyone") return e->Insert({Report(e, line)}), Outcome::kGoOn;
  return GoAnd(e, a.to, "", {Report(e, line)});
}

Outcome Gesture(Executor* e, const Action& a) {
  std::vector<Step> steps;
  const bool turns = a.name == "dance" || a.name == "spin";
  for (int i = 0; i < (a.count > 0 ? std::min(static_cast<int>(a.count), 5) : 1); ++i) {
    if (turns) steps.push_back(Turn(359));
    if (a.name == "dance") steps.push_back(Turn(-359));
    if (!turns) steps.push_back(Wait(0.6));
  }
  steps.push_back(Report(e, "gesture: " + Spoken(a.name) +
                                (a.count > 1 ? " x " + std::to_string(static_cast<int>(a.count)) : "") +
                                (a.to.empty() ? "" : " to " + a.to)));
  if (!a.to.empty()) return GoAnd(e, a.to, "", std::move(steps));
  return e->Insert(std::move(steps)), Outcome::kGoOn;
}

Outcome Guide(Executor* e, const Action& a) {
  Person* person = e->world().FindPerson(a.person);
  const std::optional<Place> place = Resolve(e, a.target, "");
  if (person == nullptr) return e->Fail("nobody called " + a.person + " is in this house");
  if (!place) return Missing(e, a.target);
  return GoAnd(e, a.person, "",
               {Do([e, person] { return e->Guide(person), Outcome::kGoOn; }), GoTo(*place), Wait(1),
                Report(e, a.person + " is at " + place->name)});
}

Outcome Goto(Executor* e, const Action& a) {
  if (a.target == "upstairs" || a.target == "downstairs") return e->Fail("this house has one floor");
  if (a.target == "outside") return e->Fail("the robot stays in the house");
  return GoAnd(e, a.target, a.room,
               {Do([e, target = a.target] { return e->Say("  is at " + Spoken(target)), Outcome::kGoOn; })});
}

struct Skill {
  const char* verb;
  Outcome (*start)(Executor*, const Action&);
};
constexpr Skill kSkills[] = {
    {"goto", Goto},
    {"move", Move},
    {"turn",
     [](Executor* e, const Action& a) {
       return e->Insert({Turn((a.direction == "left" ? -1 : 1) * (a.degrees > 0 ? a.degrees : 90))}),
              Outcome::kGoOn;
     }},
    {"pick", Pick},
    {"drop", Drop},
    {"place", PlaceThing},
    {"give", Give},
    {"find", Find},
    {"open", Operate},
    {"close", Operate},
    {"lock", Operate},
    {"unlock", Operate},
    {"turn_on", Operate},
    {"turn_off", Operate},
    {"set", Operate},
    {"check", Operate},
    {"knock",
     [](Executor* e, const Action& a) {
       return GoAnd(e, a.target, a.room, {Wait(kArmSeconds), Report(e, "knocks")});
     }},
    {"look_at",
     [](Executor* e, const Action& a) {
       return GoAnd(e, a.target, "", {Report(e, "looks at the " + Describe(a))});
     }},
    {"photo",
     [](Executor* e, const Action& a) {
       return GoAnd(e, a.target, "", {Wait(1), Report(e, "takes a photo of the " + Describe(a))});
     }},
    {"scan", Scan},
    {"follow",
     [](Executor* e, const Action& a) {
       return GoAnd(e, a.target, "", {Wait(2), Report(e, "stays with " + a.target)});
     }},
    {"guide", Guide},
    {"wait",
     [](Executor* e, const Action& a) {
       const double seconds = std::min(a.seconds > 0 ? a.seconds : 1, kLongestWait);
       return e->Insert({Wait(seconds), Report(e, "has waited")}), Outcome::kGoOn;
     }},
    {"say", Speak},
    {"ask", Speak},
    {"gesture", Gesture},
    {"clean",
     [](Executor* e, const Action& a) {
       return GoAnd(e, a.target, a.room,
                    {Turn(359), Wait(2), Report(e, "has cleaned the " + Spoken(a.target))});
     }},
    {"return",
     [](Executor* e, const Action&) {
       return e->Insert({GoTo(At(e->world(), e->origin(), 0.25, "where it was")), Report(e, "is back")}),
              Outcome::kGoOn;
     }},
    {"charge",
     [](Executor* e, const Action&) {
       return e->Insert({GoTo(At(e->world(), e->world().charger, 0.15, "the charger")), Report(e, "charges")}),
              Outcome::kGoOn;
     }},
    {"stop", [](Executor* e, const Action&) { return e->DropPlan(), Outcome::kGoOn; }},
    {"refuse",
     [](Executor* e, const Action& a) { return e->Say("  refuses: " + Spoken(a.reason)), Outcome::kGoOn; }},
};

}  // namespace

Outcome StartAction(const Action& action, Executor* executor) {
  for (const Skill& skill : kSkills)
    if (action.verb == skill.verb) return skill.start(executor, action);
  return executor->Fail("this robot has no skill '" + action.verb + "'");
}
