"""dsopt convert of GGUF files and quantised checkpoints, as a user sees it. Standard library only.

usage: import_test.py DSOPT_PROGRAM QUANTISED_MODELS_PROGRAM [unittest arguments]
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

DSOPT = MODELS = None


def run(*arguments):
    return subprocess.run([DSOPT, *map(str, arguments)], capture_output=True, timeout=300)


def model(name):
    return os.path.join(MODELS, name)


class Import(unittest.TestCase):
    def ok(self, *arguments):
        result = run(*arguments)
        self.assertEqual(result.returncode, 0, (arguments, result.stderr))
        return result.stdout

    def json(self, *arguments):
        return json.loads(self.ok(*arguments, "--json"))

    def fails(self, *arguments, says=()):
        result = run(*arguments)
        message = result.stderr.decode()
        self.assertEqual(result.returncode, 1, (arguments, message))
        self.assertEqual(message.count("\n"), 1, message)
        for part in says:
            self.assertIn(part, message)

    def test_gguf_becomes_a_model_that_answers(self):
        out = model("mixed.dsopt")
        summary = self.json("convert", model("mixed.gguf"), out)
        self.assertEqual(summary["architecture"], "llama")
        self.assertTrue(summary["tokenizer"])
        self.assertEqual(summary["ignored_tensors"], [])
        forms = {row["from"]: row["to"] for row in summary["forms"]}
        self.assertEqual(forms["Q4_K"], "int4, groups of 32, offsets")
        self.assertEqual(forms["Q4_K beside Q6_K"], "int8, groups of 16, offsets")
        self.assertEqual(forms["Q6_K"], "int8, groups of 16")
        self.assertEqual(sum(row["parameters"] for row in summary["forms"]), summary["parameters"])
        answer = self.json("run", out, "-p", "the", "-n", 4)
        self.assertEqual(answer["prompt_tokens"], 2)
        self.assertEqual(len(answer["token_ids"]), 4)
        self.assertEqual(self.json("run", out, "--chat", "-p", "the", "-n", 4)["token_ids"], answer["token_ids"])

    def test_the_table_says_what_became_of_each_type(self):
        text = self.ok("convert", model("small_llama.gguf"), model("table.dsopt")).decode()
        self.assertIn("stored as", text)
        self.assertRegex(text, r"Q5_1 beside Q4_0 +int8, groups of 32, offsets +1 +512\n")

    def test_every_family_and_method(self):
        for name in ("small_llama.gguf", "small_mixtral.gguf", "small_deepseek.gguf", "gptq", "gptq8", "awq", "fp8"):
            for arguments in ([], ["--dtype", "bf16"], ["--compression", "none"]):
                with self.subTest(name=name, arguments=arguments):
                    out = model("any.dsopt")
                    self.json("convert", model(name), out, *arguments)
                    self.ok("inspect", out)
        forms = self.json("convert", model("gptq"), model("any.dsopt"))["forms"]
        self.assertIn({"from": "gptq 4 bits", "to": "int4, groups of 32, offsets", "tensors": 7, "parameters": 9216},
                      forms)

    def test_dtype_makes_plain_floats(self):
        for row in self.json("convert", model("mixed.gguf"), model("plain.dsopt"), "--dtype", "f16")["forms"]:
            self.assertIn(row["to"], ("f16", "f32"))

    def test_failures_name_the_input_and_leave_no_file(self):
        out = model("failed.dsopt")
        self.fails("convert", model("absent.gguf"), out, says=["DSOPT_E_NOT_FOUND", "absent.gguf"])
        with open(model("mixed.gguf"), "rb") as file:
            content = file.read()
        for name, bytes_, says in (("cut.gguf", content[:-5000], "DSOPT_E_CORRUPT"),
                                   ("text.gguf", b"hello, world", "no GGUF file"),
                                   ("other.gguf", content.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lamma", 1),
                                    "general.architecture is 'lamma'")):
            with self.subTest(name=name):
                with open(model(name), "wb") as file:
                    file.write(bytes_)
                self.fails("convert", model(name), out, says=[name if name == "cut.gguf" else says, says])
                self.assertFalse(os.path.exists(out))
                self.assertFalse(os.path.exists(out + ".part"))


def main():
    global DSOPT, MODELS
    DSOPT = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        MODELS = folder
        subprocess.run([sys.argv[2], folder], check=True)
        unittest.main(argv=sys.argv[:1] + sys.argv[3:])


if __name__ == "__main__":
    main()
