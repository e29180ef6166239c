#!/usr/bin/env python3
"""Measures exact-match accuracy on the held-out and the hand-written commands.

  evaluate.py --hf checkpoint                          with transformers, in batches
  evaluate.py --dsopt build/dsopt --model robot.dsopt  with the product, one run for each command

Exits with 1 where fewer than 95 of 100 held-out commands are answered exactly.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
THRESHOLD = 0.95
MAX_NEW_TOKENS = 224


def load_cases(paths):
    return [json.loads(line) for path in paths for line in Path(path).read_text(encoding="utf-8").splitlines() if line]


def answers_hf(folder, cases, args):
    """Greedy answers of the bfloat16 weights; they are computed in float32 with --float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32 if args.float32 else torch.bfloat16).to(device).eval()
    # Commands of like length share a batch: little padding, and answers that end together.
    order = sorted(range(len(cases)), key=lambda i: len(cases[i]["expected"]))
    answers = [""] * len(cases)
    for start in range(0, len(order), args.batch):
        group = order[start:start + args.batch]
        prompts = [tokenizer.apply_chat_template([{"role": "user", "content": cases[i]["command"]}], tokenize=False, add_generation_prompt=True) for i in group]
        inputs = tokenizer(prompts, add_special_tokens=False, padding=True, return_tensors="pt").to(device)
        with torch.no_grad():
            output = model.generate(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        for i, tokens in zip(group, output[:, inputs.input_ids.shape[1]:]):
            answers[i] = tokenizer.decode(tokens, skip_special_tokens=True)
    return answers


def answers_dsopt(binary, model, cases, args):
    answers = []
    for case in cases:
        text = f"<|user|>{case['command']}<|assistant|>" if args.raw_prompt else case["command"]
        command = [binary, "run", model, "-p", text, "--temperature", "0", "--json"] + ([] if args.raw_prompt else ["--chat"]) + args.extra
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}\nexited with {done.returncode}: {done.stderr.strip()}")
        answers.append(json.loads(done.stdout)["text"].removesuffix("<|end|>"))
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--hf", metavar="FOLDER", help="checkpoint folder, run with transformers")
    what.add_argument("--dsopt", metavar="BINARY", help="the dsopt command-line tool")
    parser.add_argument("--model", metavar="FILE", help="the .dsopt file (with --dsopt)")
    parser.add_argument("--cases", nargs="+", default=[HERE / "heldout.jsonl", HERE / "by_hand.jsonl"], metavar="JSONL")
    parser.add_argument("--limit", type=int, default=0, help="at most this many cases of each kind")
    parser.add_argument("--raw-prompt", action="store_true", help="format the prompt here instead of passing --chat")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="further arguments of `dsopt run`; must come last")
    parser.add_argument("--batch", type=int, default=100, help="commands in a batch (with --hf)")
    parser.add_argument("--float32", action="store_true", help="compute in float32 (with --hf)")
    parser.add_argument("--show", type=int, default=10, help="print this many wrong answers")
    args = parser.parse_args()
    if args.dsopt and not args.model:
        parser.error("--dsopt needs --model")

    groups = defaultdict(list)
    for case in load_cases(args.cases):
        if not args.limit or len(groups[case["kind"]]) < args.limit:
            groups[case["kind"]].append(case)
    cases = [case for group in groups.values() for case in group]
    answers = answers_hf(args.hf, cases, args) if args.hf else answers_dsopt(args.dsopt, args.model, cases, args)

    right = defaultdict(int)
    wrong = []
    for case, answer in zip(cases, answers):
        if answer == case["expected"]:
            right[case["kind"]] += 1
        else:
            wrong.append((case, answer))
    for case, answer in wrong[:args.show]:
        print(f"[{case['kind']}] {case['command']}\n  expected {case['expected']}\n  answered {answer}")
    print(f"{'kind':<14}{'right':>7}{'cases':>7}{'share':>9}")
    held_right = held_cases = 0
    for kind, group in groups.items():
        print(f"{kind:<14}{right[kind]:>7}{len(group):>7}{right[kind] / len(group):>9.1%}")
        if kind != "by_hand":
            held_right, held_cases = held_right + right[kind], held_cases + len(group)
    if held_cases:
        print(f"{'held out':<14}{held_right:>7}{held_cases:>7}{held_right / held_cases:>9.1%}")
        raise SystemExit(held_right < THRESHOLD * held_cases)


if __name__ == "__main__":
    main()
