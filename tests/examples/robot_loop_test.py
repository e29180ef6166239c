"""robot_loop_test.py EXECUTABLE MODEL: the robot does what it is told. No timing."""

import os
import re
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

PROGRAM, MODEL = sys.argv[1:3]


def run(*arguments, code=0):
    result = subprocess.run([PROGRAM, "--model", MODEL, *arguments], capture_output=True, text=True, timeout=600)
    if result.returncode != code:
        raise AssertionError(
            f"{arguments}: exit code {result.returncode}, {code} expected\n{result.stdout}{result.stderr}"
        )
    return result.stdout + result.stderr


def fast(*commands, svg=""):
    options = [part for command in commands for part in ("--command", command)]
    return run("--fast", "--ticks", "0", "--no-background", "--svg", svg, *options)


class RobotLoop(unittest.TestCase):
    def expect(self, output, *lines):
        for line in lines:
            self.assertIn(line, output)

    def test_the_robot_reaches_the_kitchen_and_holds_the_cup(self):
        output = fast("go to the kitchen and pick up the red cup")
        self.expect(
            output,
            "robot: in the kitchen, holds red cup",
            "0 collisions",
            "commands: 1 of 1 finished; actions: 2 done, 0 failed",
        )

    def test_the_script_is_carried_out_and_drawn(self):
        with tempfile.TemporaryDirectory() as folder:
            output = fast(svg=os.path.join(folder, "x"))
            world = xml.dom.minidom.parse(os.path.join(folder, "x_world.svg"))
            ticks = xml.dom.minidom.parse(os.path.join(folder, "x_ticks.svg"))
        self.expect(
            output,
            "commands: 12 of 12 finished",
            "0 failed",
            "0 collisions",
            "moved: red cup, now with user",
            "moved: blue book, now with shelf",
            "moved: yellow blanket, now with grandma",
            "moved: orange ball, now with trash_can",
            "refuses: cannot fly",
            "opens the door of the bathroom",
            "holds white milk",
            "robot: in the garage",
        )
        paths = world.getElementsByTagName("polyline")
        self.assertGreaterEqual(len(paths), 8)
        self.assertGreater(sum(len(p.getAttribute("points").split()) for p in paths), 1000)
        self.assertIn(
            "bring me the red cup from the kitchen, then come back",
            [t.firstChild.data for t in world.getElementsByTagName("text")],
        )
        self.assertGreater(len(ticks.getElementsByTagName("rect")), 8)

    def test_what_the_house_does_not_have_is_said_and_the_next_command_is_done(self):
        output = fast("go to the castle", "pick up the unknown thing behind the moon", "go to the office")
        self.expect(
            output, "cannot: there is no castle in this house", "commands: 3 of 3 finished", "robot: in the office"
        )

    def test_commands_come_from_a_file(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("go to the bathroom\n\nturn left\n")
            file.flush()
            output = run("--fast", "--ticks", "0", "--no-background", "--svg", "", "--commands", file.name)
        self.expect(output, "commands: 2 of 2 finished; actions: 2 done, 0 failed", "robot: in the bathroom")

    def test_the_evidence_counts_every_tick(self):
        output = run("--ticks", "100", "--svg", "", "--no-realtime")  # leaves other tests on the machine alone
        sides = re.findall(r"missed ticks (\w+) inference: \d+ of (\d+) \(by the program: \d+\)", output)
        self.assertEqual([side for side, _ in sides], ["without", "with"])
        self.assertEqual(sum(int(count) for _, count in sides), 200)
        self.assertGreater(int(re.search(r"inference: \d+ polls, (\d+) tokens", output).group(1)), 0)
        self.expect(
            output,
            "priority: normal",
            "witness: away ",
            "own work, CPU",
            "release to own work done",
            "poll beyond its budget, CPU",
            "whole tick with inference",
        )

    def test_mistakes_are_typed_and_end_with_one_line(self):
        self.expect(run("--ticks", "many", code=2), "--ticks: 'many', 0 to 10000000 expected")
        self.expect(run("--cpu-variant", "sse9", code=1), "DSOPT_E_")
        self.expect(run("--model", os.path.join("no", "such.dsopt"), code=1), "DSOPT_E_")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]], verbosity=1)
