"""game_npc_test.py EXECUTABLE MODEL: every villager finishes its answer and the picture shows it. No timing."""

import os
import re
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

PROGRAM, MODEL = sys.argv[1:3]
NAMES = "Anna Ben Carla David Emma Frank Grace Henry Ivy Jack Kate Leo Mia Noah Olivia Paul".split()


def run(*arguments, code=0, headless=True, **environment):
    mode = ["--headless"] if headless else []
    result = subprocess.run(
        [PROGRAM, *mode, "--model", MODEL, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, **environment},
    )
    if result.returncode != code:
        raise AssertionError(
            f"{arguments}: exit code {result.returncode}, {code} expected\n{result.stdout}{result.stderr}"
        )
    return result.stdout + result.stderr


def read_png(path):
    """Width, height and rows of RGB bytes of a PNG of the filters none and up."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", "not a PNG"
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0], "checksum"
        if kind == b"IHDR":
            width, height = struct.unpack(">II", body[:8])
        if kind == b"IDAT":
            packed += body
        at += 12 + length
    raw, rows, line = zlib.decompress(packed), [], 1 + 3 * width
    for y in range(height):
        kind, row = raw[y * line], raw[y * line + 1 : (y + 1) * line]
        assert kind in (0, 2) and (kind == 0 or not any(row)), "filters: none, or up with no difference"
        rows.append(row if kind == 0 else rows[-1])
    return width, height, rows


class GameNpc(unittest.TestCase):
    def test_every_villager_finishes_its_answer(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "square.png")
            output = run("--fast", "--budget-us", "20000", "--rounds", "1", "--screenshot", path)
            size = os.path.getsize(path)
            width, height, rows = read_png(path)
        said = dict(re.findall(r"^(\w+) +1 answers, (\d+) actions in the last", output, re.M))
        self.assertEqual(sorted(said), NAMES)
        for name, actions in said.items():
            self.assertGreaterEqual(int(actions), 7, f"{name} begins with the seven steps that all were told")
        for line in (
            "Carla   1 answers, 8 actions in the last: ... dance",
            "... give apple (red) to doctor",
            "villagers without an answer: 0; failed answers: 0",
        ):
            self.assertIn(line, output)
        prefix = re.search(
            r"prefix: (\d+) tokens, computed once; forks that share its page: (\d+); cache: at most (\d+) tokens",
            output,
        )
        self.assertGreaterEqual(int(prefix.group(1)), 64, "the prefix fills a page")
        self.assertEqual(int(prefix.group(2)), 16)
        self.assertLess(int(prefix.group(3)), 16 * 64 * 4, "sharing needs less than sixteen whole caches")
        self.assertEqual((width, height), (1440, 872))
        self.assertLess(size, 200_000)
        self.assertGreater(len({row for row in rows}), 200)
        paper = bytes((0xF3, 0xEF, 0xE2))
        self.assertGreater(sum(row.count(paper) for row in rows), 100_000, "bubbles are filled with paper")

    def test_answers_do_not_depend_on_the_processor_variant(self):
        def answers(variant):
            output = run("--fast", "--budget-us", "20000", "--rounds", "1", "--cpu-variant", variant)
            return re.findall(r"^\w+ +\d answers.*$", output, re.M)

        self.assertEqual(answers("scalar"), answers("avx2"))

    def test_the_evidence_counts_every_frame(self):
        output = run("--frames", "120")
        counts = re.findall(r"frame time (with|without) inference, (\d+) frames", output)
        self.assertEqual(counts, [("without", "60"), ("with", "60")])
        self.assertRegex(output, r"p99 frame time rises by -?\d+\.\d+ ms with inference")
        self.assertRegex(output, r"(?m)^poll beyond its budget +0\.000 +0\.000 +0\.000 +0\.000 +\d")

    def test_without_a_display_it_runs_without_a_window(self):
        self.assertIn(
            "no display: running without a window",
            run("--fast", "--frames", "3", headless=False, SDL_VIDEODRIVER="nothing"),
        )
        leaks = "detect_leaks=0"  # of SDL and what it loads, not of ours
        self.assertIn(
            "tokens in 3 frames",
            run("--fast", "--frames", "3", headless=False, SDL_VIDEODRIVER="dummy", ASAN_OPTIONS=leaks),
        )

    def test_mistakes_are_typed_and_said(self):
        self.assertIn("--frames: 'many', 0 to 1000000 expected", run("--frames", "many", code=2))
        self.assertIn("unknown option: --colour", run("--colour", code=2))
        self.assertIn("model: DSOPT_E_", run("--model", os.path.join("no", "such.dsopt"), code=1))
        self.assertIn("variant 'sse9' is unknown", run("--cpu-variant", "sse9", code=1))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]], verbosity=1)
