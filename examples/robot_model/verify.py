#!/usr/bin/env python3
"""Checks that `model.py` and transformers' DeepseekV2ForCausalLM agree on a checkpoint: logits and greedy answers."""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluate import load_cases
from model import load
from train import END, prompt

# The two sum the experts in another order, which shows in bfloat16.
LIMITS = {torch.float32: 1e-3, torch.bfloat16: 3e-2}


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=24)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    cases = load_cases([Path(__file__).with_name("heldout.jsonl")])
    cases = cases[:: max(1, len(cases) // args.cases)][: args.cases]
    ok = True
    for dtype, limit in LIMITS.items():
        ours = load(args.folder).to(dtype).eval()
        theirs = AutoModelForCausalLM.from_pretrained(args.folder, dtype=dtype).eval()
        worst, same = 0.0, 0
        for case in cases:
            ids = tokenizer(prompt(case["command"]), add_special_tokens=False, return_tensors="pt").input_ids
            length = ids.shape[1]
            expected = theirs.generate(ids, max_new_tokens=200, do_sample=False)
            a, b = ours(expected)[0].float(), theirs(expected).logits.float()
            worst = max(worst, ((a - b).norm() / b.norm()).item())
            answer = a[0, length - 1:-1].argmax(-1)
            same += bool((answer == expected[0, length:]).all()) and expected[0, -1].item() == END
        print(f"{dtype}: largest relative error of the logits {worst:.2e} (limit {limit}), {same} of {len(cases)} answers identical", flush=True)
        ok &= worst < limit and same == len(cases)
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": cases[0]["command"]}], tokenize=False, add_generation_prompt=True)
    ok &= rendered == prompt(cases[0]["command"])
    print(json.dumps({"ok": ok, "chat_template": rendered}))
    raise SystemExit(not ok)


if __name__ == "__main__":
    main()
