"""Every subcommand of the dsopt program: help, exit codes, messages, JSON. Standard library only.

usage: cli_test.py DSOPT_PROGRAM MAKE_MODELS_PROGRAM [unittest arguments]
"""
import json
import math
import os
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

DSOPT = MODELS = None
COMMANDS = ["run", "convert", "inspect", "tokenize", "detokenize", "perplexity", "validate", "bench", "doctor", "version"]


def run(*arguments, stdin=None, timeout=300):
    return subprocess.run([DSOPT, *map(str, arguments)], input=stdin, capture_output=True, timeout=timeout)


def model(name):
    return os.path.join(MODELS, name)


class Base(unittest.TestCase):
    def ok(self, *arguments, stdin=None):
        result = run(*arguments, stdin=stdin)
        self.assertEqual(result.returncode, 0, (arguments, result.stderr))
        return result

    def json(self, *arguments, stdin=None):
        """The one object that a --json command prints."""
        result = self.ok(*arguments, "--json", stdin=stdin)
        lines = result.stdout.splitlines()
        self.assertEqual(len(lines), 1, result.stdout)
        return json.loads(lines[0])

    def fails(self, code, *arguments, says=(), stdin=None):
        """Exit code, nothing on stdout, one line on stderr that names the command."""
        result = run(*arguments, stdin=stdin)
        message = result.stderr.decode()
        self.assertEqual(result.returncode, code, (arguments, message))
        self.assertEqual(result.stdout, b"", arguments)
        self.assertEqual(message.count("\n"), 1, message)
        self.assertTrue(message.startswith("dsopt"), message)
        for part in says:
            self.assertIn(part, message)
        return message


class Weights(Base):
    def test_every_encoding_converts_says_what_it_saved_and_runs(self):
        plain = self.json("run", model("tiny.dsopt"), "-p", "a b", "-n", "8", "--temperature", "0", "--device", "cpu")
        for weights in ("lossless12", "int8", "fp8", "int4"):
            with tempfile.TemporaryDirectory() as folder:
                out = os.path.join(folder, "out.dsopt")
                summary = self.json("convert", model("tiny.dsopt"), out, "--weights", weights)
                kinds = {row["kind"]: row for row in summary["policy"]}
                self.assertEqual(kinds["norms, biases, routers, latent k/v up"]["from_bytes"],
                                 kinds["norms, biases, routers, latent k/v up"]["to_bytes"])
                self.assertLess(kinds["attention and mlp"]["to_bytes"], 0.8 * kinds["attention and mlp"]["from_bytes"])
                self.assertTrue(kinds["head"]["to"].startswith("int8" if weights in ("int4", "fp8") else weights))
                table = self.ok("convert", model("tiny.dsopt"), out, "--weights", weights).stdout.decode()
                self.assertIn("saved", table)
                found = self.json("run", out, "-p", "a b", "-n", "8", "--temperature", "0", "--device", "cpu")
                if weights == "lossless12":
                    self.assertEqual(found["text"], plain["text"])

    def test_groups_and_offsets_that_make_no_sense_are_refused(self):
        for arguments, says in ((("--group", "64"), "need --weights"),
                                (("--weights", "int4", "--group", "48"), "groups of 48"),
                                (("--weights", "fp8", "--rounding", "nearest"), "need --calibrate"),
                                (("--weights", "fp8", "--calibrate-windows", "3"), "need --calibrate"),
                                (("--weights", "fp8", "--offsets"), "offsets")):
            self.fails(2, "convert", model("tiny.dsopt"), "never.dsopt", *arguments, says=(says,))

    def test_calibration_rounds_with_compensation_unless_told_not_to(self):
        with tempfile.TemporaryDirectory() as folder:
            text, out = os.path.join(folder, "text.txt"), os.path.join(folder, "out.dsopt")
            with open(text, "w", encoding="utf-8") as file:
                file.write("the robot went to the kitchen and came back. " * 100)
            common = ("convert", model("tiny.dsopt"), out, "--weights", "fp8", "--calibrate", text)
            found = self.json(*common, "--calibrate-windows", "8")["compensated"]
            self.assertGreater(found["rows_compensated"], 0)
            self.assertLessEqual(found["rows_compensated"], found["rows"])
            self.assertLess(found["error_of_nearest"], 1)
            self.assertIn("compensated:", self.ok(*common).stdout.decode())
            self.assertNotIn("compensated", self.json(*common, "--rounding", "nearest"))
            self.json("run", out, "-p", "a b", "-n", "8", "--device", "cpu")


class Help(Base):
    def test_program_help_names_every_command(self):
        for flag in ("--help", "-h", "help"):
            text = self.ok(flag).stdout.decode()
            for command in COMMANDS:
                self.assertIn("\n  " + command + " ", text)

    def test_every_command_has_help(self):
        for command in COMMANDS:
            for flag in ("--help", "-h"):
                result = self.ok(command, flag)
                text = result.stdout.decode()
                self.assertTrue(text.startswith("usage: dsopt " + command), text)
                self.assertIn("--json", text)
                self.assertIn("--help", text)
                self.assertEqual(result.stderr, b"")
                self.assertLessEqual(max(map(len, text.splitlines())), 125)

    def test_help_wins_over_missing_arguments(self):
        self.ok("run", "--help", "--no-such-option")


class Usage(Base):
    def test_command_is_needed_and_known(self):
        self.fails(2, says=["--help"])
        self.fails(2, "frobnicate", says=["frobnicate", "--help"])

    def test_unknown_options_are_named(self):
        for command in COMMANDS:
            self.fails(2, command, "--no-such-option", says=["dsopt " + command, "--no-such-option"])
            self.fails(2, command, "-Z", says=["-Z"])

    def test_values_are_checked(self):
        tiny = model("tiny.dsopt")
        cases = [
            (["run", tiny, "-p"], "needs a value"),
            (["run", tiny, "-p", "a", "-n", "many"], "many"),
            (["run", tiny, "-p", "a", "-n", "-3"], "-3"),
            (["run", tiny, "-p", "a", "--temperature", "warm"], "warm"),
            (["run", tiny, "-p", "a", "--temperature", "nan"], "nan"),
            (["run", tiny, "-p", "a", "--precision", "double"], "reference"),
            (["run", tiny, "-p", "a", "--json=yes"], "takes no value"),
            (["run", tiny, "-p", "a", "--ban", "x"], "x"),
            (["run", tiny, "-p", "a", "--logit-bias", "5"], "5"),
            (["run", tiny, "-p", "a", "--logprobs", "21"], "21"),
            (["run", tiny, "-p", "a", "--system", "b"], "--chat"),
            (["run", tiny, "-p", "a", "--top-k", "4"], "--temperature"),
            (["run", tiny, "-p", "a", "extra"], "extra"),
            (["run", tiny], "--prompt"),
            (["run", tiny, "-p", "a", "--file", "b"], "--file"),
            (["run"], "FILE"),
            (["detokenize", tiny], "missing"),
            (["detokenize", tiny, "5", "x7"], "x7"),
            (["perplexity", tiny], "TEXT"),
            (["bench", "--batch", "0"], "--batch"),
            (["bench", "--context", "8,x"], "x"),
            (["bench", "--steps", "0"], "--steps"),
            (["bench", "--poll-budget", "0"], "--poll-budget"),
            (["convert", "folder"], "OUT"),
            (["convert", "folder", "out", "--level", "99"], "99"),
        ]
        for arguments, says in cases:
            with self.subTest(arguments=arguments):
                self.fails(2, *arguments, says=[says])


class BadFiles(Base):
    """Every command that opens a file says which file is bad and why, in one line."""

    def commands(self, path):
        text = model("text.txt")
        return [["run", path, "-p", "a"], ["inspect", path], ["tokenize", path, "-p", "a"],
                ["detokenize", path, "65"], ["perplexity", path, text]]

    def test_missing_file(self):
        path = model("absent.dsopt")
        for arguments in self.commands(path):
            with self.subTest(arguments=arguments):
                self.fails(1, *arguments, says=["DSOPT_E_", "absent.dsopt"])

    def test_directory(self):
        for arguments in self.commands(MODELS):
            with self.subTest(arguments=arguments):
                self.fails(1, *arguments, says=["DSOPT_E_"])

    def test_empty_and_foreign_files(self):
        for name, content in (("empty.dsopt", b""), ("foreign.dsopt", b"GGUF" + bytes(500))):
            with open(model(name), "wb") as file:
                file.write(content)
            for arguments in self.commands(model(name)):
                with self.subTest(arguments=arguments):
                    self.fails(1, *arguments, says=["DSOPT_E_CORRUPT"])

    def test_truncated_file(self):
        with open(model("tiny.dsopt"), "rb") as file:
            content = file.read()
        with open(model("short.dsopt"), "wb") as file:
            file.write(content[:-1000])
        for arguments in self.commands(model("short.dsopt")):
            with self.subTest(arguments=arguments):
                self.fails(1, *arguments, says=["DSOPT_E_CORRUPT"])

    def test_flipped_header(self):
        with open(model("tiny.dsopt"), "rb") as file:
            content = bytearray(file.read())
        for at in (1, 9, 40, 80, 200):
            broken = bytearray(content)
            broken[at] ^= 0x10
            with open(model("header.dsopt"), "wb") as file:
                file.write(broken)
            for arguments in self.commands(model("header.dsopt")):
                with self.subTest(at=at, arguments=arguments):
                    self.fails(1, *arguments, says=["DSOPT_E_"])

    def test_flipped_weights(self):
        with open(model("tiny.dsopt"), "rb") as file:
            content = bytearray(file.read())
        for share in (0.5, 0.75):
            broken = bytearray(content)
            for i in range(int(len(content) * share), int(len(content) * share) + 256):
                broken[i] ^= 0xFF
            with open(model("weights.dsopt"), "wb") as file:
                file.write(broken)
            self.fails(1, "run", model("weights.dsopt"), "-p", "a", says=["DSOPT_E_CORRUPT"])
            # The header is whole: what needs no weights works.
            self.ok("tokenize", model("weights.dsopt"), "-p", "a")

    def test_missing_text(self):
        self.fails(1, "perplexity", model("tiny.dsopt"), model("absent.txt"), says=["absent.txt"])
        self.fails(1, "run", model("tiny.dsopt"), "--file", model("absent.txt"), says=["absent.txt"])

    def test_unknown_device(self):
        self.fails(1, "run", model("tiny.dsopt"), "-p", "a", "--device", "cuda:77", says=["cuda:77"])

    def test_no_chat_template(self):
        self.fails(1, "run", model("no_template.dsopt"), "-p", "a", "--chat", says=["DSOPT_E_NOT_FOUND"])


class Run(Base):
    def generate(self, *arguments, stdin=None):
        return self.json("run", model("tiny.dsopt"), "--device", "cpu", *arguments, stdin=stdin)

    def test_json_keys(self):
        out = self.generate("-p", "hello", "-n", "12", "--ignore-eos")
        for key in ("text", "token_ids", "finish", "prompt_tokens", "ttft_ms", "decode_tok_s", "device", "precision"):
            self.assertIn(key, out)
        self.assertEqual(out["finish"], "length")
        self.assertEqual(len(out["token_ids"]), 12)
        self.assertEqual(out["prompt_tokens"], 6)  # with BOS
        self.assertGreater(out["ttft_ms"], 0)
        self.assertGreater(out["decode_tok_s"], 0)
        self.assertEqual(out["device"], "cpu")

    def test_text_is_streamed_to_stdout_and_statistics_to_stderr(self):
        out = self.generate("-p", "hello", "-n", "20")
        plain = self.ok("run", model("tiny.dsopt"), "--device", "cpu", "-p", "hello", "-n", "20")
        self.assertEqual(plain.stdout.decode(), out["text"] + "\n")
        self.assertIn("tokens/s", plain.stderr.decode())

    def test_greedy_is_repeatable_and_independent_of_threads(self):
        first = self.generate("-p", "once", "-n", "24", "--temperature", "0")
        for extra in ([], ["--threads", "1"], ["--verify"]):
            self.assertEqual(self.generate("-p", "once", "-n", "24", "--temperature", "0", *extra)["token_ids"],
                             first["token_ids"])

    def test_seeds(self):
        def sample(seed, *extra):
            return self.generate("-p", "once", "-n", "24", "--temperature", "1.5", "--seed", seed, "--ignore-eos",
                                 *extra)["token_ids"]
        self.assertEqual(sample(5), sample(5))
        self.assertNotEqual(sample(5), sample(6))
        filters = ["--top-k", "40", "--top-p", "0.9", "--min-p", "0.01", "--typical-p", "0.95", "--top-n-sigma", "2"]
        self.assertEqual(len(sample(5, *filters)), 24)
        greedy = self.generate("-p", "once", "-n", "24", "--ignore-eos")["token_ids"]
        self.assertEqual(sample(7, "--top-k", "1"), greedy)

    def test_penalties_change_the_text(self):
        plain = self.generate("-p", "aaaa", "-n", "40", "--ignore-eos")["token_ids"]
        for option in (["--repeat-penalty", "1.8"], ["--presence-penalty", "2"],
                       ["--frequency-penalty=2.5", "--penalty-window", "32"]):
            out = self.generate("-p", "aaaa", "-n", "40", "--ignore-eos", *option)["token_ids"]
            self.assertLess(max(map(out.count, out)), max(max(map(plain.count, plain)), 3))

    def test_bans_and_biases(self):
        first = self.generate("-p", "once", "-n", "1", "--ignore-eos")["token_ids"][0]
        self.assertNotEqual(self.generate("-p", "once", "-n", "1", "--ban", first, "--ignore-eos")["token_ids"][0], first)
        out = self.generate("-p", "once", "-n", "3", "--logit-bias", "65=1000", "--ignore-eos")
        self.assertEqual(out["token_ids"], [65, 65, 65])
        self.assertEqual(out["text"], "AAA")
        out = self.generate("-p", "once", "-n", "3", "--logit-bias", "65=1000", "--logit-bias", "66=2000")
        self.assertEqual(out["text"], "BBB")

    def test_stop_strings_and_end_tokens(self):
        out = self.generate("-p", "once", "-n", "9", "--logit-bias", "65=1000", "--stop", "zz", "--stop", "AAAA")
        self.assertEqual((out["finish"], out["text"]), ("stop", ""))
        out = self.generate("-p", "once", "-n", "9", "--logit-bias", "257=1000")
        self.assertEqual((out["finish"], out["token_ids"], out["text"]), ("eos", [257], ""))
        out = self.generate("-p", "once", "-n", "2", "--logit-bias", "257=1000", "--ignore-eos")
        self.assertEqual((out["finish"], out["token_ids"]), ("length", [257, 257]))

    def test_logprobs(self):
        out = self.generate("-p", "once", "-n", "5", "--logprobs", "3", "--ignore-eos")
        self.assertEqual(len(out["logprobs"]), 5)
        for entry, token in zip(out["logprobs"], out["token_ids"]):
            self.assertEqual(entry["id"], token)
            top = [best["logprob"] for best in entry["top"]]
            self.assertEqual(len(top), 3)
            self.assertEqual(sorted(top, reverse=True), top)
            self.assertEqual(entry["top"][0]["id"], token)  # greedy
            self.assertAlmostEqual(entry["logprob"], top[0], places=5)
            self.assertLessEqual(sum(math.exp(value) for value in top), 1.0001)

    def test_prompt_sources(self):
        expected = self.generate("-p", "from somewhere", "-n", "8")["token_ids"]
        with open(model("prompt.txt"), "w") as file:
            file.write("from somewhere")
        self.assertEqual(self.generate("--file", model("prompt.txt"), "-n", "8")["token_ids"], expected)
        self.assertEqual(self.generate("-p", "-", "-n", "8", stdin=b"from somewhere")["token_ids"], expected)

    def test_begin_token_and_special_tokens(self):
        self.assertEqual(self.generate("-p", "abc", "-n", "1")["prompt_tokens"], 4)
        self.assertEqual(self.generate("-p", "abc", "-n", "1", "--raw")["prompt_tokens"], 3)
        self.assertEqual(self.generate("-p", "abc", "-n", "1", "--no-bos")["prompt_tokens"], 3)
        self.assertEqual(self.generate("-p", "<|eot|>", "-n", "1", "--raw")["prompt_tokens"], 7)
        self.assertEqual(self.generate("-p", "<|eot|>", "-n", "1", "--raw", "--special")["prompt_tokens"], 1)
        self.fails(1, "run", model("tiny.dsopt"), "-p", "", "--raw", says=["prompt"])

    def test_chat(self):
        # <|user|>hi<|eot|><|assistant|>: only <|eot|> is a control token of the tiny model
        out = self.generate("-p", "hi", "-n", "1", "--chat")
        self.assertEqual(out["prompt_tokens"], len("<|user|>hi") + 1 + len("<|assistant|>"))
        more = self.generate("-p", "hi", "-n", "1", "--chat", "--system", "be brief")
        self.assertEqual(more["prompt_tokens"] - out["prompt_tokens"], len("<|system|>be brief") + 1)

    def test_engine_options(self):
        for extra in (["--precision", "reference"], ["--kv-dtype", "f32"], ["--cpu-variant", "scalar"],
                      ["--context", "64"]):
            with self.subTest(extra=extra):
                self.assertEqual(len(self.generate("-p", "abc", "-n", "4", "--ignore-eos", *extra)["token_ids"]), 4)
        out = self.generate("-p", "abc", "-n", "400", "--ignore-eos", "--context", "64")
        self.assertEqual((out["finish"], len(out["token_ids"])), ("length", 60))

    def test_interrupt_ends_the_text_and_prints_statistics(self):
        process = subprocess.Popen([DSOPT, "run", model("long.dsopt"), "-p", "a", "-n", "90000", "--ignore-eos"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertTrue(process.stdout.read(1))
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn(b"end: cancelled", error)
        self.assertIn(b"tokens/s", error)

    def test_closed_stdout_is_an_error(self):
        process = subprocess.Popen([DSOPT, "run", model("long.dsopt"), "-p", "a", "-n", "90000", "--ignore-eos"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(timeout=60), 1)
        self.assertIn(b"standard output", error)


class Text(Base):
    def test_tokenize(self):
        tiny = model("tiny.dsopt")
        self.assertEqual(self.json("tokenize", tiny, "-p", "AB"), {"ids": [65, 66]})
        self.assertEqual(self.json("tokenize", tiny, "-p", "AB", "--bos"), {"ids": [256, 65, 66]})
        self.assertEqual(self.json("tokenize", tiny, "-p", "<|eot|>", "--special"), {"ids": [259]})
        self.assertEqual(len(self.json("tokenize", tiny, "-p", "<|eot|>")["ids"]), 7)
        self.assertEqual(self.ok("tokenize", tiny, "-p", "AB").stdout, b"65 66\n")
        self.assertEqual(self.json("tokenize", tiny, "-p", ""), {"ids": []})

    def test_detokenize(self):
        tiny = model("tiny.dsopt")
        self.assertEqual(self.ok("detokenize", tiny, "72", "105").stdout, b"Hi\n")
        self.assertEqual(self.ok("detokenize", tiny, "72,105").stdout, b"Hi\n")
        self.assertEqual(self.json("detokenize", tiny, 72, 105, 259)["text"], "Hi<|eot|>")
        self.assertEqual(self.json("detokenize", tiny, 72, 105, 259, "--skip-special")["text"], "Hi")
        self.assertEqual(self.ok("detokenize", tiny, 195).stdout, b"\xc3\n")  # bytes as they are
        self.assertEqual(self.json("detokenize", tiny, 195)["text"], "\ufffd")
        self.fails(1, "detokenize", tiny, "100000", says=["100000"])

    def test_round_trip(self):
        text = "Grüße, 世界! \U0001F600\n\ttab"
        ids = self.json("tokenize", model("tiny.dsopt"), "-p", "-", stdin=text.encode())["ids"]
        self.assertEqual(self.json("detokenize", model("tiny.dsopt"), *ids)["text"], text)


class Session(Base):
    def test_inspect_says_what_a_session_takes(self):
        bf16 = self.json("inspect", model("tiny.dsopt"), "--session", 100)["session"]
        self.assertEqual((bf16["wanted_tokens"], bf16["tokens"]), (128, 128))
        self.assertEqual(bf16["cache_bytes"], bf16["wanted_cache_bytes"])
        int4 = self.json("inspect", model("tiny.dsopt"), "--session", 100, "--kv-dtype", "int4")["session"]
        self.assertLess(int4["cache_bytes"], 0.5 * bf16["cache_bytes"])
        capped = self.json("inspect", model("tiny.dsopt"), "--session", 100, "--max-cache-bytes",
                           bf16["cache_bytes"] - 1)["session"]
        self.assertEqual((capped["wanted_tokens"], capped["tokens"]), (128, 64))
        self.assertEqual((capped["host_tokens"], capped["host_cache_bytes"]), (0, 0))
        self.assertIn(b"128 tokens", self.ok("inspect", model("tiny.dsopt"), "--session", 100).stdout)
        self.fails(1, "run", model("tiny.dsopt"), "-p", "a", "--context", 100, "--max-cache-bytes", 1000,
                   says=["max_cache_bytes 1000", "2 pages"])


class Perplexity(Base):
    def test_result(self):
        out = self.json("perplexity", model("tiny.dsopt"), model("text.txt"), "--window", 64, "--windows", 5)
        self.assertEqual((out["windows"], out["tokens"]), (5, 320))
        self.assertTrue(1 < out["perplexity"] < 1e5)
        reference = self.json("perplexity", model("tiny.dsopt"), model("text.txt"), "--window", 64, "--windows", 5,
                              "--precision", "reference")
        self.assertAlmostEqual(math.log(out["perplexity"]), math.log(reference["perplexity"]), delta=0.05)
        plain = self.ok("perplexity", model("tiny.dsopt"), model("text.txt"), "--window", 64, "--windows", 5)
        self.assertIn(b"perplexity", plain.stdout)

    def test_cache_types(self):
        arguments = ["perplexity", model("tiny.dsopt"), model("text.txt"), "--window", 64, "--windows", 5]
        exact = self.json(*arguments, "--precision", "reference")
        self.assertEqual(exact["kv_dtype"], "f32")
        self.assertEqual(self.json(*arguments)["kv_dtype"], "bf16")
        for name, delta in (("fp8", 0.05), ("int8", 0.02), ("int4", 0.2)):
            coded = self.json(*arguments, "--precision", "reference", "--kv-dtype", name)
            self.assertEqual(coded["kv_dtype"], name)
            self.assertNotEqual(coded["perplexity"], exact["perplexity"])
            self.assertAlmostEqual(math.log(coded["perplexity"]), math.log(exact["perplexity"]), delta=delta)
        self.fails(2, *arguments, "--kv-dtype", "int3", says=["int3", "int4"])

    def test_window_is_scored_like_run_scores_it(self):
        # The first window of two tokens: -log p(t0 | BOS) and -log p(t1 | BOS t0), from two runs with a bias.
        expected = 0.0
        with open(model("text.txt"), "rb") as file:
            start = file.read(2)
        for i in range(2):
            out = self.json("run", model("tiny.dsopt"), "-p", start[:i].decode(), "-n", 1, "--logprobs", 1,
                            "--logit-bias", f"{start[i]}=100000", "--precision", "reference")
            self.assertEqual(out["token_ids"], [start[i]])
            expected -= out["logprobs"][0]["logprob"] / 2
        out = self.json("perplexity", model("tiny.dsopt"), model("text.txt"), "--window", 2, "--windows", 1,
                        "--precision", "reference")
        self.assertAlmostEqual(math.log(out["perplexity"]), expected, places=4)

    def test_characters_are_code_points(self):
        with open(model("wide.txt"), "w", encoding="utf-8") as file:
            file.write("é" * 100)
        out = self.json("perplexity", model("tiny.dsopt"), model("wide.txt"), "--window", 10, "--windows", 0,
                        "--max-chars", 20)
        self.assertEqual(out["windows"], 4)  # 20 characters are 40 tokens of the tiny model

    def test_text_too_short(self):
        self.fails(1, "perplexity", model("tiny.dsopt"), model("prompt_short.txt"), says=["window"])


class Bench(Base):
    SMALL = ["bench", "--shape", "tinyllama-1.1b", "--layers", 1, "--device", "cpu", "--warmup", 1]

    def test_case(self):
        out = self.json(*self.SMALL, "--steps", 4, "--repeats", 1, "--context", 8)
        for key in ("shape", "dtype", "device", "layers", "batch", "context", "decode_ms_p50", "decode_ms_p99",
                    "decode_tok_s", "prefill_tok_s", "ttft_ms", "bytes_per_step", "read_ceiling_gb_s", "roof_ratio",
                    "peak_host_mb", "peak_device_mb", "cache_tokens", "host_cache_tokens", "host_cache_share"):
            self.assertIn(key, out)
        # one layer: q o 2048x2048, k v 256x2048, three of 5632x2048; norms; the head 32000x2048; all bf16
        weights = 2 * (2 * 2048 * 2048 + 2 * 256 * 2048 + 3 * 5632 * 2048 + 2048 * 3 + 32000 * 2048)
        self.assertAlmostEqual(out["bytes_per_step"], weights + 2 * 2048 + 11 * 2 * 256 * 2, delta=4096)
        self.assertEqual((out["layers"], out["batch"], out["context"]), (1, 1, 8))
        self.assertGreater(out["decode_ms_p99"], 0)
        self.assertGreaterEqual(out["decode_ms_p99"], out["decode_ms_p50"])
        self.assertGreater(out["peak_host_mb"], 100)
        self.assertEqual((out["cache_tokens"], out["host_cache_share"]), (64, 0))

    def test_a_cap_on_all_device_memory(self):
        steps = ["--steps", 1, "--repeats", 0, "--context", 8]
        self.fails(1, *self.SMALL, *steps, "--max-device-bytes", 1000, says=["max_device_bytes 1000, "])
        text = self.ok(*self.SMALL, *steps, "--max-device-bytes", 10**9, "--max-host-cache-bytes", 10**9).stdout
        self.assertIn(b"0.0 % of 64 tokens of cache on the host", text)

    def test_one_line_per_case(self):
        result = self.ok(*self.SMALL, "--steps", 2, "--repeats", 1, "--context", "4,8", "--batch", "1,2", "--json")
        cases = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([(c["batch"], c["context"]) for c in cases], [(1, 4), (1, 8), (2, 4), (2, 8)])

    def test_poll_budget(self):
        out = self.json(*self.SMALL, "--steps", 8, "--context", 16, "--poll-budget", 500, "--calls", 40)
        self.assertEqual((out["poll_budget_us"], out["calls"]), (500, 40))
        self.assertEqual(sum(entry["calls"] for entry in out["histogram"]), 40)
        self.assertGreaterEqual(out["overrun_us_max"], out["overrun_us_p99"])
        self.assertGreaterEqual(out["overrun_us_p99"], out["overrun_us_p50"])

    def test_unknown_shape_names_the_known_ones(self):
        self.fails(1, "bench", "--shape", "gpt-9", says=["gpt-9", "tinyllama-1.1b", "deepseek-v2-lite"])
        self.fails(1, "bench", "--layers", 99, says=["99", "22"])


class Doctor(Base):
    def test_doctor(self):
        out = self.json("doctor")
        self.assertEqual(out["devices"][0]["id"], "cpu")
        self.assertGreater(out["system"]["memory_bytes"], 0)
        self.assertIn("cpu", out["report"])
        self.assertIn("library", out["version"])
        text = self.ok("doctor").stdout.decode()
        self.assertIn("device   cpu", text)
        self.assertIn("memory", text)

    def test_version(self):
        out = self.json("version")
        self.assertEqual(out["program"], out["library"])
        self.assertIn(out["library"], self.ok("version").stdout.decode())
        self.ok("--version")


class Convert(Base):
    """A hand-made Hugging Face folder: one small Llama with a byte-level tokenizer."""

    HIDDEN, INNER, HEADS, VOCAB = 32, 48, 2, 257

    def folder(self):
        folder = tempfile.mkdtemp(dir=MODELS)
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": self.HIDDEN,
                  "intermediate_size": self.INNER, "num_hidden_layers": 1, "num_attention_heads": self.HEADS,
                  "num_key_value_heads": 1, "vocab_size": self.VOCAB, "max_position_embeddings": 128,
                  "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu",
                  "bos_token_id": 256, "eos_token_id": 256, "torch_dtype": "float32"}
        h, i, kv = self.HIDDEN, self.INNER, self.HIDDEN // self.HEADS
        layer = "model.layers.0."
        shapes = {"model.embed_tokens.weight": [self.VOCAB, h], "model.norm.weight": [h],
                  layer + "input_layernorm.weight": [h], layer + "post_attention_layernorm.weight": [h],
                  layer + "self_attn.q_proj.weight": [h, h], layer + "self_attn.k_proj.weight": [kv, h],
                  layer + "self_attn.v_proj.weight": [kv, h], layer + "self_attn.o_proj.weight": [h, h],
                  layer + "mlp.gate_proj.weight": [i, h], layer + "mlp.up_proj.weight": [i, h],
                  layer + "mlp.down_proj.weight": [h, i]}
        header, data = {}, b""
        for name, shape in shapes.items():
            count = math.prod(shape)
            values = [1.0] * count if len(shape) == 1 else [math.sin(k * 12.9898 + len(data)) for k in range(count)]
            raw = struct.pack(f"<{count}f", *values)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(header).encode()
        self.write(folder, "model.safetensors", struct.pack("<Q", len(text)) + text + data)
        self.write(folder, "config.json", json.dumps(config).encode())
        self.write(folder, "tokenizer.json", json.dumps(self.tokenizer()).encode())
        return folder

    def write(self, folder, name, content):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)

    def tokenizer(self):
        # The printable alphabet of byte-level BPE, as GPT-2 defines it.
        bytes_ = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
        letters = {byte: chr(byte) for byte in bytes_}
        for byte in range(256):
            if byte not in letters:
                letters[byte] = chr(256 + len(letters) - len(bytes_))
        vocab = {letters[byte]: byte for byte in range(256)}
        vocab["<|end|>"] = 256
        added = {"id": 256, "content": "<|end|>", "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": True}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [added], "normalizer": None,
                "pre_tokenizer": byte_level, "post_processor": byte_level, "decoder": byte_level,
                "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                          "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
                          "merges": []}}

    def test_convert_inspect_run(self):
        folder, out = self.folder(), model("converted.dsopt")
        summary = self.json("convert", folder, out)
        self.assertEqual(summary["architecture"], "llama")
        self.assertEqual(summary["tensors"], 11)
        info = self.json("inspect", out)
        self.assertEqual((info["architecture"], info["hidden"], info["vocab"]), ("llama", self.HIDDEN, self.VOCAB))
        self.assertTrue(info["tie_embeddings"])
        self.assertIn(b"llama", self.ok("inspect", out).stdout)
        self.assertEqual(self.json("tokenize", out, "-p", "Hi é")["ids"], list("Hi é".encode()))
        text = self.json("run", out, "-p", "Hi", "-n", 8, "--ignore-eos")
        self.assertEqual(len(text["token_ids"]), 8)
        # uncompressed and zstd files are the same model
        self.json("convert", folder, out + "2", "--compression", "none")
        self.assertEqual(self.json("run", out + "2", "-p", "Hi", "-n", 8, "--ignore-eos")["token_ids"],
                         text["token_ids"])

    def test_failures_leave_no_file(self):
        out = model("never.dsopt")
        self.fails(1, "convert", model("no_such_folder"), out, says=["DSOPT_E_"])
        folder = self.folder()
        with open(os.path.join(folder, "model.safetensors"), "r+b") as file:
            file.truncate(4000)
        self.fails(1, "convert", folder, out, says=["DSOPT_E_"])
        folder = self.folder()
        os.remove(os.path.join(folder, "config.json"))
        self.fails(1, "convert", folder, out, says=["config.json"])
        self.assertEqual([name for name in os.listdir(MODELS) if name.startswith("never")], [])


def main():
    global DSOPT, MODELS
    DSOPT, maker = sys.argv[1:3]
    with tempfile.TemporaryDirectory(prefix="dsopt_cli_") as MODELS:
        subprocess.run([maker, MODELS], check=True)
        with open(model("text.txt"), "w") as file:
            file.write("The cat sat on the mat; the dog ran after it. " * 40)
        with open(model("prompt_short.txt"), "w") as file:
            file.write("short")
        unittest.main(argv=[sys.argv[0], *sys.argv[3:]])


if __name__ == "__main__":
    main()
