#!/usr/bin/env python3
"""Generates commands to a robot and the JSON action lists that answer them.

Everything is drawn from a seeded random generator, so that a seed always gives the same cases. Two
things are kept out of the training stream, and are what `heldout.jsonl` measures:

  * phrasings: the second list of each `Phrases` below;
  * combinations: (what is done, object, place) triples, of which `reserved()` sets one in ten apart.

Usage:
  generate.py --heldout heldout.jsonl      writes the held-out cases
  generate.py --sample 20                  prints training cases
"""

import argparse
import json
import random
import re
import zlib

import vocabulary as V

MAX_ACTIONS = 9
MAX_CHARACTERS = 230
KNOWN_WORDS = set()
for _table in (V.OBJECTS, V.MASS, V.PLURAL, V.COLORS, V.SIZES, V.ROOMS, V.FURNITURE, V.OPENABLE, V.DEVICES, V.PEOPLE):
    for _names in _table.values():
        for _name in _names:
            KNOWN_WORDS.update(_name.lower().split())

# Words for sentences that are only repeated; not those that could be taken for the next step.
ANY_WORDS = sorted({word for table in (V.OBJECTS, V.MASS, V.PLURAL, V.COLORS, V.SIZES, V.ROOMS, V.FURNITURE, V.DEVICES) for names in table.values() for name in names for word in name.split()}
                   | {word for text in V.SAYINGS + V.QUESTIONS for word in text.split()} | set(V.UNKNOWN_OBJECTS) | set(V.NAMES)
                   | set("minutes seconds hours minute hour days week monday tuesday friday sunday o'clock half quarter more less some any much many another every all both other next last first second new old good bad great small".split()))
NUMBER_WORDS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
                "eighteen nineteen twenty").split()
TENS = {30: "thirty", 40: "forty", 45: "forty-five", 50: "fifty", 60: "sixty", 90: "ninety"}


# Said before some steps, whatever the wording.
STEP_PREFIXES = ["go and ", "go ", "go and ", "try to ", "make sure to ", "don't forget to ", "be sure to ", "immediately ", "quickly ", "carefully ", "maybe "]


class Phrases:
    """The wordings of one intent: those for training and those held out.

    A held-out wording that training could produce by one of STEP_PREFIXES is dropped.
    """

    def __init__(self, train, held=""):
        self.train = [t.strip() for t in train.split(";")]
        produced = {prefix + t for prefix in STEP_PREFIXES for t in self.train}
        self.held = [t for t in map(str.strip, held.split(";")) if t and t not in produced]


def reserved(*key):
    """True for the one in ten combinations that never occur in training."""
    return zlib.crc32("/".join(map(str, key)).encode()) % 10 == 0


def number(rng, n):
    if n < len(NUMBER_WORDS) and rng.random() < 0.5:
        return NUMBER_WORDS[n]
    if n in TENS and rng.random() < 0.4:
        return TENS[n]
    return str(n)


def plural_of(name):
    last = name.split()[-1]
    if last in V.IRREGULAR_PLURALS:
        return name[: -len(last)] + V.IRREGULAR_PLURALS[last]
    if last.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if last.endswith("y") and last[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def article(text):
    return ("an " if text[0] in "aeiou" else "a ") + text


def protect(text):
    """Marks text that typos and casing must leave alone."""
    return f"\x01{text}\x02"


class Command:
    """One command under construction: the random source, what it may draw from, and what has been said so far."""

    def __init__(self, rng, new_phrasing=False, new_combination=False, held_refusal=False):
        self.rng = rng
        self.new_phrasing = new_phrasing      # draw wordings from the held-out lists where there are any
        self.new_combination = new_combination
        self.held_refusal = held_refusal      # draw what is refused from the held-out lists
        self.used_new_phrasing = False
        self.used_new_combination = False
        self.refusal = None                   # the first reason to refuse, which is then the whole answer
        self.lower = rng.random() < 0.45      # typed without capitals
        self.in_hand = []                     # object names
        self.found = []
        self.delivered = None                 # what has just been put down in a room: "it" would be ambiguous then
        self.placed = False                   # the robot has been sent to a place in this command
        self.last = None                      # what "it" means: ("object" | "target", fields, plural)
        self.last_target = None               # what "it" means to a verb that takes no hand-held thing, such as "close"
        self.person = None                    # what "him" or "her" means
        self.named = set()

    # -- drawing ---------------------------------------------------------------------------------------

    def chance(self, p):
        return self.rng.random() < p

    def wording(self, phrases, **slots):
        if self.new_phrasing and phrases.held:
            self.used_new_phrasing = True
            template = self.rng.choice(phrases.held)
        else:
            template = self.rng.choice(phrases.train)
        return template.format(**slots) if slots else template

    def combination(self, draw):
        """Calls draw() -> (value, key) until its key is (or is not) a reserved one; a key of None is never reserved."""
        for _ in range(60):
            value, key = draw()
            if (key is not None and reserved(*key)) == self.new_combination:
                self.used_new_combination |= self.new_combination
                break
        return value

    def name_of(self, table, canonical):
        names = table[canonical]
        return names[0] if self.chance(0.6) else self.rng.choice(names)

    def room(self):
        canonical = self.rng.choice(list(V.ROOMS))
        return canonical, self.name_of(V.ROOMS, canonical)

    def in_room(self, name, canonical):
        return self.rng.choice(["in the ", "in the ", "in our "] if canonical not in V.OUTDOOR else ["in the ", "on the "]) + name

    def person_name(self, user=True, everyone=False, pets=False):
        """-> (canonical, English). The user is 'me'."""
        r = self.rng.random()
        if user and r < 0.4:
            return "user", "me"
        if everyone and r < 0.5:
            return "everyone", self.rng.choice(["everyone", "everybody", "all"]) if not user else "everyone"
        if pets and r < 0.55:
            pet = self.rng.choice(list(V.PETS))
            return pet, self.rng.choice(V.PETS[pet])
        if self.person and r < 0.65:
            return self.person, self.rng.choice(["him", "her", "them"])
        if r < 0.78:
            canonical = self.rng.choice(list(V.PEOPLE))
            self.person = canonical
            return canonical, self.name_of(V.PEOPLE, canonical)
        name = self.rng.choice(V.NAMES) if r < 0.96 else pseudo_word(self.rng).capitalize()
        self.person = name.lower()
        return name.lower(), name.lower() if self.lower else protect(name)

    def thing(self, plural=True, determiner=None, bare=False):
        """A noun phrase -> (text, fields, is_plural). May draw an unknown object, which makes the command a refusal."""
        rng = self.rng
        if self.held_refusal and self.chance(0.9):
            return self.unknown_thing()
        while True:
            r = rng.random()
            if r < 0.76:
                kind, table = "object", V.OBJECTS
            elif r < 0.89:
                kind, table = "mass", V.MASS
            else:
                kind, table = "plural", V.PLURAL
            canonical = rng.choice(list(table))
            if canonical not in self.named:
                break
        self.named.add(canonical)
        name = self.name_of(table, canonical)
        fields = {"object": canonical}
        adjectives = []
        is_plural = kind == "plural"
        count = None
        if kind == "object" and plural:
            r = rng.random()
            if r < 0.09:
                count = rng.randint(2, 12)
                count_text = number(rng, count)
                if count == 2 and self.chance(0.25):
                    count_text = "a couple of"
            elif r < 0.12:
                count, count_text = "all", rng.choice(["all the", "all", "all of the", "every", "all my"])
            elif r < 0.14 and canonical != "key":
                count, count_text = "all", rng.choice(["the", "the", "my", "these", "those"])
            elif r < 0.155 and canonical != "key":
                count, count_text = "some", rng.choice(["some", "a few", "some of the", "several"])
        if count is not None:
            fields["count"] = count
            is_plural = count_text != "every"
            if is_plural:
                name = plural_of(name)
        if kind != "mass":
            if self.chance(0.13):
                fields["size"] = rng.choice(list(V.SIZES))
                adjectives.append(self.name_of(V.SIZES, fields["size"]))
            if self.chance(0.07):
                adjectives.append(rng.choice(V.FILLER_ADJECTIVES))
            if self.chance(0.36):
                fields["color"] = self.combination(lambda: ((c := rng.choice(list(V.COLORS))), ("color", canonical, c)))
                adjectives.append(self.name_of(V.COLORS, fields["color"]))
        text = " ".join(adjectives + [name])
        if count is not None:
            text = f"{count_text} {text}"
        elif bare or self.chance(0.04):
            pass
        elif kind == "mass":
            if " of " in text:
                text = rng.choice(["a ", "the ", "my "]) + text
            else:
                text = rng.choice(["the ", "the ", "some ", "my ", ""]) + text
        elif kind == "plural":
            text = rng.choice(["the ", "my ", "my ", "the ", "those ", "a pair of ", "your "]) + text
        else:
            d = determiner or rng.choice(["the"] * 9 + ["a"] * 3 + ["my", "my", "that", "this", "your", "our", "one"])
            text = article(text) if d == "a" else f"{d} {text}"
        if kind == "object" and count is None and adjectives[-1:] and "color" in fields and self.chance(0.04):
            text = f"the {' '.join(adjectives[:-1] + [name])} that is {adjectives[-1]}"
        self.last = ("object", fields, is_plural)
        return text, fields, is_plural

    def unknown_thing(self):
        r = self.rng.random()
        if self.held_refusal:
            noun = self.rng.choice(V.HELD_UNKNOWN_OBJECTS)
        elif r < 0.55:
            noun = self.rng.choice(V.UNKNOWN_OBJECTS)
        elif r < 0.8:
            noun = pseudo_word(self.rng)
        else:
            noun = spliced_word(self.rng)
        self.refuse("unknown_object")
        noun = noun.replace("-", " ")
        self.refuse("unknown_object")
        if self.chance(0.25):
            noun = f"{self.rng.choice(list(V.COLORS))} {noun}"
        text = self.rng.choice([f"the {noun}", f"the {noun}", article(noun), f"my {noun}"])
        self.last = ("object", {"object": "unknown"}, False)
        return protect(text), {"object": "unknown"}, False

    def object_or_it(self, p_it=0.65):
        """A thing, or a pronoun or a second mention for the one spoken of last."""
        if self.last and self.last[0] == "object" and self.last[1]["object"] != self.delivered:
            fields, is_plural = self.last[1], self.last[2]
            if self.chance(p_it):
                return ("them" if is_plural and self.chance(0.85) else "it"), fields, is_plural
            if self.chance(0.2) and fields["object"] in V.OBJECTS and not is_plural:
                return "the " + V.OBJECTS[fields["object"]][0], fields, False
        elif not self.named and self.chance(0.07):
            return "it", {"object": "it"}, False
        return self.thing()

    def set_target(self, fields, plural=False):
        self.last = ("target", fields, plural)
        self.last_target = fields

    def referent(self, table):
        """What "it" stands for after a verb that takes the things of `table`."""
        if self.last and self.last[0] == "object":
            fields = dict(self.last[1])
            if fields["object"] in table and not self.last[2]:
                return {"target": fields.pop("object"), **fields}
        if self.last_target and self.last_target["target"] in table:
            return self.last_target
        return None

    def refuse(self, reason):
        self.refusal = self.refusal or reason

    # -- the robot's state -----------------------------------------------------------------------------

    def take_in_hand(self, fields, source=(), find=False):
        """The actions that get an object into the hand, if it is not there yet."""
        name = fields["object"]
        if name == "it" or name in self.in_hand:
            return []
        actions = []
        if find and name not in self.found and not self.placed:
            actions.append({"action": "find", **fields})
        actions.append({"action": "pick", **fields, **dict(source)})
        self.in_hand.append(name)
        return actions

    def let_go(self, fields):
        if fields["object"] in self.in_hand:
            self.in_hand.remove(fields["object"])

    def spot(self, holders=True):
        """Somewhere to put things -> (relation, canonical, English without article)."""
        rng = self.rng
        r = rng.random()
        if r < 0.52:
            relation, canonical = "on", rng.choice(V.SURFACES)
        elif r < 0.82:
            relation, canonical = "in", rng.choice(V.CONTAINERS + (V.HOLDERS if holders else []))
        else:
            relation, canonical = rng.choice(["under", "next_to", "behind", "in_front_of"]), rng.choice(V.SURFACES + V.CONTAINERS[:8] + ["door", "window"])
        table = next(t for t in (V.FURNITURE, V.OBJECTS, V.OPENABLE) if canonical in t)
        return relation, canonical, self.name_of(table, canonical)


def pseudo_word(rng):
    while True:
        word = "".join(rng.choice("b d f g k l m n p r s t v z gl kr fl tr sn bl".split()) + rng.choice("a e i o u oo ee".split()) for _ in range(rng.randint(2, 3)))
        word += rng.choice(["", "n", "x", "k", "rt", "ng", "p", "l"])
        if word not in KNOWN_WORDS:
            return word


def spliced_word(rng):
    """The head of one word and the tail of another: looks familiar and is not."""
    while True:
        first, second = rng.choice(ANY_WORDS).lower(), rng.choice(ANY_WORDS).lower()
        word = first[:rng.randint(2, 4)] + second[-rng.randint(3, 5):]
        near = any(abs(len(word) - len(w)) <= 1 and sum(a != b for a, b in zip(word, w)) + sum(a != b for a, b in zip(word[::-1], w[::-1])) <= 3 for w in KNOWN_WORDS)
        if len(word) >= 5 and word.isalpha() and not near:
            return word


RELATIONS = {"on": ["on", "on", "onto", "on top of"], "in": ["in", "in", "into", "inside"], "under": ["under", "underneath", "below", "beneath"],
             "next_to": ["next to", "beside", "near", "by"], "behind": ["behind"], "in_front_of": ["in front of"]}

# -- intents: each returns (text, actions); text is an imperative phrase unless the intent is in STATEMENTS ------------

GOTO = Phrases("go to {x}; go to {x}; go to {x}; go over to {x}; head to {x}; move to {x}; walk to {x}; walk over to {x}; drive to {x}; come to {x}; run to {x}; proceed to {x}; "
               "navigate to {x}; travel to {x}; get to {x}; go and stand by {x}; move yourself to {x}; go straight to {x}; go back to {x}; return to {x}; visit {x}; roll to {x}; make your way to {x}; get over to {x}; run over to {x}; head back to {x}; walk back to {x}; get back to {x}",
               "head over to {x}; move over to {x}; drive over to {x}; walk straight to {x}")
GOTO_ROOM = Phrases("go into {x}; enter {x}; go in {x}; walk into {x}; move into {x}; head into {x}; step into {x}", "run into {x}; step in {x}")
GOTO_ADVERB = Phrases("go {x}; walk {x}; come {x}; head {x}; move {x}; run {x}", "step {x}; get {x}")
GOTO_USER = Phrases("come here; come to me; come over here; come closer; come over; get over here; get here; come here to me; go to me; approach me; come to where I am; come near me", "come on over; get to me; move to me")


def goto(c):
    r = c.rng.random()
    if r < 0.14:
        c.placed = False
        return c.wording(GOTO_USER), [{"action": "goto", "target": "user"}]
    if r < 0.3:
        canonical, name = c.person_name(user=False)
        c.placed = False
        if c.chance(0.25):
            room, room_name = c.room()
            return c.wording(GOTO, x=f"{name} {c.in_room(room_name, room)}"), [{"action": "goto", "target": room}, {"action": "goto", "target": canonical}]
        return c.wording(GOTO, x=name), [{"action": "goto", "target": canonical}]
    if r < 0.36 and c.chance(0.75):
        place = c.rng.choice(V.HELD_UNKNOWN_PLACES if c.held_refusal else V.UNKNOWN_PLACES)
        c.refuse("unknown_place")
        return c.wording(GOTO, x=place), []
    c.placed = True
    if r < 0.4:
        word = c.rng.choice(["upstairs", "downstairs", "outside"])
        return c.wording(GOTO_ADVERB, x=word), [{"action": "goto", "target": word}]
    if r < 0.56:
        canonical = c.rng.choice(list(V.FURNITURE) + ["door", "window", "front_door", "gate"])
        table = V.FURNITURE if canonical in V.FURNITURE else V.OPENABLE
        name = "the " + c.name_of(table, canonical)
        if canonical in V.OPENABLE:
            c.set_target({"target": canonical})
        if c.chance(0.25):
            room, room_name = c.room()
            return (c.wording(GOTO, x=f"{name} {c.in_room(room_name, room)}"),
                    [{"action": "goto", "target": room}, {"action": "goto", "target": canonical}])
        return c.wording(GOTO, x=name), [{"action": "goto", "target": canonical}]
    room, name = c.room()
    phrases = GOTO_ROOM if c.chance(0.25) and room not in V.OUTDOOR else GOTO
    return c.wording(phrases, x=c.rng.choice(["the ", "the ", "the ", "the ", "my ", ""]) + name), [{"action": "goto", "target": room}]


MOVE = Phrases("move {d}; go {d}; walk {d}; step {d}; drive {d}; roll {d}", "head {d}; travel {d}")
MOVE_BY = Phrases("move {d} {n}; go {d} {n}; walk {d} {n}; walk {n} {d}; move {n} {d}; go {n} {d}; drive {n} {d}; drive {d} {n}; move {d} by {n}; go {d} for {n}; advance {d} {n}", "roll {n} {d}; walk {d} for {n}; roll {d} {n}")
STEPS = Phrases("take {n} {steps} {d}; walk {n} {steps} {d}; go {n} {steps} {d}; move {n} {steps} {d}; make {n} {steps} {d}; go {d} {n} {steps}; move {d} {n} {steps}", "do {n} {steps} {d}; walk {d} {n} {steps}")
DIRECTIONS = {"forward": ["forward", "forward", "forwards", "ahead", "straight ahead", "straight"], "back": ["back", "backward", "backwards"],
              "left": ["left", "to the left", "to your left"], "right": ["right", "to the right", "to your right"]}


def move(c):
    direction = c.rng.choice(list(DIRECTIONS))
    word = c.rng.choice(DIRECTIONS[direction])
    action = {"action": "move", "direction": direction}
    r = c.rng.random()
    c.placed = False
    if c.chance(0.06):
        n = c.rng.randint(1, 9)
        meters = c.chance(0.5)
        unit = ("meter" if meters else "step") + ("s" if n > 1 else "")
        return f"{c.rng.choice(['back up', 'back off', 'step back', 'reverse'])} {number(c.rng, n)} {unit}", [{"action": "move", "direction": "back", "meters" if meters else "steps": n}]
    if r < 0.2:
        if direction == "back":
            word = c.rng.choice(["backward", "backwards"])  # "go back" is another action
        return c.wording(MOVE, d=word), [action]
    if r < 0.6:
        meters = c.rng.choice([1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 0.5, 1.5, 2.5])
        action["meters"] = meters
        unit = c.rng.choice(["meter", "meter", "metre"]) + ("" if meters == 1 else "s")
        if meters == 0.5:
            text = c.rng.choice(["half a meter", "0.5 meters", "0.5 m", "half a metre"])
        elif meters != int(meters):
            text = f"{meters} {unit}"
        else:
            text = c.rng.choice([f"{number(c.rng, meters)} {unit}"] * 4 + [f"{meters} m", f"{meters}m"])
            if meters == 1 and c.chance(0.3):
                text = "a meter"
        return c.wording(MOVE_BY, d=word, n=text), [action]
    steps = c.rng.randint(1, 12)
    action["steps"] = steps
    return c.wording(STEPS, n="a" if steps == 1 and c.chance(0.4) else number(c.rng, steps), d=word, steps="step" if steps == 1 else "steps"), [action]


TURN = Phrases("turn {d}; rotate {d}; turn {d}; spin {d}; turn yourself {d}", "rotate yourself {d}; spin yourself {d}")
TURN_BY = Phrases("turn {d} {n}; rotate {d} {n}; turn {n} {d}; turn {d} by {n}; rotate {n} {d}; rotate {d} by {n}; spin {d} by {n}", "spin {n} {d}; spin {d} {n}")
TURN_AROUND = Phrases("turn around; turn yourself around; turn round; make a U-turn; do a u-turn; spin around; do a 180; turn back; face the other way; turn 180 degrees; rotate 180 degrees; do an about-face; rotate around", "turn yourself round; turn by 180 degrees; make a 180")


def turn(c):
    if c.chance(0.3):
        return c.wording(TURN_AROUND), [{"action": "turn", "direction": "around", "degrees": 180}]
    direction = c.rng.choice(["left", "right"])
    word = c.rng.choice(DIRECTIONS[direction] + ["clockwise" if direction == "right" else "counterclockwise"])
    if c.chance(0.5):
        return c.wording(TURN, d=word), [{"action": "turn", "direction": direction, "degrees": 90}]
    degrees = c.rng.choice([10, 15, 20, 30, 45, 45, 60, 75, 90, 90, 120, 135, 180, 270, 360])
    text = c.rng.choice([f"{number(c.rng, degrees)} degrees", f"{degrees} degrees", f"{degrees} deg", f"{degrees}°"])
    return c.wording(TURN_BY, d=word, n=text), [{"action": "turn", "direction": direction, "degrees": degrees}]


PICK = Phrases("pick up {o}; pick up {o}; pick {o} up; take {o}; grab {o}; get {o}; pick {o}; lift {o}; lift up {o}; hold {o}; get hold of {o}; collect {o}; go get {o}; go pick up {o}; go and get {o}; "
               "get a hold of {o}; gather {o}; reach for {o}; fetch {o}; scoop up {o}; retrieve {o}; go grab {o}; snatch {o}; take out {o}; take {o} out; go take {o}; take {o} with you", "grab hold of {o}; go and pick up {o}; go and grab {o}; gather up {o}; lift {o} up")
PICK_FROM = Phrases("pick up {o} from {s}; take {o} from {s}; grab {o} from {s}; get {o} from {s}; pick {o} from {s}; fetch {o} from {s}; collect {o} from {s}; from {s}, take {o}; get {o} {w} {s}; take {o} off {s}; grab {o} that is {w} {s}; "
                    "pick up {o} {w} {s}; take {o} {w} {s}; go to {s} and take {o}; pick {o} up from {s}; take {o} out of {s}; remove {o} from {s}; retrieve {o} from {s}; pick up {o} that's {w} {s}; grab {o} {w} {s}",
                    "get {o} that is {w} {s}; lift {o} from {s}; gather {o} from {s}; collect {o} {w} {s}; get {o} out of {s}")


def source(c, fields):
    """Where an object is to be taken from -> (English, preposition, actions before the pick, fields of the pick)."""
    obj = fields["object"]

    def draw():
        if c.chance(0.5):
            room, name = c.room()
            return ("the " + name, "on" if room in V.OUTDOOR and c.chance(0.3) else "in", [{"action": "goto", "target": room}], {}), ("from", obj, room)
        surface = c.chance(0.6)
        canonical = c.rng.choice(V.SURFACES if surface else V.CONTAINERS)
        name = "the " + c.name_of(V.FURNITURE, canonical)
        where = "on" if surface else "in"
        if c.chance(0.22):
            room, room_name = c.room()
            name = f"the {room_name} {name[4:]}" if c.chance(0.4) else f"{name} in the {room_name}"
            return (name, where, [{"action": "goto", "target": room}], {"from": canonical}), ("from", obj, canonical)
        return (name, where, [], {"from": canonical}), ("from", obj, canonical)

    return c.combination(draw)


def pick(c):
    if c.last and c.last[0] == "object" and c.last[1]["object"] not in c.in_hand + [c.delivered] and c.chance(0.6):
        text, fields, _ = c.object_or_it(1.0)
        return c.wording(PICK, o=text), c.take_in_hand(fields)
    text, fields, _ = c.thing()
    if c.chance(0.5):
        return c.wording(PICK, o=text), c.take_in_hand(fields)
    name, where, before, extra = source(c, fields)
    template = c.wording(PICK_FROM, o=text, s=name, w=where)
    if template.startswith("go to the ") and extra:
        before = before + [{"action": "goto", "target": extra["from"]}]
        extra = {}
    c.placed = c.placed or bool(before)
    return template, before + c.take_in_hand(fields, extra)


DROP = Phrases("drop {o}; put {o} down; let go of {o}; release {o}; lay {o} down; lay down {o}; set {o} down; put down {o}; let {o} go", "set down {o}")


def drop(c):
    text, fields, _ = c.object_or_it(0.8)
    c.let_go(fields)
    return c.wording(DROP, o=text), [{"action": "drop", **fields}]


PLACE = Phrases("put {o} {r} {s}; put {o} {r} {s}; place {o} {r} {s}; set {o} {r} {s}; leave {o} {r} {s}; lay {o} {r} {s}; drop {o} {r} {s}; store {o} {r} {s}; put {o} down {r} {s}; put {o} back {r} {s}; "
                "set {o} down {r} {s}; stick {o} {r} {s}; position {o} {r} {s}; deposit {o} {r} {s}; stash {o} {r} {s}; stow {o} {r} {s}; leave {o} there {r} {s}; return {o} to its place {r} {s}; move {o} {r} {s}", "lay {o} down {r} {s}; place {o} back {r} {s}; set {o} back {r} {s}")
PLACE_ROOM = Phrases("put {o} in {s}; place {o} in {s}; leave {o} in {s}; drop {o} off in {s}; put {o} back in {s}; store {o} in {s}", "set {o} down in {s}; stash {o} in {s}")
THROW_AWAY = Phrases("throw {o} away; throw away {o}; throw {o} in the trash; put {o} in the garbage; throw out {o}; trash {o}; get rid of {o}; toss {o} in the bin; throw {o} into the trash can; dispose of {o}; throw {o} in the bin; toss {o}; bin {o}; discard {o}; dump {o} in the trash; chuck {o} in the bin", "toss {o} in the trash; throw {o} in the garbage")


def place(c):
    text, fields, _ = c.object_or_it()
    actions = c.take_in_hand(fields)
    c.let_go(fields)
    r = c.rng.random()
    if r < 0.1:
        return c.wording(THROW_AWAY, o=text), actions + [{"action": "place", **fields, "relation": "in", "target": "trash_can"}]
    if r < 0.25:
        room, name = c.combination(lambda: ((x := c.room()), ("place", fields["object"], x[0])))
        c.placed = True
        return c.wording(PLACE_ROOM, o=text, s="the " + name), actions + [{"action": "goto", "target": room}, {"action": "place", **fields, "relation": "in", "target": room}]

    def draw():
        s = c.spot()
        return s, ("place", fields["object"], s[0], s[1])

    relation, canonical, name = c.combination(draw)
    if canonical == fields["object"]:
        relation, canonical, name = "on", "table", "table"
    if relation == "in":
        c.last_target = {"target": canonical}
    if r < 0.45 and canonical not in V.OBJECTS:
        room, room_name = c.room()
        name = f"the {room_name} {name}" if c.chance(0.4) else f"the {name} {c.in_room(room_name, room)}"
        actions.append({"action": "goto", "target": room})
        c.placed = True
    else:
        name = c.rng.choice(["the ", "the ", "the ", "the ", "my ", "your " if canonical == "tray" else "the "]) + name
    if relation == "in" and fields["object"] in V.OPENABLE:
        c.last, c.last_target = None, None
    return (c.wording(PLACE, o=text, r=c.rng.choice(RELATIONS[relation]), s=name),
            actions + [{"action": "place", **fields, "relation": relation, "target": canonical}])


GIVE = Phrases("give {o} to {p}; give {o} to {p}; hand {o} to {p}; pass {o} to {p}; hand {o} over to {p}; offer {o} to {p}; present {o} to {p}; give {o} back to {p}", "pass {o} over to {p}; hand over {o} to {p}")
GIVE_DATIVE = Phrases("give {p} {o}; hand {p} {o}; pass {p} {o}; offer {p} {o}; toss {p} {o}; slide {p} {o}; give {p} back {o}; hand over to {p} {o}; let {p} have {o}", "hand {p} over {o}; pass {p} over {o}")


def give(c):
    text, fields, _ = c.object_or_it()
    canonical, name = c.combination(lambda: ((x := c.person_name()), ("give", fields["object"], x[0])))
    actions = c.take_in_hand(fields)
    c.let_go(fields)
    phrases = GIVE_DATIVE if c.chance(0.5) and text not in ("it", "them") else GIVE
    return c.wording(phrases, o=text, p=name), actions + [{"action": "give", **fields, "to": canonical}]


BRING = Phrases("bring {p} {o}; bring {o} to {p}; fetch {o} for {p}; get {p} {o}; get {o} for {p}; bring {p} {o}; grab {p} {o}; take {o} to {p}; carry {o} to {p}; deliver {o} to {p}; go get {p} {o}; bring {o} over to {p}; go and fetch {o} for {p}; go bring {p} {o}; "
                "find {p} {o}; go fetch {p} {o}; go and get {p} {o}; run and get {o} for {p}; bring {o} here to {p}; get {o} over to {p}; bring {o} back to {p}; bring {p} back {o}; grab {o} for {p}",
                "fetch {p} {o}; go grab {o} for {p}; go and bring {o} to {p}; carry {o} over to {p}; go fetch {o} for {p}")
BRING_HERE = Phrases("bring {o}; bring {o} here; bring {o} over here; fetch {o} here; bring {o} back; come back with {o}; come here with {o}; bring {o} over; go bring {o}", "get {o} over here; come over with {o}")
BRING_FROM = Phrases("bring {p} {o} from {s}; bring {o} from {s} to {p}; fetch {p} {o} from {s}; get {p} {o} from {s}; take {o} from {s} to {p}; go to {s} and bring {p} {o}; go to {s} and get {p} {o}; get {o} from {s} for {p}; fetch {o} from {s} for {p}; "
                     "grab {p} {o} from {s}; bring {p} {o} that is {w} {s}; bring {p} {o} {w} {s}; get {p} {o} {w} {s}; from {s}, bring {p} {o}; go get {p} {o} from {s}; carry {o} from {s} to {p}; bring {p} {o} out of {s}; go into {s} and bring {p} {o}; go to {s} and fetch {o} for {p}; get {o} {w} {s} and bring it to {p}; take {o} from {s} and bring it to {p}; pick up {o} {w} {s} and bring it to {p}; grab {o} from {s} and deliver it to {p}",
                     "deliver {o} from {s} to {p}; grab {o} from {s} for {p}; run to {s} and bring {p} {o}; fetch {p} {o} that is {w} {s}; get {o} from {s} and take it to {p}")
BRING_ROOM = Phrases("bring {o} to {s}; take {o} to {s}; carry {o} to {s}; move {o} to {s}; deliver {o} to {s}; take {o} into {s}; bring {o} into {s}; transport {o} to {s}; bring {o} over to {s}; get {o} to {s}; take {o} back to {s}; move {o} into {s}", "carry {o} into {s}; transport {o} into {s}")
BRING_ROOM_FROM = Phrases("bring {o} from {f} to {s}; take {o} from {f} to {s}; carry {o} from {f} to {s}; move {o} from {f} to {s}; get {o} from {f} and bring it to {s}; take {o} from {f} and carry it to {s}", "transport {o} from {f} to {s}; get {o} from {f} to {s}")


def bring(c):
    """Transport: find or go to the object, pick it, go to the receiver, hand it over."""
    r = c.rng.random()
    text, fields, plural = c.object_or_it(0.45)
    pronoun = text in ("it", "them")
    if r < 0.22:
        room, name = c.combination(lambda: ((x := c.room()), ("bring", fields["object"], x[0])))
        end = [{"action": "goto", "target": room}, {"action": "place", **fields, "relation": "in", "target": room}]
        if c.chance(0.35) and not pronoun and fields["object"] not in c.in_hand:
            start_name, _, before, extra = source(c, fields)
            if before and before[0]["target"] == room:
                before = []
                start_name, extra = "the table", {"from": "table"}
            wording, actions = c.wording(BRING_ROOM_FROM, o=text, f=start_name, s="the " + name), before + c.take_in_hand(fields, extra)
        else:
            actions = c.take_in_hand(fields, find=True)
            wording = c.wording(BRING_ROOM, o=text, s="the " + name)
        c.let_go(fields)
        c.placed = True
        c.delivered = fields["object"]
        if c.chance(0.25):
            # "take it to the bedroom and put it on the bed" is one delivery, not two.
            relation, canonical, spot_name = c.spot(holders=False)
            wording += c.rng.choice([" and ", " and ", ", then ", ", and ", " and then ", ", "]) + c.wording(PLACE, o="them" if plural else "it", r=c.rng.choice(RELATIONS[relation]), s="the " + spot_name)
            end[-1] = {"action": "place", **fields, "relation": relation, "target": canonical}
        return wording, actions + end
    canonical, name = c.person_name()
    end = [{"action": "goto", "target": canonical}, {"action": "give", **fields, "to": canonical}]
    if canonical != "user" and c.chance(0.15) and r >= 0.62:
        room, room_name = c.room()
        text_end = " " + c.in_room(room_name, room)
        actions = c.take_in_hand(fields, find=True) + [{"action": "goto", "target": room}] + end
        c.let_go(fields)
        c.placed = False
        return c.rng.choice(["bring {o} to {p}", "take {o} to {p}", "carry {o} to {p}", "deliver {o} to {p}", "bring {o} over to {p}"]).format(o=text, p=name) + text_end, actions
    if r < 0.62 and not pronoun and fields["object"] not in c.in_hand:
        start_name, where, before, extra = source(c, fields)
        template = c.wording(BRING_FROM, o=text, s=start_name, p=name, w=where)
        if re.match(r"(go|run) (in)?to the ", template) and extra:
            before, extra = before + [{"action": "goto", "target": extra["from"]}], {}
            template = template.replace(" into the ", " to the ", 1)
        if plural:
            template = re.sub(r" and (bring|give|take) it to ", r" and \1 them to ", template)
        actions = before + c.take_in_hand(fields, extra) + end
    else:
        actions = c.take_in_hand(fields, find=True) + end
        if canonical == "user" and c.chance(0.25):
            template = c.wording(BRING_HERE, o=text)
        elif pronoun:
            template = c.rng.choice(["bring {o} to {p}", "take {o} to {p}", "carry {o} to {p}", "deliver {o} to {p}", "bring {o} over to {p}", "bring {o} back to {p}"]).format(o=text, p=name)
        else:
            template = c.wording(BRING, o=text, p=name)
    c.let_go(fields)
    c.placed = False
    return template, actions


def several(c):
    """One verb with two or three objects."""
    rng = c.rng
    items = []
    while len(items) < (3 if len(items) == 2 and rng.random() < 0.2 else 2):
        text, fields, _ = c.thing(plural=rng.random() < 0.3)
        items.append((text, fields))
    text = " and ".join(t for t, _ in items) if len(items) == 2 else f"{items[0][0]}, {items[1][0]}{rng.choice([' and ', ', and '])}{items[2][0]}"
    all_fields = [f for _, f in items]
    before, extra, origin = [], {}, ""
    if rng.random() < 0.4:
        name, where, before, extra = source(c, all_fields[0])
        origin = f" from {name}" if rng.random() < 0.7 else f" {where} {name}"
        c.placed = c.placed or bool(before)
    r = rng.random()
    find_first = r >= 0.6 and not before and not extra
    picks = [a for f in all_fields for a in c.take_in_hand(f, extra, find=find_first)]
    c.last, c.last_target = None, None
    if r < 0.25:
        return c.wording(PICK, o=text) + origin, before + picks
    for f in all_fields:
        c.let_go(f)
    if r < 0.6:
        relation, canonical, name = c.spot(holders=False)
        places = [{"action": "place", **f, "relation": relation, "target": canonical} for f in all_fields]
        word = rng.choice(RELATIONS[relation])
        if origin or rng.random() < 0.4:
            verb = rng.choice([" and put them ", " and place them ", ", then put them ", " and put both ", " and then set them ", " and leave them "] if len(items) == 2 else [" and put them ", " and place them "])
            return f"{c.wording(PICK, o=text)}{origin}{verb}{word} the {name}", before + picks + places
        return c.wording(PLACE, o=text, r=word, s="the " + name), picks + places
    if r < 0.75:
        room, name = c.room()
        ends = [{"action": "goto", "target": room}] + [{"action": "place", **f, "relation": "in", "target": room} for f in all_fields]
        c.placed = True
        if origin:
            return f"{rng.choice(['take', 'bring', 'carry', 'move'])} {text}{origin} to the {name}", before + picks + ends
        return c.wording(BRING_ROOM, o=text, s="the " + name), picks + ends
    canonical, name = c.person_name()
    ends = [{"action": "goto", "target": canonical}] + [{"action": "give", **f, "to": canonical} for f in all_fields]
    c.placed = False
    if origin or rng.random() < 0.5:
        return f"{rng.choice(['bring', 'get', 'fetch', 'bring'])} {name} {text}{origin}", before + picks + ends
    return c.wording(BRING, o=text, p=name), picks + ends


def several_targets(c):
    """One verb with two devices, two openings or two places."""
    rng = c.rng
    r = rng.random()
    if r < 0.5:
        (first, first_text), (second, second_text) = device(c), device(c)
        on = rng.random() < 0.5
        text = c.wording(rng.choice([Phrases("turn on {t}; switch on {t}; turn {t} on"), Phrases("activate {t}; switch {t} on")]) if on else Phrases("turn off {t}; switch off {t}; turn {t} off; switch {t} off; shut off {t}"), t=f"{first_text} and {second_text}")
        actions = [{"action": "turn_on" if on else "turn_off", **f} for f in (first, second)]
    elif r < 0.8:
        names = rng.sample(["door", "window", "fridge", "curtains", "gate", "drawer", "oven", "front_door", "back_door", "garage_door", "blinds", "closet", "cabinet"], 2)
        verb = rng.choice(["open", "close"])
        text = f"{rng.choice(['open', 'open up'] if verb == 'open' else ['close', 'shut'])} the {c.name_of(V.OPENABLE, names[0])} and the {c.name_of(V.OPENABLE, names[1])}"
        actions = [{"action": verb, "target": n} for n in names]
    else:
        (first, first_name), (second, second_name) = c.room(), c.room()
        if rng.random() < 0.5:
            text = f"{rng.choice(['clean', 'tidy up', 'vacuum', 'clean up'])} the {first_name} and the {second_name}"
            actions = [{"action": "clean", "target": first}, {"action": "clean", "target": second}]
        else:
            text = f"{rng.choice(['check', 'patrol', 'scan', 'search'])} the {first_name} and the {second_name}"
            actions = [{"action": "scan", "target": first}, {"action": "scan", "target": second}]
    c.last, c.last_target = None, None
    return text, actions


WANT = Phrases("I want {o}; I need {o}; I'd like {o}; I would like {o}; can I have {o}; could I have {o}; may I have {o}; I want to have {o}; i need you to bring me {o}; can I get {o}; could I get {o}; {o} please; let me have {o}; I would love {o}", "may I get {o}; I would like to have {o}; I'd love {o}")


def want(c):
    text, fields, _ = c.thing()
    end = [{"action": "goto", "target": "user"}, {"action": "give", **fields, "to": "user"}]
    if c.chance(0.4):
        name, where, before, extra = source(c, fields)
        text = f"{text} from {name}" if c.chance(0.6) else f"{text} {where} {name}"
        return c.wording(WANT, o=text), before + c.take_in_hand(fields, extra) + end
    return c.wording(WANT, o=text), c.take_in_hand(fields, find=True) + end


OPEN = Phrases("open {t}; open {t}; open up {t}; get {t} open; pull {t} open; go open {t}; push {t} open", "go and open {t}; get {t} opened up")
CLOSE = Phrases("close {t}; close {t}; shut {t}; pull {t} shut; push {t} closed; go close {t}; shut {t} up; make sure {t} is closed; make sure that {t} is shut", "go shut {t}; go and close {t}; make sure that {t} is closed")
LOCK = Phrases("lock {t}; lock up {t}; lock {t} up; bolt {t}; make sure {t} is locked", "go and lock {t}; make sure that {t} is locked")
UNLOCK = Phrases("unlock {t}; unbolt {t}; unlock {t} please", "go and unlock {t}")
OPENING = {"open": OPEN, "close": CLOSE, "lock": LOCK, "unlock": UNLOCK}


def opening(c):
    """open, close, lock, unlock."""
    verb = c.rng.choice(["open"] * 5 + ["close"] * 5 + ["lock", "lock", "unlock"])
    fields = c.referent(V.OPENABLE)
    if fields and c.chance(0.5):
        if verb in ("lock", "unlock") and fields["target"] not in V.LOCKABLE:
            verb = "close"
        text = "them" if fields["target"] in ("curtains", "blinds") else "it"
        if c.chance(0.2) and verb == "close":
            text += " again"
        return c.wording(OPENING[verb], t=text).replace("them is", "they are"), [{"action": verb, **fields}]
    if c.held_refusal and c.chance(0.8):
        text, _, _ = c.unknown_thing()
        return c.wording(OPENING[verb], t=text), []

    def draw():
        canonical = c.rng.choice(list(V.OPENABLE) if verb in ("open", "close") else V.LOCKABLE)
        if c.chance(0.3):
            canonical = c.rng.choice(["door", "window", "front_door", "fridge"])
        if verb in ("lock", "unlock") and canonical not in V.LOCKABLE:
            canonical = "door"
        room = c.room() if c.chance(0.35) and canonical not in ("garage_door", "front_door") and canonical not in V.OBJECTS else None
        return (canonical, room), ((verb, canonical, room[0]) if room else None)

    canonical, room = c.combination(draw)
    name = c.name_of(V.OPENABLE, canonical)
    fields = {"target": canonical}
    if canonical in ("door", "box", "gate", "chest", "drawer", "book", "bottle", "bag") and c.chance(0.25):
        fields["color"] = c.rng.choice(list(V.COLORS))
        name = f"{c.name_of(V.COLORS, fields['color'])} {name}"
    if room:
        fields["room"] = room[0]
        if "color" not in fields and c.chance(0.5):
            text = f"the {room[1]} {name}"
        else:
            text = f"the {name} {c.rng.choice(['in', 'in', 'of'])} the {room[1]}"
    elif canonical in ("window", "door", "curtains", "blinds", "drawer", "gate", "cabinet") and "color" not in fields and c.chance(0.25):
        fields["count"] = "all"
        name = plural_of(V.OPENABLE[canonical][0]) if not name.endswith("s") else name
        text = c.rng.choice(["all the ", "all ", "all of the "]) + name
    else:
        text = c.rng.choice(["the ", "the ", "the ", "the ", "my ", ""]) + name
    wording = c.wording(OPENING[verb], t=text)
    if name.endswith("s"):
        wording = wording.replace(" is ", " are ")
    c.set_target(fields)
    return wording, [{"action": verb, **fields}]


TURN_ON = Phrases("turn on {t}; turn on {t}; turn {t} on; switch on {t}; switch {t} on; put {t} on; power on {t}; power up {t}; activate {t}; make sure {t} is on; go turn on {t}; get {t} going; go turn {t} on", "power {t} on; go and switch on {t}; make sure that {t} is on; go switch {t} on")
TURN_OFF = Phrases("turn off {t}; turn off {t}; turn {t} off; switch off {t}; switch {t} off; shut off {t}; shut {t} off; power off {t}; power down {t}; deactivate {t}; make sure {t} is off; turn out {t}; kill {t}; go turn off {t}; go turn {t} off", "power {t} off; go and switch off {t}; make sure that {t} is off; go switch {t} off")
START = Phrases("start {t}; run {t}; fire up {t}; start up {t}", "start {t} up")
MUSIC = Phrases("play some music; play music; put on some music; put some music on; start playing music", "play us some music")
STOP_MACHINE = Phrases("stop {t}; shut down {t}; shut {t} down; halt {t}", "stop {t} from running")
SWITCH_STATEMENT = Phrases("{t} {s}; {t} {s} please; I want {t} {s}; {s} with {t}; I need {t} {s}; I'd like {t} {s}", "I would like {t} {s}")


def device(c):
    """-> (fields, English)."""
    if c.held_refusal and c.chance(0.9):
        text, _, _ = c.unknown_thing()
        return {"target": "unknown"}, text

    def draw():
        canonical = c.rng.choice(list(V.DEVICES)) if c.chance(0.6) else c.rng.choice(["light", "light", "lamp", "tv", "heater", "fan", "ac"])
        room = c.room() if c.chance(0.45) else None
        return (canonical, room), (("device", canonical, room[0]) if room else None)

    canonical, room = c.combination(draw)
    name = c.name_of(V.DEVICES, canonical)
    fields = {"target": canonical}
    adjective = ""
    if canonical in ("light", "lamp", "fan", "heater") and c.chance(0.15):
        fields["count"] = "all"
        name = plural_of(name) if not name.endswith(("s", "g")) else name
        article_text = c.rng.choice(["all the ", "all ", "all of the ", "every "])
        name = name if article_text != "every " else V.DEVICES[canonical][0]
    else:
        article_text = c.rng.choice(["the ", "the ", "the ", "the ", "my ", ""])
        if canonical in ("light", "lamp") and c.chance(0.12):
            fields["color"] = c.rng.choice(list(V.COLORS))
            adjective = c.name_of(V.COLORS, fields["color"]) + " "
    if room:
        fields["room"] = room[0]
        if c.chance(0.45) and not adjective:
            text = f"{article_text}{room[1]} {name}"
        else:
            text = f"{article_text}{adjective}{name} {c.in_room(room[1], room[0])}"
    else:
        text = article_text + adjective + name
    c.set_target(fields, name.endswith("s") or "count" in fields)
    return fields, text


def switching(c):
    on = c.chance(0.5)
    fields = c.referent(V.DEVICES)
    if fields and c.chance(0.5):
        pronoun = "them" if c.last and c.last[0] == "target" and c.last[2] and c.chance(0.7) else "it"
        words = ["turn {t} on", "switch {t} on"] if on else ["turn {t} off", "switch {t} off", "turn {t} off again", "shut {t} off"]
        return c.rng.choice(words).format(t=pronoun), [{"action": "turn_on" if on else "turn_off", **fields}]
    fields, text = device(c)
    machine = fields["target"] in V.MACHINES and c.chance(0.4)
    if machine and on and fields == {"target": "music"}:
        return c.wording(MUSIC), [{"action": "turn_on", "target": "music"}]
    wording = c.wording((START if on else STOP_MACHINE) if machine else (TURN_ON if on else TURN_OFF), t=text)
    if c.last and c.last[0] == "target" and c.last[2]:
        wording = wording.replace(" is on", " are on").replace(" is off", " are off")
    return wording, [{"action": "turn_on" if on else "turn_off", **fields}]


def switch_statement(c):
    on = c.chance(0.5)
    fields, text = device(c)
    return c.wording(SWITCH_STATEMENT, t=text, s="on" if on else "off"), [{"action": "turn_on" if on else "turn_off", **fields}]


COMPLAINT_OFF = Phrases("{t} is still on, turn it off; {t} is too loud, switch it off; {t} is on, please turn it off; nobody uses {t}, shut it off; I don't need {t} any more, turn it off", "{t} is still on, please switch it off")
COMPLAINT_ON = Phrases("{t} is off, turn it on; {t} is not running, switch it on; I need {t}, turn it on; {t} is off again, please turn it back on", "{t} is off, please switch it on")


def complaint(c):
    on = c.chance(0.5)
    fields, text = device(c)
    if c.last[0] == "target" and c.last[2]:
        return switch_statement(c)
    return c.wording(COMPLAINT_ON if on else COMPLAINT_OFF, t=text), [{"action": "turn_on" if on else "turn_off", **fields}]


SET = Phrases("set {t} to {n}; set {t} to {n}; turn {t} to {n}; adjust {t} to {n}; put {t} on {n}; change {t} to {n}; turn {t} up to {n}; turn {t} down to {n}; put {t} at {n}; bring {t} to {n}; let {t} be at {n}; i want {t} at {n}", "set {t} at {n}; adjust {t} up to {n}")


def setting(c):
    canonical = c.rng.choice(list(V.SETTABLE))
    name = c.name_of(V.SETTABLE, canonical)
    value = c.rng.choice(range(16, 29)) if canonical in ("heater", "ac") else c.rng.choice([120, 150, 160, 180, 200, 220, 250]) if canonical == "oven" else c.rng.choice([1, 2, 3, 4, 5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 100])
    unit = c.rng.choice([" degrees", "", "°", " degrees celsius", "°C"]) if canonical in ("heater", "ac", "oven") else c.rng.choice(["", "%", " percent"])
    fields = {"target": canonical, "value": value}
    text = "the " + name
    if c.chance(0.3):
        room, room_name = c.room()
        fields["room"] = room
        text = f"the {room_name} {name}" if c.chance(0.4) else f"the {name} {c.in_room(room_name, room)}"
    return c.wording(SET, t=text, n=(number(c.rng, value) if unit.startswith(" ") else str(value)) + unit), [{"action": "set", **fields}]


PRESS = Phrases("press {t}; push {t}; hit {t}; press down {t}; press on {t}; tap {t}; flip {t}; click {t}; push down on {t}", "push down {t}; press {t} down")
RING = Phrases("ring {t}; ring {t} once", "go and ring {t}")


def press(c):
    canonical = c.rng.choice(list(V.PRESSABLE))
    name = c.name_of(V.PRESSABLE, canonical)
    fields = {"target": canonical}
    if canonical in ("button", "switch", "lever") and c.chance(0.5):
        fields["color"] = c.rng.choice(list(V.COLORS))
        name = f"{c.name_of(V.COLORS, fields['color'])} {name}"
    phrases = RING if canonical == "doorbell" and c.chance(0.5) else PRESS
    wording = c.wording(Phrases("pull {t}; pull down {t}") if canonical == "lever" and c.chance(0.4) else phrases, t="the " + name)
    if c.chance(0.2):
        fields["count"] = c.rng.randint(2, 6)
        wording += " twice" if fields["count"] == 2 and c.chance(0.6) else f" {number(c.rng, fields['count'])} times"
    return wording, [{"action": "press", **fields}]


PUSH = Phrases("push {o}; give {o} a push; shove {o}; give {o} a shove; give {o} a good push; give {o} a little push", "give {o} a little shove")
PULL = Phrases("pull {o}; drag {o}; tug {o}; pull on {o}; give {o} a tug; tug on {o}; give {o} a little pull", "give {o} a pull; give {o} a little tug")


def push(c):
    pull = c.chance(0.5)
    canonical = c.rng.choice(V.PUSHABLE)
    fields = {"object": canonical}
    text = canonical
    if c.chance(0.3):
        fields["color"] = c.rng.choice(list(V.COLORS))
        text = f"{c.name_of(V.COLORS, fields['color'])} {text}"
    text = "the " + text
    action = {"action": "pull" if pull else "push", **fields}
    wording = c.wording(PULL if pull else PUSH, o=text)
    if c.chance(0.3):
        direction = c.rng.choice(list(DIRECTIONS))
        action["direction"] = direction
        wording += " " + c.rng.choice(DIRECTIONS[direction])
    return wording, [action]


KNOCK = Phrases("knock on {t}; knock at {t}; go knock on {t}; knock {n} times on {t}; knock on {t} {n} times; bang on {t}; bang at {t}; knock at {t} {n} times", "go and knock at {t}; knock {n} times at {t}")


def knock(c):
    canonical = c.rng.choice(["door", "door", "front_door", "window", "gate"])
    fields = {"target": canonical}
    n = c.rng.randint(2, 6)
    text = "the " + c.name_of(V.OPENABLE, canonical)
    if c.chance(0.3) and canonical == "door":
        room, name = c.room()
        fields["room"] = room
        text = f"the {name} door" if c.chance(0.6) else f"the door of the {name}"
    wording = c.wording(KNOCK, t=text, n="\x03")
    if "\x03" in wording:
        wording = wording.replace("\x03", number(c.rng, n))
        fields = {"target": canonical, "count": n, **fields}
    return wording, [{"action": "knock", **fields}]


FIND = Phrases("find {o}; look for {o}; search for {o}; locate {o}; go find {o}; try to find {o}; help me find {o}; find out where {o} is; show me where {o} is; tell me where {o} is; hunt for {o}; see if you can find {o}; go look for {o}; find where {o} is; seek {o}", "go and search for {o}; help me look for {o}; go and look for {o}; go locate {o}")
WHERE = Phrases("where is {o}; where's {o}; do you know where {o} is; where did I leave {o}; have you seen {o}; can you see {o}; I can't find {o}; I lost {o}; I am looking for {o}; where did I put {o}", "do you see {o}; I'm looking for {o}; any idea where {o} is")


def find(c, phrases=FIND):
    if c.chance(0.17):
        canonical, text = c.person_name(user=False, pets=True)
        fields = {"target": canonical}
        key = canonical
    else:
        text, fields, plural = c.thing(plural=False)
        key = fields["object"]
        c.found.append(key)
        if plural:
            text += "\x03"
    wording = c.wording(phrases, o=text)
    wording = re.sub("where is (.*)\x03", r"where are \1", wording)
    wording = re.sub("where's (.*)\x03", r"where are \1", wording)
    wording = re.sub("\x03 is", " are", wording).replace("\x03", "")
    action = {"action": "find", **fields}
    if c.chance(0.25):
        room, name = c.combination(lambda: ((x := c.room()), ("find", key, x[0])))
        action["room"] = room
        wording += " " + c.in_room(name, room)
    return wording, [action]


PRESENCE = Phrases("check if {p} is {w}; see if {p} is {w}; check whether {p} is {w}; go see if {p} is {w}; find out if {p} is {w}", "go check if {p} is {w}; see whether {p} is {w}")
IS_THERE = Phrases("is {p} {w}; do you see {p} {w}; do you know if {p} is {w}", "can you see {p} {w}; is {p} still {w}")


def presence(c, phrases=PRESENCE):
    canonical, text = c.person_name(user=False, pets=True)
    if text in ("him", "her", "them"):
        canonical, text = "anna", "anna" if c.lower else "Anna"
    room, name = c.room()
    wording = c.wording(phrases, p=text, w=c.in_room(name, room))
    if canonical in ("kids", "guests"):
        wording = wording.replace(f"{text} is ", f"{text} are ").replace(f"is {text}", f"are {text}")
    return wording, [{"action": "find", "target": canonical, "room": room}]


def is_there(c):
    return presence(c, IS_THERE)


def where(c):
    return find(c, WHERE)


LOOK = Phrases("look at {x}; take a look at {x}; have a look at {x}; watch {x}; inspect {x}; examine {x}; face {x}; look towards {x}; point your camera at {x}; observe {x}; stare at {x}; keep an eye on {x}; gaze at {x}; look toward {x}; look over at {x}; turn your camera to {x}; aim your camera at {x}; direct your eyes to {x}; keep looking at {x}", "have a good look at {x}; point the camera at {x}")
PHOTO = Phrases("take a photo of {x}; take a picture of {x}; photograph {x}; snap a picture of {x}; take a snapshot of {x}; make a photo of {x}; get a picture of {x}; take a pic of {x}", "snap a photo of {x}; get a photo of {x}")


def look(c):
    photo = c.chance(0.45)
    r = c.rng.random()
    if r < 0.35:
        canonical, text = c.person_name(pets=True)
        fields = {"target": canonical}
    elif r < 0.6:
        canonical = c.rng.choice(list(V.FURNITURE) + ["door", "window"])
        text, fields = "the " + c.name_of(V.FURNITURE if canonical in V.FURNITURE else V.OPENABLE, canonical), {"target": canonical}
    elif r < 0.7 and photo:
        canonical, name = c.room()
        text, fields = "the " + name, {"target": canonical}
    else:
        text, found, _ = c.object_or_it(0.7)
        found = dict(found)
        fields = {"target": found.pop("object"), **found}
    return c.wording(PHOTO if photo else LOOK, x=text), [{"action": "photo" if photo else "look_at", **fields}]


SCAN = Phrases("look around; scan the area; scan the room; have a look around; look around you; survey the area; take a look around; scan your surroundings; check your surroundings; explore; look all around; check the area", "scan around; survey your surroundings; check the surroundings")
SCAN_ROOM = Phrases("scan {x}; look around {x}; check {x}; search {x}; inspect {x}; patrol {x}; have a look around {x}; look around in {x}; check out {x}; explore {x}; survey {x}; look into {x}; go check {x}; take a look around {x}; have a look in {x}; see what is in {x}; guard {x}", "go scan {x}; go and check {x}; take a look in {x}; go and explore {x}")


SCAN_FURNITURE = Phrases("look {r} {x}; check what is {r} {x}; tell me what is {r} {x}; search {r} {x}; see what is {r} {x}; look what is {r} {x}; check {r} {x}; have a look {r} {x}", "tell me what's {r} {x}; take a look {r} {x}; see what's {r} {x}")
SCAN_BEHIND = Phrases("look {r} {x}; check {r} {x}; search {r} {x}; see what is {r} {x}; have a look {r} {x}", "take a look {r} {x}")
WHAT_IS = Phrases("what is {r} {x}; what's {r} {x}; who is {r} {x}; is anyone {r} {x}; what do we have {r} {x}; is there anything {r} {x}; what do you see {r} {x}", "anything {r} {x}; is anybody {r} {x}; what can you see {r} {x}")


def what_is(c):
    if c.chance(0.5):
        room, name = c.room()
        return c.wording(WHAT_IS, r="in", x="the " + name), [{"action": "scan", "target": room}]
    relation = c.rng.choice(["in", "on", "under"])
    canonical = c.rng.choice(V.CONTAINERS if relation == "in" else V.SURFACES)
    return c.wording(WHAT_IS, r=relation, x="the " + c.name_of(V.FURNITURE, canonical)), [{"action": "scan", "relation": relation, "target": canonical}]


def scan(c):
    if c.chance(0.35):
        return c.wording(SCAN), [{"action": "scan"}]
    if c.chance(0.35):
        relation = c.rng.choice(["in", "in", "on", "under", "behind"])
        canonical = c.rng.choice(V.CONTAINERS if relation == "in" else V.SURFACES)
        name = c.name_of(V.FURNITURE, canonical)
        return c.wording(SCAN_FURNITURE if relation in ("in", "on") else SCAN_BEHIND, r=c.rng.choice(RELATIONS[relation][:1] + ["inside"] if relation == "in" else RELATIONS[relation][:1]), x="the " + name), [{"action": "scan", "relation": relation, "target": canonical}]
    room, name = c.room()
    return c.wording(SCAN_ROOM, x="the " + name), [{"action": "scan", "target": room}]


FOLLOW = Phrases("follow {p}; go with {p}; come with {p}; follow {p} around; stay with {p}; walk behind {p}; accompany {p}; tag along with {p}; stay close to {p}; track {p}; go after {p}; stick with {p}; keep following {p}; walk with {p}; tail {p}; trail {p}; keep close to {p}", "stick close to {p}; stay behind {p}; go along with {p}")


def follow(c):
    canonical, name = c.person_name(pets=True)
    c.placed = False
    return c.wording(FOLLOW, p=name), [{"action": "follow", "target": canonical}]


GUIDE = Phrases("guide {p} to {x}; lead {p} to {x}; show {p} the way to {x}; take {p} to {x}; bring {p} to {x}; escort {p} to {x}; walk {p} to {x}; accompany {p} to {x}; show {p} to {x}; help {p} get to {x}; walk {p} over to {x}; take {p} over to {x}", "show {p} how to get to {x}; direct {p} to {x}; guide {p} over to {x}")


def guide(c):
    canonical, name = c.person_name()
    room, room_name = c.room()
    c.placed = True
    return c.wording(GUIDE, p=name, x="the " + room_name), [{"action": "guide", "person": canonical, "target": room}]


WAY = Phrases("how do I get to {x}; which way is {x}; how can I get to {x}; where is {x}; I want to go to {x}; take me to {x}; how do we get to {x}; I need to get to {x}; I would like to go to {x}; what is the way to {x}", "I'd like to get to {x}; I need to go to {x}")


def way(c):
    room, name = c.room()
    c.placed = True
    return c.wording(WAY, x="the " + name), [{"action": "guide", "person": "user", "target": room}]


WAIT = Phrases("wait; wait here; wait there; hold on; stay here; stay there; stay; wait a bit; wait a moment; hang on; wait for a moment; stay put; stay where you are; don't move; pause; wait a second; wait a minute please; stand by; remain here", "wait for a bit; pause a moment; remain there; hold on a moment")
WAIT_FOR = Phrases("wait for {n}; wait {n}; wait {n}; pause for {n}; stay there for {n}; stay for {n}; hold on for {n}; stay here for {n}; wait there for {n}; sleep for {n}; stand still for {n}; stay put for {n}; wait about {n}; rest for {n}; wait here for {n}; idle for {n}", "wait around for {n}; stand by for {n}; pause {n}; stand there for {n}")
WAIT_PERSON = Phrases("wait for {p}; wait here for {p}; wait until {p} comes; wait until {p} arrives; wait till {p} comes back; wait until {p} is back; stay here until {p} comes", "wait there for {p}; stay there until {p} arrives; wait until {p} gets here")


def wait(c):
    r = c.rng.random()
    if r < 0.2:
        wording = c.wording(WAIT)
        return wording, [{"action": "wait", "seconds": 60} if "a minute" in wording else {"action": "wait"}]
    if r < 0.35:
        canonical, name = c.person_name()
        wording = c.wording(WAIT_PERSON, p=name)
        if name in ("me", "him", "her", "them") or canonical in ("kids", "guests"):
            wording = {"me": "wait for me", "him": "wait for him", "her": "wait for her", "them": "wait for them"}.get(name, f"wait for {name}")
        return wording, [{"action": "wait", "for": canonical}]
    kind = c.rng.random()
    if kind < 0.55:
        n = c.rng.choice(list(range(2, 21)) + [25, 30, 30, 40, 45, 50, 60, 90, 1, 10, 5])
        unit = c.rng.choice(["seconds", "seconds", "secs", "sec"])
        text, seconds = number(c.rng, n) + " " + (unit if n != 1 else "second"), n
        if n != 1 and c.chance(0.1):
            text = f"{n}s"
    elif kind < 0.93:
        n = c.rng.choice([1, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10, 12, 15, 20, 30, 45])
        text, seconds = number(c.rng, n) + " " + (c.rng.choice(["minutes", "minutes", "mins", "min"]) if n != 1 else "minute"), 60 * n
        if n == 1:
            text = c.rng.choice(["a minute", "one minute", "1 minute", "1 min"])
        if c.chance(0.07):
            text, seconds = "half a minute", 30
    else:
        n = c.rng.choice([1, 1, 2, 3])
        text, seconds = ("an hour" if n == 1 and c.chance(0.5) else number(c.rng, n) + (" hour" if n == 1 else " hours")), 3600 * n
        if c.chance(0.25):
            text, seconds = "half an hour", 1800
    return c.wording(WAIT_FOR, n=text), [{"action": "wait", "seconds": seconds}]


SAY = Phrases("say {t}; say {t}; shout {t}; announce {t}; yell {t}; speak {t}; call out {t}; say out loud {t}; whisper {t}; say loudly {t}; say aloud {t}; please say {t}", "shout out {t}; say out aloud {t}")
SAY_TO = Phrases("say {t} to {p}; say {t} to {p}; tell {p} {t}; shout {t} at {p}; whisper {t} to {p}; yell {t} at {p}", "announce {t} to {p}; shout {t} to {p}")
TELL = Phrases("tell {p} that {t}; tell {p} that {t}; let {p} know that {t}; inform {p} that {t}; announce to {p} that {t}; remind {p} that {t}; say to {p} that {t}; notify {p} that {t}; go tell {p} that {t}; let {p} know {t}; tell {p} {t}; report to {p} that {t}; warn {p} that {t}; give {p} the message that {t}; remind {p} again that {t}", "go and tell {p} that {t}; go and inform {p} that {t}; go let {p} know that {t}")
ASK = Phrases("ask {p} {t}; ask {p} {t}; go ask {p} {t}; find out from {p} {t}; inquire of {p} {t}", "go and ask {p} {t}; go find out from {p} {t}")
GREET = Phrases("greet {p}; say hello to {p}; say hi to {p}", "go greet {p}")


def saying(c):
    """A sentence to be repeated word by word; half of them random, so that copying is what is learned."""
    rng = c.rng
    if rng.random() < 0.4:
        text = rng.choice(V.SAYINGS)
    else:
        pool = V.SAYING_WORDS if rng.random() < 0.4 else ANY_WORDS
        words = [rng.choice(pool) if rng.random() < 0.85 else rng.choice(V.SAYING_WORDS) for _ in range(rng.randint(2, 8))]
        if rng.random() < 0.4:
            words[rng.randrange(len(words))] = pseudo_word(rng)
        if rng.random() < 0.1:
            words[-1] = str(rng.randint(2, 99))
        text = " ".join(words)
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    return text.lower() if c.lower else text


def question_clause(rng):
    r = rng.random()
    if r < 0.4:
        return rng.choice(V.QUESTIONS)
    who = rng.choice(["he", "she", "they", "we", "I", "you", "anyone", "the doctor", "her mother", "his friend"])
    plural = who in ("they", "we", "I", "you")
    tail = " ".join(rng.choice(ANY_WORDS) for _ in range(rng.randint(1, 3)))
    if r < 0.75:
        verb = rng.choice(["want", "need", "like", "know", "see", "remember", "prefer"])
        return f"{rng.choice(['if', 'whether'])} {who} {verb}{'' if plural else 's'} {rng.choice(['some', 'a', 'the', 'my', 'more', 'another', 'any', 'your'])} {tail}"
    return f"{rng.choice(['what', 'where', 'when', 'why', 'how', 'who', 'if', 'which'])} {rng.choice(['the', 'my', 'her', 'his', 'our'])} {tail} {rng.choice(['is', 'was', 'are', 'went', 'will be'])}{rng.choice(['', '', ' now', ' today', ' tomorrow'])}"


def quote(c, text, always=False):
    if always or c.chance(0.5):
        q = c.rng.choice(['"{}"', '"{}"', "'{}'", "“{}”", '"{}!"'] + ([] if always else [": {}"]) if "'" not in text else ['"{}"', '"{}"', "“{}”"])
        return protect(q.format(text))
    return protect(text)


def say(c):
    r = c.rng.random()
    if r < 0.2:
        canonical, name = c.person_name(user=False)
        text = question_clause(c.rng)
        return c.wording(ASK, p=name, t=protect(text)), [{"action": "ask", "text": text, "to": canonical}]
    text = saying(c)
    plain = text.rstrip("!")
    if r < 0.5:
        wording = c.wording(SAY, t=quote(c, text)).replace(" \x01: ", "\x01: ")
        return wording, [{"action": "say", "text": clean_saying(wording, plain)}]
    canonical, name = c.person_name(everyone=True)
    if r < 0.72:
        short = c.rng.choice([s for s in V.SAYINGS if len(s.split()) < 3]) if c.chance(0.6) else None
        wording = c.wording(SAY_TO, t=protect(short) if short else quote(c, text, always=True), p=name)
        return wording, [{"action": "say", "text": short or clean_saying(wording, plain), "to": canonical}]
    if r < 0.77:
        wording = c.wording(GREET, p=name)
        return wording, [{"action": "say", "text": re.search(r"hello|hi\b|$", wording).group() or "hello", "to": canonical}]
    wording = c.wording(TELL, p=name, t=protect(text))
    return wording, [{"action": "say", "text": text, "to": canonical}]


def clean_saying(wording, text):
    """Quoted exclamation marks belong to the text."""
    return text + "!" if f'"{text}!"' in wording else text


GESTURES = {"wave": ("wave; wave your hand; give a wave; give a little wave", "wave at {p}; wave to {p}; wave your hand at {p}; give {p} a wave"), "nod": ("nod; nod your head", "nod at {p}; nod to {p}"), "bow": ("bow; take a bow; bow down", "bow to {p}; bow before {p}"),
            "dance": ("dance; do a dance; do a little dance; dance a bit", "dance for {p}; dance with {p}; do a dance for {p}"), "jump": ("jump; jump up; hop; jump up and down; do a jump", ""), "sit": ("sit; sit down; take a seat; have a seat", ""),
            "stand": ("stand up; get up; stand; rise to your feet", ""), "clap": ("clap; clap your hands; applaud", "clap for {p}; applaud {p}; clap your hands for {p}"), "spin": ("twirl; do a twirl; do a spin; do a pirouette", ""), "point": ("", "point at {p}; point to {p}"), "salute": ("salute; give a salute", "salute {p}"),
            "shake_head": ("shake your head", "shake your head at {p}"), "thumbs_up": ("give a thumbs up; show a thumbs up", "give {p} a thumbs up; show {p} a thumbs up"), "shake_hands": ("", "shake hands with {p}; shake {p}'s hand"), "smile": ("smile", "smile at {p}"),
            "crouch": ("crouch; crouch down; duck; kneel", ""), "lie_down": ("lie down; lay down", ""), "raise_hand": ("raise your hand; raise your arm; put your hand up; lift your arm", "")}
HELD_GESTURES = {"wave": ("wave your hand a bit", "give a wave to {p}"), "dance": ("do a nice dance", "do a little dance for {p}"), "sit": ("please take a seat", ""), "bow": ("", "take a bow for {p}")}
COUNTABLE_GESTURES = ["wave", "nod", "bow", "jump", "clap", "spin", "salute", "shake_head"]


def gesture(c):
    name = c.rng.choice(list(HELD_GESTURES) if c.new_phrasing else list(GESTURES))
    alone, at = HELD_GESTURES[name] if c.new_phrasing else GESTURES[name]
    c.used_new_phrasing |= c.new_phrasing
    action = {"action": "gesture", "name": name}
    if at and (not alone or c.chance(0.5)):
        canonical, person = c.person_name(everyone=True)
        person = "me" if "'s" in at and person in ("him", "her", "them") else person
        if person == "me":
            canonical, at = "user", at.replace("{p}'s", "my")
        text = c.rng.choice(at.split("; ")).format(p=person)
        action["to"] = canonical
    else:
        text = c.rng.choice(alone.split("; "))
    if name in COUNTABLE_GESTURES and c.chance(0.3) and not text.startswith(("give", "do", "take")):
        n = c.rng.randint(2, 10)
        text += " twice" if n == 2 and c.chance(0.6) else f" {number(c.rng, n)} times" if c.chance(0.85) else f" {n}x"
        action["count"] = n
    return text, [action]


CLEAN = Phrases("clean {x}; clean up {x}; wipe {x}; tidy {x}; tidy up {x}; wipe down {x}; wash {x}; dust {x}; scrub {x}; clean {x} up; wipe {x} clean; give {x} a clean; go clean {x}", "go and clean {x}; scrub {x} clean; scrub down {x}")
CLEAN_ROOM = Phrases("clean {x}; clean up {x}; tidy {x}; tidy up {x}; vacuum {x}; sweep {x}; mop {x}; hoover {x}; dust {x}; clean {x} up; go clean {x}; vacuum the floor in {x}; mop the floor in {x}; give {x} a clean; straighten up {x}", "go and clean up {x}; sweep up {x}; go tidy {x}; vacuum clean {x}")


def clean(c):
    if c.chance(0.5):
        room, name = c.room()
        wording = c.wording(CLEAN_ROOM, x="the " + name)
        return wording, [{"action": "clean", "target": "floor", "room": room} if "the floor in" in wording else {"action": "clean", "target": room}]
    canonical = c.rng.choice(list(V.FURNITURE) + ["window", "mirror"])
    table = next(t for t in (V.FURNITURE, V.OPENABLE, V.OBJECTS) if canonical in t)
    fields = {"target": canonical}
    text = "the " + c.name_of(table, canonical)
    if canonical == "floor" and c.chance(0.4):
        return c.rng.choice(["sweep the floor", "mop the floor", "vacuum the floor"]), [{"action": "clean", "target": "floor"}]
    if c.chance(0.25):
        room, room_name = c.room()
        fields["room"] = room
        text = f"the {room_name} {text[4:]}" if c.chance(0.4) else f"{text} {c.in_room(room_name, room)}"
    return c.wording(CLEAN, x=text), [{"action": "clean", **fields}]


CHECK = Phrases("check if {t} {be} {s}; check whether {t} {be} {s}; see if {t} {be} {s}; find out if {t} {be} {s}; go see if {t} {be} {s}; go check if {t} {be} {s}; tell me if {t} {be} {s}; verify that {t} {be} {s}; check that {t} {be} {s}; look if {t} {be} {s}", "see whether {t} {be} {s}; tell me whether {t} {be} {s}; go and see if {t} {be} {s}")
IS_IT = Phrases("{be} {t} {s}; did I leave {t} {s}; do you know if {t} {be} {s}; I wonder if {t} {be} {s}; {be} {t} still {s}; I think I left {t} {s}; I want to know if {t} {be} {s}; did someone leave {t} {s}", "I wonder whether {t} {be} {s}; do you know whether {t} {be} {s}; I think someone left {t} {s}")


def check(c, phrases=CHECK):
    fields = c.referent(V.OPENABLE)
    if fields and phrases is CHECK and c.chance(0.5):
        state = c.rng.choice(["open", "closed", "locked"])
        return c.wording(phrases, t="it", s=state, be="is").replace("it is", c.rng.choice(["it is", "it's"])), [{"action": "check", **{k: v for k, v in fields.items() if k == "target"}, "state": state, **{k: v for k, v in fields.items() if k != "target"}}]
    if c.chance(0.6):
        canonical = c.rng.choice(["door", "window", "front_door", "back_door", "garage_door", "gate", "fridge", "curtains", "closet", "drawer"])
        state = c.rng.choice(["open", "closed", "locked", "open", "shut"] if canonical in V.LOCKABLE else ["open", "closed"])
        table = V.OPENABLE
    else:
        canonical = c.rng.choice(["light", "lamp", "tv", "heater", "fan", "stove", "oven", "ac", "washing_machine", "computer", "faucet", "coffee_machine", "alarm"])
        state = c.rng.choice(["on", "off"])
        table = V.DEVICES
    name = c.name_of(table, canonical)
    fields = {"target": canonical, "state": "closed" if state == "shut" else state}
    text = "the " + name
    if c.chance(0.3):
        room, room_name = c.room()
        fields["room"] = room
        text = f"the {room_name} {name}" if c.chance(0.5) else f"the {name} in the {room_name}"
    return c.wording(phrases, t=text, s=state, be="are" if name.endswith("s") else "is"), [{"action": "check", **fields}]


def is_it(c):
    return check(c, IS_IT)


RETURN = Phrases("come back; come back; return; go back; come back here; return to me; come back to me; get back here; head back; return here; go back to where you started; come back to where I am; get back to me; return to your starting point; go back to the start; walk back; come right back; get back; come straight back; come on back; head back here", "return back here; go back to your starting point; walk back here; come back right away")
CHARGE = Phrases("go charge; charge yourself; go to your charging station; go back to your dock; dock; return to the dock; recharge; go recharge; charge your battery; go home; go to the charger; return to base; go to your docking station; plug yourself in; go charge yourself; head home; return home; get some power; go and charge; go back home; return to your base; go back to base", "head back to your dock; recharge yourself; return to your charging station; drive back to the dock")
STOP = Phrases("stop; stop moving; halt; freeze; stop right there; stop now; stop immediately; abort; cancel; stop what you are doing; stop it; cancel that; emergency stop; stop everything; cease; enough; quit it; stop following me; stop that; never mind; forget it", "halt right there; abort that; cease moving; stop all of it; freeze right there")


def simple(c):
    r = c.rng.random()
    if r < 0.62:
        c.placed = False
        return c.wording(RETURN), [{"action": "return"}]
    return c.wording(CHARGE), [{"action": "charge"}]


def stop(c):
    return c.wording(STOP), [{"action": "stop"}]


def fill_refusal(c, template):
    """Fills a refusal template with English that need not be understood further."""
    rng = c.rng
    noun = lambda: c.name_of(V.OBJECTS, rng.choice(list(V.OBJECTS)))

    def slot(m):
        key = m.group(1)
        if key in ("thing", "thing2"):
            return rng.choice(["the ", "the ", "my ", "this "]) + (rng.choice(list(V.COLORS)) + " " if rng.random() < 0.2 else "") + noun()
        if key == "noun":
            return noun()
        if key == "p":
            return c.person_name(user=False, pets=True)[1]
        if key == "pet":
            return rng.choice(["the dog", "the cat", "my dog", "my cat"])
        if key == "place":
            return "the " + (c.room()[1] if rng.random() < 0.6 else rng.choice(["house", "roof", "city", "moon", "lake", "street", "table", "wall", "neighbor's house", "river"]))
        if key == "uplace":
            return rng.choice(V.UNKNOWN_PLACES)
        if key == "room":
            return "the " + c.room()[1]
        if key == "food":
            return rng.choice(["pasta", "a steak", "pizza", "rice", "some soup", "eggs", "chicken", "a cake", "cookies", "fish", "spaghetti", "potatoes", "a burger", "pancakes", "bread", "noodles"])
        if key == "inert":
            return "the " + rng.choice(["banana", "spoon", "pillow", "apple", "rock", "towel", "potato", "cup", "sock", "hat", "tomato", "fork", "sandwich", "stone", "shirt", "ball", "coin", "carrot", "plate", "blanket", "cookie"])
        if key == "sharp":
            return "the " + rng.choice(["knife", "scissors", "hammer", "saw", "sword", "fork", "kitchen knife", "sharp knife", "screwdriver", "axe", "needle"])
        if key == "heat":
            return "the " + rng.choice(["oven", "microwave", "washing machine", "fire", "freezer", "dryer", "dishwasher"])
        if key == "n":
            return number(rng, rng.randint(2, 12))
        if key == "color":
            return rng.choice(list(V.COLORS))
        if key == "cond":
            return fill_refusal(c, rng.choice(V.CONDITIONS))
        return rng.choice([goto, pick, opening, switching, place, bring, simple, clean])(c)[0]  # {vp}

    return re.sub(r"\{(\w+)\}", slot, template)


def refusal(c):
    """An imperative that cannot or must not be carried out."""
    rng, held = c.rng, c.held_refusal
    r = rng.random()
    if r < 0.2:
        reason, templates = "cannot_fly", V.HELD_FLY if held else V.FLY
    elif r < 0.38:
        reason, templates = "impossible", V.HELD_IMPOSSIBLE if held else V.IMPOSSIBLE
    elif r < 0.6:
        reason, templates = "unsafe", V.HELD_UNSAFE if held else V.UNSAFE
    elif r < 0.68:
        c.refuse("too_heavy")
        heavy = rng.choice(V.HEAVY)
        verbs = ["hand {p} the {h}", "fetch the {h}"] if held else ["pick up the {h}", "lift the {h}", "carry the {h} to the {r}", "bring me the {h}", "pick the {h} up", "lift up the {h}", "grab the {h}", "give {p} the {h}", "get me the {h}", "hold the {h}", "bring the {h} to the {r}", "throw the {h}", "carry the {h}", "take the {h} to {p}", "put the {h} on the {r} table", "lift that {h}", "pick up that {h}"]
        return rng.choice(verbs).format(h=heavy, r=c.room()[1], p=c.person_name()[1]), []
    else:
        reason, templates = "unsupported_action", V.HELD_UNSUPPORTED if held else V.UNSUPPORTED
    c.refuse(reason)
    return fill_refusal(c, rng.choice(templates)), []


def unknown(c):
    """A fine command about a thing that the robot does not know."""
    r = c.rng.random()
    text, _, _ = c.unknown_thing()
    if r < 0.2:
        return c.wording(PICK, o=text), []
    if r < 0.45:
        return c.wording(BRING, o=text, p=c.person_name()[1]), []
    if r < 0.55:
        name, where, _, _ = source(c, {"object": "unknown"})
        return c.wording(BRING_FROM, o=text, p="me", s=name, w=where), []
    if r < 0.65:
        relation, _, name = c.spot()
        return c.wording(PLACE, o=text, r=c.rng.choice(RELATIONS[relation]), s="the " + name), []
    if r < 0.72:
        return c.wording(GIVE, o=text, p=c.person_name()[1]), []
    if r < 0.84:
        return c.wording(FIND, o=text), []
    if r < 0.9:
        return c.wording(OPENING[c.rng.choice(["open", "close"])], t=text), []
    return c.wording(c.rng.choice([TURN_ON, TURN_OFF]), t=text), []


def chatter(c):
    """Not a command at all."""
    c.refuse("not_a_command")
    rng = c.rng
    if c.held_refusal:
        return rng.choice(V.HELD_CHATTER), []
    r = rng.random()
    if r < 0.75:
        return fill_refusal(c, rng.choice(V.CHATTER)), []
    if r < 0.85:
        return " ".join("".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 8))) for _ in range(rng.randint(1, 4))), []
    if r < 0.92:
        return " ".join(pseudo_word(rng) for _ in range(rng.randint(1, 4))), []
    return " ".join(rng.choice(V.SAYING_WORDS) for _ in range(rng.randint(2, 5))), []


IMPERATIVES = [(goto, 12), (move, 5), (turn, 4), (pick, 9), (drop, 2), (place, 10), (give, 6), (bring, 13), (opening, 9), (switching, 9), (setting, 2.5), (press, 2), (push, 1.5), (knock, 1.5), (find, 5), (look, 5), (scan, 4), (follow, 3.5), (wait, 6), (say, 9), (gesture, 5), (clean, 4), (check, 3), (simple, 5), (several, 5), (several_targets, 2.5), (guide, 2.5), (presence, 1)]
STATEMENTS = [(want, 5), (where, 3), (switch_statement, 2), (is_it, 2), (stop, 2.5), (what_is, 2), (is_there, 1), (complaint, 1.5), (way, 1)]

# -- whole commands --------------------------------------------------------------------------------------

OPENERS = ["", "", "", "", "", "", "", "", "please ", "please ", "robot, ", "robot ", "hey, ", "hey robot, ", "hi robot, ", "hello, ", "hello robot, ", "ok ", "okay, ", "ok robot, ", "hey buddy, ", "hey there, ", "well, ", "so ", "alright, ", "now ", "excuse me, ", "yo, ", "umm, ", "listen, ", "dear robot, ", "hi, ",
           "pls ", "quickly ", "just ", "when you have time, ", "if you can, ", "it is cold in here, ", "I'm busy, ", "I am in a hurry, so ", "it's late, ", "since you are free, ", "the guests are coming, ", "my hands are full, ", "I'm tired, ", "it smells in here, ", "we are leaving, ", "I have no time, ", "it's so hot, ", "it is getting dark, ", "your next job: ", "change of plans, ", "thanks, now ", "great, now "]
REQUESTS = ["", "", "", "", "", "", "could you ", "can you ", "could you please ", "can you please ", "would you ", "will you ", "I want you to ", "I'd like you to ", "I need you to ", "i would like you to ", "you should ", "you need to ", "you must ", "you have to ", "go ahead and ", "let's ", "kindly ", "can u ", "could u please ", "be so kind and ", "your task is to ", "try to ", "would you please ", "do me a favor and ",
            "hurry up and ", "I'd appreciate it if you could ", "is it possible for you to ", "I was hoping you could ", "it would be great if you could ", "would you be able to ", "would you kindly ", "carefully ", "please ", "please go and ", "I really need you to ", "you can ", "may I ask you to ", "would it be possible to ", "be nice and ", "I think you should ", "you could ", "can you now ", "please now "]
CLOSERS = [""] * 22 + [" please", ", please", " pls", " now", " quickly", " for me", " for me please", " right now", ", thanks", " thank you", ", ok?", ", would you", " for now", " as well", " too", " immediately", " because I'm tired", ", it's urgent", " so that we can eat", " before it rains", " as soon as possible", " asap", ", I'm in a hurry", " if you don't mind", " if possible", " carefully", " slowly",
           ", it must be there", ", I think I left something there", ", I need it", ", it is important", ", I'm waiting", ", my friends are coming", ", I forgot to do it", " and be quick", " and be careful", ", buddy", ", robot", " and hurry up", ", they should be there", ", I can't find it", ", dinner is in an hour", ", someone could need it", " like yesterday", " and don't be late"]
BREAKS = ["", "", "", ",", ",", ",", ";", ".", ".", ".", "...", " -"]
CONNECTIVES = ["then", "then", "and then", "and then", "and", "and", "after that", "afterwards", "next", "once that is done", "once done", "when you're done", "when you are done", "when that's done", "also", "and also", "finally", "and finally", "lastly", "and after that", "and afterwards", "after this", "later", "and next", "subsequently", "and when you are done", "when finished", "now", "please", "and please", "then please", "plus"]
SYMBOLS = [", ", "; ", ". ", " & ", " -> ", " + ", " > "]


def polite(c, text, actions):
    """Wraps an imperative in a way to ask; some pairs of opener and request are held out."""
    rng = c.rng
    held = c.new_phrasing and rng.random() < 0.5
    for _ in range(200):
        opener, request = rng.choice(OPENERS), rng.choice(REQUESTS)
        if opener and request and reserved("polite", opener, request) == held and not (opener.startswith(("please", "pls")) and "please" in request):
            c.used_new_phrasing |= held
            break
        if not held and not (opener and request):
            break
    closer = rng.choice(CLOSERS)
    if " for me" in closer and actions and actions[-1]["action"] in ("pick", "find", "clean", "gesture") or actions and actions[-1]["action"] in ("say", "ask"):
        closer = ""
    question = request.startswith(("could", "can", "would", "will", "is it", "may"))
    return opener + request + text + closer, question


def join(c):
    """What stands between two steps; some pairs of punctuation and connective are held out."""
    rng = c.rng
    if rng.random() < 0.3:
        return rng.choice(SYMBOLS)
    held = c.new_phrasing and rng.random() < 0.3
    while True:
        mark, word = rng.choice(BREAKS), rng.choice(CONNECTIVES)
        if not mark and word not in ("then", "and", "and then", "and also", "and finally", "and after that", "and afterwards", "and next", "afterwards", "plus", "and please", "and when you are done"):
            continue
        if reserved("join", mark, word) == held:
            c.used_new_phrasing |= held
            break
    if mark.startswith(".") and rng.random() < 0.7:
        word = word[0].upper() + word[1:]
    comma = "," if mark and word.lower() not in ("and", "then", "and then", "also", "and also", "please", "and please", "then please", "now") and rng.random() < 0.6 else ""
    return f"{mark} {word}{comma} "


def join_steps(c, texts):
    """Joins imperative phrases into one text in spoken order."""
    rng = c.rng
    if len(texts) >= 2 and rng.random() < 0.05:
        return " ".join(f"{i}{rng.choice(['.', ')'])} {t}" for i, t in enumerate(texts, 1))
    text = texts[0]
    if len(texts) > 1 and rng.random() < 0.15:
        text = rng.choice(["first ", "first, ", "first of all, "]) + text
    comma_list = len(texts) > 2 and rng.random() < 0.3
    for i, t in enumerate(texts[1:], 1):
        if comma_list:
            between = ", " if i < len(texts) - 1 else rng.choice([" and ", ", and ", ", then ", " and then "])
        elif i == 1 and rng.random() < 0.03:
            between = " before you "
        else:
            between = join(c)
        if between.rstrip().endswith(".") and rng.random() < 0.7:
            t = t[0].upper() + t[1:]
        text += between + t
    return text


def typo(rng, word):
    """One slip of the finger."""
    i = rng.randrange(len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:i] + word[i + 1] + word[i] + word[i + 2:]
    if kind == 1:
        return word[:i] + word[i + 1:]
    if kind == 2:
        return word[:i] + word[i] + word[i:]
    neighbours = {"a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x"}
    return word[:i] + rng.choice(neighbours.get(word[i].lower(), "e")) + word[i + 1:]


def add_typos(rng, text, count):
    words = [m for m in re.finditer(r"[A-Za-z]{4,}", text) if text.count("\x01", 0, m.start()) == text.count("\x02", 0, m.start())]
    for m in sorted(rng.sample(words, min(count, len(words))), key=lambda m: -m.start()):
        word = typo(rng, m.group())
        if word.lower() not in KNOWN_WORDS:
            text = text[:m.start()] + word + text[m.end():]
    return text


def outside_protected(text, function):
    return "".join(part if i % 2 else function(part) for i, part in enumerate(re.split("[\x01\x02]", text)))


def finish(c, text, question, typos):
    """Casing, punctuation and slips."""
    rng = c.rng
    if typos:
        text = add_typos(rng, text, typos)
    if c.lower:
        text = outside_protected(text, str.lower)
        if rng.random() < 0.3:
            text = text.replace("'", "") if "\x01" not in text else text
    else:
        if rng.random() < 0.02 and "\x01" not in text:
            text = text.upper()
        text = text[0].upper() + text[1:] if text[0] != "\x01" else text
    text = text.replace("\x01", "").replace("\x02", "")
    end = "" if c.lower and rng.random() < 0.75 else rng.choice(["?", "?", ""] if question else [".", ".", ".", "", "", "!"])
    if not text.endswith((".", "?", "!", ":)")):
        text += end
    return text


# Imperatives that "go and" cannot precede.
STAYING = set("go come head move walk drive run roll proceed navigate travel get return step turn rotate spin wait stay hold hang pause don't stand from make back dock recharge idle remain sleep rest do give let first i advance approach enter visit lay lie face reverse be".split())


def draw_steps(c, n):
    texts, actions = [], []
    intents, weights = zip(*IMPERATIVES)
    for _ in range(n):
        text, more = c.rng.choices(intents, weights)[0](c)
        if c.chance(0.06) and text.split()[0] not in STAYING:
            text = c.rng.choice(STEP_PREFIXES) + text
        if actions and more and actions[-1]["action"] == "goto" and actions[-1]["target"] in V.ROOMS and len(more) == 1 and more[0]["action"] in ("turn_on", "turn_off", "open", "close", "find", "clean") and "room" not in more[0] and c.chance(0.15):
            text += " there"
        texts.append(text)
        actions += more
    return texts, actions


def negation(c):
    """'do X but don't do Y': what is forbidden yields no action."""
    rng = c.rng
    not_text = rng.choice(["don't {}", "do not {}", "dont {}", "never {}", "please don't {}", "please do not {}"])
    shadow = Command(rng)
    shadow.lower = c.lower
    forbidden = rng.choice([goto, pick, opening, switching, place, give, say, clean, look])(shadow)[0]
    if shadow.refusal or forbidden.startswith(("don't", "from ")):
        shadow = None
        forbidden = "open the door"
    text = not_text.format(forbidden)
    if rng.random() < 0.35:
        return text, []
    steps, actions = draw_steps(c, 1)
    return steps[0] + rng.choice([" but ", ", but ", " and ", ". ", "; "]) + text.replace("please ", ""), actions


def build(rng, new_phrasing=False, new_combination=False, typos=None, refusals=None):
    """One try at a case -> (command, actions, Command), or None where it turned out unusable."""
    c = Command(rng, new_phrasing, new_combination, held_refusal=refusals == "held")
    question = False
    r = rng.random()
    if refusals and r < 0.85 or not refusals and r < 0.14:
        kind = rng.random()
        if kind < 0.16:
            text, actions = chatter(c)
            if rng.random() < 0.1:
                text = rng.choice(["hey robot, ", "robot, "]) + text
            return finish(c, text, rng.random() < 0.3, 0), [], c
        step = unknown if kind < 0.5 else refusal
        texts, actions = [], []
        n = rng.choices([0, 1, 2], [7, 2, 1])[0]
        if n:
            texts, actions = draw_steps(c, n)
        if c.refusal is None or step is unknown and not texts:
            text, _ = step(c)
            texts.insert(rng.randint(0, len(texts)), text)
            if len(texts) > 1 and re.search(r"\b(if|when|every|unless|whenever)\b", text):
                return None
    elif r < 0.17 and not new_combination and not new_phrasing:
        text, actions = negation(c)
        texts = [text]
    elif r < 0.28:
        intents, weights = zip(*STATEMENTS)
        intent = rng.choices(intents, weights)[0]
        text, actions = intent(c)
        question = intent in (where, is_it, what_is, is_there) or text.startswith(("can", "could", "may", "how", "which"))
        if rng.random() < 0.12:
            more, more_actions = draw_steps(c, 1)
            text += rng.choice([". Then ", ". Please ", ", then ", " and then ", ". "]) + more[0]
            actions += more_actions
        elif rng.random() < 0.15:
            text = rng.choice(["hey, ", "robot, ", "hey robot, ", "ok, ", "please, ", "excuse me, "]) + text
        return finish_case(c, text, actions, question, typos)
    else:
        n = rng.choices([1, 2, 3, 4, 5], [40, 30, 17, 8, 5])[0]
        texts, actions = draw_steps(c, n)
        if n == 1 and rng.random() < 0.05:
            # "before you A, B": spoken first, done last.
            first = Command(rng, new_phrasing, new_combination)
            first.lower = c.lower
            first_text, first_actions = rng.choice([opening, switching, wait, say, look])(first)
            if not (first.refusal or c.refusal):
                c.used_new_phrasing |= first.used_new_phrasing
                c.used_new_combination |= first.used_new_combination
                return finish_case(c, rng.choice(["before you {}, {}", "before you {}, please {}"]).format(texts[0], first_text), first_actions + actions, False, typos)
    text = join_steps(c, texts)
    if rng.random() < 0.5:
        text, question = polite(c, text, actions)
    return finish_case(c, text, actions, question, typos)


def finish_case(c, text, actions, question, typos):
    if len(actions) > MAX_ACTIONS:
        return None
    if typos is None:
        typos = c.rng.choices([0, 1, 2, 3], [72, 17, 8, 3])[0]
    return finish(c, text, question, typos), actions, c


def case(rng, kind="train"):
    """A usable case of a kind -> (command, answer as compact JSON)."""
    options = {"train": {}, "phrasing": {"new_phrasing": True, "typos": 0}, "combination": {"new_combination": True, "typos": 0},
               "both": {"new_phrasing": True, "new_combination": True, "typos": 0}, "typos": {"new_phrasing": True, "typos": 2},
               "refusal": {"refusals": "held", "typos": 0}}[kind]
    while True:
        built = build(rng, **options)
        if built is None:
            continue
        text, actions, c = built
        if len(text) > MAX_CHARACTERS or kind in ("phrasing", "both", "typos") and not c.used_new_phrasing or kind in ("combination", "both") and not c.used_new_combination:
            continue
        if kind == "refusal" and c.refusal is None or kind not in ("train", "refusal") and c.refusal:
            continue
        answer = [{"action": "refuse", "reason": c.refusal}] if c.refusal else actions
        return text, json.dumps(answer, separators=(",", ":"), ensure_ascii=False)


def normalized(command):
    """What two commands that differ in casing and final punctuation have in common."""
    return command.lower().strip(" .!?")


HELDOUT = {"phrasing": 120, "combination": 120, "both": 80, "typos": 80, "refusal": 100}


def write_heldout(path, seed):
    with open(path, "w", encoding="utf-8") as out:
        for kind, count in HELDOUT.items():
            rng = random.Random(f"{seed}-{kind}")
            seen = set()
            while len(seen) < count:
                text, answer = case(rng, kind)
                if normalized(text) not in seen:
                    seen.add(normalized(text))
                    out.write(json.dumps({"kind": kind, "command": text, "expected": answer}, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--heldout", metavar="FILE", help="write the held-out cases")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="print N cases")
    parser.add_argument("--kind", default="train", choices=["train", *HELDOUT])
    parser.add_argument("--seed", type=int, default=0, help="0: that of the shipped files")
    args = parser.parse_args()
    if args.heldout:
        write_heldout(args.heldout, args.seed or 20260)
    rng = random.Random(args.seed)
    for _ in range(args.sample):
        print("\t".join(case(rng, args.kind)))


if __name__ == "__main__":
    main()
