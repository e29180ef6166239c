"""dsopt validate as its users see it, and its figures against those of numpy (compare_logits.py) from its own dump.

usage: validate_test.py DSOPT_PROGRAM MAKE_MODELS_PROGRAM [unittest arguments]
"""
import html.parser
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.path.join(HERE, "..", "..", "..", "shared", "data", "checkpoints", "llama-12m")
DSOPT = FOLDER = None
SMALL = ["--window", "70", "--windows", "3", "--device", "cpu"]

try:
    import numpy
except ImportError:
    numpy = None


def run(*arguments):
    return subprocess.run([DSOPT, *map(str, arguments)], capture_output=True, timeout=300)


def path(name):
    return os.path.join(FOLDER, name)


class Base(unittest.TestCase):
    def ok(self, *arguments):
        result = run(*arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.decode()

    def validate(self, model, reference, *arguments):
        return json.loads(self.ok("validate", path(model), "--against", path(reference), "--text", path("a.txt"),
                                  *SMALL, "--json", *arguments))

    def fails(self, code, *arguments, says):
        result = run("validate", *arguments)
        message = result.stderr.decode()
        self.assertEqual((result.returncode, result.stdout), (code, b""), message)
        self.assertEqual(message.count("\n"), 1, message)
        for part in says:
            self.assertIn(part, message)


class Figures(Base):
    def test_a_model_against_itself(self):
        out = self.validate("tiny.dsopt", "tiny.dsopt", "--text", path("b.txt"))
        for figures in [out["all"], *out["texts"]]:
            self.assertEqual(figures["perplexity"], figures["reference_perplexity"])
            self.assertEqual((figures["mean_kl"], figures["worst_kl"], figures["largest_logit_error"]), (0, 0, 0))
            self.assertEqual((figures["top1_agreement"], figures["top5_agreement"]), (1, 1))
        self.assertEqual([text["tokens"] for text in out["texts"]], [210, 210])
        self.assertEqual(out["all"]["tokens"], 420)
        self.assertEqual(sum(entry["tokens"] for entry in out["kl_histogram"]), 420)

    def test_perplexity_is_that_of_the_perplexity_command(self):
        for precision in ("fast", "reference"):
            out = self.validate("tiny.dsopt", "other.dsopt", "--precision", precision)["all"]
            for name, key in (("tiny.dsopt", "perplexity"), ("other.dsopt", "reference_perplexity")):
                single = json.loads(self.ok("perplexity", path(name), path("a.txt"), *SMALL, "--precision", precision,
                                            "--json"))
                self.assertEqual(single["tokens"], out["tokens"])
                self.assertAlmostEqual(math.log(single["perplexity"]), math.log(out[key]), delta=2e-6)

    def test_precisions_of_one_model_differ_little(self):
        out = self.validate("tiny.dsopt", "tiny.dsopt", "--reference-precision", "reference")
        self.assertEqual((out["model"]["precision"], out["reference"]["precision"]), ("fast", "reference"))
        self.assertTrue(0 < out["all"]["mean_kl"] < 1e-2, out["all"])
        self.assertGreaterEqual(out["all"]["worst_kl"], out["all"]["mean_kl"])

    @unittest.skipIf(numpy is None, "numpy is absent")
    def test_figures_are_those_of_numpy(self):
        sys.path.insert(0, HERE)
        from compare_logits import Comparison
        from logits_dump import Dump
        out = self.validate("tiny.dsopt", "other.dsopt", "--text", path("b.txt"), "--dump", path("dump"))
        dump = Dump(path("dump"))
        self.assertEqual([text["windows"] for text in dump.about["texts"]], [3, 3])
        total = Comparison()
        for (name, first, windows), text in zip(dump.text_windows(), out["texts"]):
            comparison = Comparison()
            for window in range(first, first + windows):
                for each in (comparison, total):
                    each.add(dump.model[window], dump.reference[window], dump.tokens[window][1:])
            self.same(comparison.figures(), text)
            with open(name, "rb") as file:
                start = file.read().replace(b"\r\n", b"\n")
            self.assertEqual(dump.tokens[first].tolist(), [256, *start[:70]])
        self.same(total.figures(), out["all"])

    def same(self, expected, found):
        for key, value in expected.items():
            self.assertAlmostEqual(found[key], value, delta=1e-6 * max(1, abs(value)), msg=key)

    def test_a_folder_is_converted_and_forgotten(self):
        if not os.path.isdir(SHARED):
            self.skipTest("../shared/data/checkpoints/llama-12m is absent")
        self.ok("convert", SHARED, path("llama.dsopt"))
        os.makedirs(path("temp"), exist_ok=True)
        out = json.loads(self.ok("validate", path("llama.dsopt"), "--against", SHARED, "--text", path("a.txt"), "--window",
                                 "32", "--windows", "2", "--device", "cpu", "--temp-dir", path("temp"), "--json"))
        self.assertEqual((out["all"]["largest_logit_error"], out["reference"]["file"]), (0, SHARED))
        self.assertEqual(os.listdir(path("temp")), [])


class Page(Base):
    def test_page_is_complete_and_refers_to_nothing_outside(self):
        weird = path("a <&\"'> text.txt")
        with open(weird, "w") as file:
            file.write("strange names " * 40)
        self.ok("validate", path("tiny.dsopt"), "--against", path("other.dsopt"), "--text", weird, "--text",
                path("a.txt"), *SMALL, "--html", path("page.html"))
        with open(path("page.html"), encoding="utf-8") as file:
            page = file.read()
        tags, names = [], set()

        class Parser(html.parser.HTMLParser):
            def handle_starttag(self, tag, attributes):
                if tag not in ("meta", "rect", "line", "circle", "polyline"):
                    tags.append(tag)
                names.update(name for name, _ in attributes)

            def handle_startendtag(self, tag, attributes):
                names.update(name for name, _ in attributes)

            def handle_endtag(self, tag):
                if tag not in ("rect",):
                    assert tags.pop() == tag, tag

        Parser().feed(page)
        self.assertEqual(tags, [])
        self.assertEqual(page.count("<svg"), 3)
        self.assertEqual(page.count("<polyline"), 2)
        self.assertGreater(page.count("<circle"), 100)
        self.assertNotIn("://", page)
        self.assertFalse(names & {"src", "href", "xlink:href", "data", "onload"}, names)
        self.assertIn("a &lt;&amp;&quot;&#39;&gt; text.txt", page)
        self.assertNotIn("nan", page.lower().replace("name", ""))


class Usage(Base):
    def test_wrong_calls_are_told(self):
        tiny, other, text = path("tiny.dsopt"), path("other.dsopt"), path("a.txt")
        self.fails(2, tiny, "--text", text, says=["--against"])
        self.fails(2, tiny, "--against", other, says=["--text"])
        self.fails(1, tiny, "--against", path("absent.dsopt"), "--text", text, says=["absent.dsopt"])
        self.fails(1, tiny, "--against", other, "--text", path("absent.txt"), says=["absent.txt"])
        self.fails(1, tiny, "--against", other, "--text", text, "--window", "1", says=["window of 1"])
        self.fails(1, tiny, "--against", other, "--text", text, "--window", "5000", says=["5000", "1024"])
        self.fails(1, tiny, "--against", other, "--text", path("short.txt"), says=["short.txt", "512"])
        self.fails(1, tiny, "--against", FOLDER, "--text", text, says=["config.json"])
        self.fails(1, tiny, "--against", other, "--text", text, *SMALL, "--html", path("no/page"), says=["no/page"])
        self.fails(1, tiny, "--against", other, "--text", text, *SMALL, "--dump", text, says=["a.txt"])

    def test_interrupt_leaves_no_temporary_file(self):
        if not os.path.isdir(SHARED):
            self.skipTest("../shared/data/checkpoints/llama-12m is absent")
        self.ok("convert", SHARED, path("interrupted.dsopt"))
        with open(path("long.txt"), "w") as file:
            file.write("word and " * 40000)
        os.makedirs(path("temp2"), exist_ok=True)
        process = subprocess.Popen([DSOPT, "validate", path("interrupted.dsopt"), "--against", SHARED, "--text",
                                    path("long.txt"), "--windows", "0", "--device", "cpu", "--temp-dir", path("temp2")],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not os.listdir(path("temp2")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, error)
        self.assertEqual(os.listdir(path("temp2")), [])


class Load(Base):
    def test_bench_load(self):
        out = json.loads(self.ok("bench", "--load", path("tiny.dsopt"), "--device", "cpu", "--repeats", "1", "--json"))
        self.assertEqual(out["file_bytes"], os.path.getsize(path("tiny.dsopt")))
        self.assertEqual(out["plain_read_bytes"], out["weight_bytes"])
        for state in ("cold", "warm"):
            times = out[state]
            self.assertGreater(times["load_seconds"], 0)
            self.assertGreater(times["first_token_seconds"], times["load_seconds"])
            self.assertAlmostEqual(times["weights_gb_s"] * times["load_seconds"] * 1e9, out["weight_bytes"],
                                   delta=out["weight_bytes"] * 1e-6)
            self.assertGreater(times["plain_read_gb_s"], 0)
        self.assertEqual(out["warm"]["cached_share"], 1)
        self.assertEqual([name for name in os.listdir(FOLDER) if name.startswith("dsopt-bench")], [])
        text = self.ok("bench", "--load", path("tiny.dsopt"), "--device", "cpu", "--repeats", "1", "--threads", "3")
        self.assertIn("to the first token", text)
        result = run("bench", "--load", path("absent.dsopt"))
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"absent.dsopt", result.stderr)


def main():
    global DSOPT, FOLDER
    DSOPT, make_models = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as FOLDER:
        subprocess.run([make_models, FOLDER], check=True)
        for name, text in (("a.txt", "It is a text.\r\nOf several lines. " * 20), ("b.txt", "Numbers: 1 2 3 4. " * 40),
                           ("short.txt", "short")):
            with open(path(name), "w", newline="") as file:
                file.write(text)
        unittest.main(argv=[sys.argv[0], *sys.argv[3:]])


if __name__ == "__main__":
    main()
