"""Checks `dsopt validate` with Transformers: the same windows of the same texts go through Transformers' own tokenizer
and float32 model, and the figures are computed anew with numpy. Needs torch and transformers; no part of the tests.

    dsopt convert FOLDER a.dsopt
    dsopt validate a.dsopt --against FOLDER --reference-precision reference --text TEXT --windows 4 --dump DUMP
    python3 with_transformers.py FOLDER DUMP

Prints two rows: the judged model against Transformers, and our reference against Transformers, whose divergence has to
be rounding only: with --expect-kl X the program fails where its mean exceeds X.
"""
import argparse
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from compare_logits import Comparison  # noqa: E402
from logits_dump import Dump  # noqa: E402


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="Hugging Face folder of the reference")
    parser.add_argument("dump", help="folder that dsopt validate --dump wrote")
    parser.add_argument("--texts", default="", metavar="DIR", help="where relative paths of texts begin")
    parser.add_argument("--skip-tokenizer", action="store_true", help="believe the tokens of the dump")
    parser.add_argument("--expect-kl", type=float, metavar="X", help="fail if our reference is farther away")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.expect_kl is not None and not options.expect_kl >= 0:
        parser.error(f"--expect-kl is {options.expect_kl}, expected 0 or more")
    return options


def check_tokens(tokenizer, dump, base):
    """The texts' ids by Transformers are those of the dump, begin token aside."""
    skip = 1 if dump.about["bos"] >= 0 else 0
    for path, first, windows in dump.text_windows():
        with open(os.path.join(base, path), encoding="utf-8", errors="strict") as file:  # \r\n is \n, as for us
            text = file.read()
        if dump.about["max_chars"]:
            text = text[:dump.about["max_chars"]]
        expected = dump.tokens[first:first + windows, skip:].reshape(-1).tolist()
        found = tokenizer(text, add_special_tokens=False)["input_ids"][:len(expected)]
        if found != expected:
            at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
            raise SystemExit(f"{path}: token {at} of Transformers is {found[at:at + 1]}, of dsopt {expected[at:at + 1]}")


def compare(dump, logits_of):
    """logits_of(ids) -> float32 rows after each id. Figures of the model, and of our reference, against those."""
    model, reference = Comparison(), Comparison()
    for window in range(dump.windows):
        ids = dump.tokens[window]
        truth = logits_of(ids[:-1])
        model.add(dump.model[window], truth, ids[1:])
        reference.add(dump.reference[window], truth, ids[1:])
    return {"model": model.figures(), "reference": reference.figures()}


def main():
    options = parse(sys.argv[1:])
    dump = Dump(options.dump)
    import torch
    import transformers

    if not options.skip_tokenizer:
        check_tokens(transformers.AutoTokenizer.from_pretrained(options.folder), dump, options.texts)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.folder, torch_dtype=torch.float32).eval()

    def logits_of(ids):
        with torch.no_grad():
            return model(torch.tensor(ids.astype("int64"))[None]).logits[0].float().numpy()

    result = compare(dump, logits_of)
    if options.json:
        print(json.dumps(result))
    else:
        for name, figures in result.items():
            print(f"{name:10}", *(f"{key} {value:.6g}" for key, value in figures.items()), sep="  ")
    found = result["reference"]["mean_kl"]
    if options.expect_kl is not None and found > options.expect_kl:
        raise SystemExit(f"our reference is {found:.3g} nats from Transformers, expected at most {options.expect_kl:g}")


if __name__ == "__main__":
    main()
