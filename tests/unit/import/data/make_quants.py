"""Writes quants.gguf: for each quantised type a tensor of random blocks, and what the gguf package decodes it to.

Run by hand where the file is to change (pip install gguf numpy); tests read only the file it wrote.
usage: make_quants.py OUT.gguf
"""
import sys

import gguf
import numpy

TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208]}  # where a block has its half-precision numbers

random = numpy.random.default_rng(5)
writer = gguf.GGUFWriter(sys.argv[1], "llama")
for name in TYPES:
    kind = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (2, 256 // elements, size), dtype=numpy.uint8)
    for at in HALVES[name]:
        halves = random.normal(0, 0.05, blocks.shape[:2]).astype(numpy.float16)
        blocks[:, :, at:at + 2] = halves[:, :, None].view(numpy.uint8)
    rows = blocks.reshape(2, -1)
    writer.add_tensor(name, rows, raw_dtype=kind)
    writer.add_tensor(name + ".values", gguf.quants.dequantize(rows, kind).astype(numpy.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
