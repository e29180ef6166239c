"""Reads the folder that `dsopt validate --dump` writes; src/tools/logits_dump.h says what is in it."""
import json
import os

import numpy as np


class Dump:
    def __init__(self, folder):
        with open(os.path.join(folder, "dump.json"), encoding="utf-8") as file:
            self.about = json.load(file)
        rows, vocab = self.about["rows_per_window"], self.about["vocab"]
        self.windows = sum(text["windows"] for text in self.about["texts"])
        self.tokens = self._array(folder, "tokens.i32", "<i4", (self.windows, rows + 1))
        self.model = self._array(folder, "model.f32", "<f4", (self.windows, rows, vocab))
        self.reference = self._array(folder, "reference.f32", "<f4", (self.windows, rows, vocab))

    @staticmethod
    def _array(folder, name, kind, shape):
        path = os.path.join(folder, name)
        expected = int(np.prod(shape, dtype=np.int64)) * 4
        if os.path.getsize(path) != expected:
            raise ValueError(f"{path}: {os.path.getsize(path)} bytes, expected {expected}")
        return np.memmap(path, dtype=kind, mode="r", shape=shape)

    def text_windows(self):
        """(path, index of its first window, number of windows) of each text."""
        first = 0
        for text in self.about["texts"]:
            yield text["text"], first, text["windows"]
            first += text["windows"]
