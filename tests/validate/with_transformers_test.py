"""The parts of with_transformers.py that need no Transformers: its arguments and its arithmetic."""
import contextlib
import io
import json
import os
import sys
import tempfile
import unittest

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is absent")
    sys.exit(77)

import with_transformers
from compare_logits import Comparison, log_softmax, top_ids
from logits_dump import Dump


class Arguments(unittest.TestCase):
    def test_values(self):
        options = with_transformers.parse(["folder", "dump", "--expect-kl", "1e-6", "--json"])
        self.assertEqual((options.folder, options.dump, options.expect_kl, options.json), ("folder", "dump", 1e-6, True))
        self.assertFalse(options.skip_tokenizer)

    def test_errors(self):
        for arguments in ([], ["folder"], ["folder", "dump", "--expect-kl", "-1"], ["folder", "dump", "--expect-kl", "x"]):
            with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit) as caught:
                with_transformers.parse(arguments)
            self.assertEqual(caught.exception.code, 2)


class Arithmetic(unittest.TestCase):
    def test_by_hand(self):
        comparison = Comparison()
        reference, model = np.log([[4.0, 2, 2]]), np.log([[2.0, 4, 2]])
        comparison.add(model, reference, [1])
        figures = comparison.figures()
        self.assertAlmostEqual(figures["perplexity"], 2)
        self.assertAlmostEqual(figures["reference_perplexity"], 4)
        self.assertAlmostEqual(figures["perplexity_change_percent"], -50)
        self.assertAlmostEqual(figures["mean_kl"], 0.25 * np.log(2))
        self.assertAlmostEqual(figures["largest_logit_error"], np.log(2))
        self.assertEqual((figures["top1_agreement"], figures["top5_agreement"], figures["tokens"]), (0, 1, 1))

    def test_large_logits_and_ties(self):
        self.assertTrue(np.isfinite(log_softmax([[1e4, -1e4]])).all())
        self.assertEqual(top_ids([[1, 3, 3, 2]], 3).tolist(), [[1, 2, 3]])

    def test_what_cannot_be_compared(self):
        for logits, following in ((np.zeros((2, 3)), [0]), (np.full((1, 3), np.nan), [0])):
            with self.assertRaises(ValueError):
                Comparison().add(logits, np.zeros_like(logits), following)


class WholeDump(unittest.TestCase):
    def test_compare(self):
        rng = np.random.default_rng(1)
        with tempfile.TemporaryDirectory() as folder:
            about = {"vocab": 7, "bos": 1, "rows_per_window": 4, "window": 4, "max_chars": 0,
                     "texts": [{"text": "x", "windows": 2}, {"text": "y", "windows": 1}]}
            with open(os.path.join(folder, "dump.json"), "w") as file:
                json.dump(about, file)
            rng.integers(0, 7, (3, 5)).astype("<i4").tofile(os.path.join(folder, "tokens.i32"))
            truth = rng.normal(size=(3, 4, 7)).astype("<f4")
            truth.tofile(os.path.join(folder, "reference.f32"))
            (truth + np.float32(0.5)).tofile(os.path.join(folder, "model.f32"))
            dump = Dump(folder)
            self.assertEqual(list(dump.text_windows()), [("x", 0, 2), ("y", 2, 1)])
            given = iter(truth)
            result = with_transformers.compare(dump, lambda ids: next(given))
            self.assertEqual(result["reference"]["largest_logit_error"], 0)
            self.assertAlmostEqual(result["model"]["largest_logit_error"], 0.5, places=6)
            self.assertAlmostEqual(result["model"]["mean_kl"], 0, places=12)
            self.assertEqual(result["model"]["tokens"], 12)
            with open(os.path.join(folder, "model.f32"), "ab") as file:
                file.write(b"more")
            with self.assertRaises(ValueError):
                Dump(folder)


if __name__ == "__main__":
    unittest.main()
