#!/usr/bin/env python3
"""Trains the tokenizer and the robot model, and writes a checkpoint that transformers can read.

  train.py --seconds 240 --out checkpoint
  train.py --seconds 900 --out better --init checkpoint --lr 4e-4    trains a finished model further

The training text is generated while the model trains; the learning rate follows the clock, so that any time given is
used up and ends on fully decayed weights. A GPU is used where there is one.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import generate
from model import CONFIG, Model, load

BOS, END, PAD, USER, ASSISTANT = range(5)
SPECIAL_TOKENS = ["<|bos|>", "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"]
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHAT_TEMPLATE = ("{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
                 "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")
ROW = 257  # tokens of a packed row: 256 inputs and as many targets, one further on
CHUNK = 8000  # cases generated at a time


# -- data ------------------------------------------------------------------------------------------------------------


def prompt(command):
    return f"<|bos|><|user|>{command}<|assistant|>"


def train_tokenizer(path, cases=30000):
    rng = random.Random("tokenizer")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=CONFIG["vocab_size"], special_tokens=SPECIAL_TOKENS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator((text for _ in range(cases) for text in generate.case(rng)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<|bos|> $A", pair="<|bos|> $A $B", special_tokens=[("<|bos|>", BOS)])
    tokenizer.save(str(path))


def pack(sequences):
    """Fills rows with whole sequences, each into the fullest of the open rows that has room."""
    rows, open_rows = [], []
    for sequence in sequences:
        room = [row for row in open_rows if len(row) + len(sequence) <= ROW]
        if room:
            max(room, key=len).extend(sequence)
            continue
        if len(open_rows) == 16:
            fullest = max(open_rows, key=len)
            open_rows.remove(fullest)
            rows.append(fullest)
        open_rows.append(list(sequence))
    return np.array([row + [PAD] * (ROW - len(row)) for row in rows], dtype=np.int16)


def start_worker(tokenizer_path):
    global worker_tokenizer, test_commands
    test_commands = {generate.normalized(json.loads(line)["command"]) for name in ("heldout.jsonl", "by_hand.jsonl")
                     for line in Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()}
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    worker_tokenizer = Tokenizer.from_file(tokenizer_path)


def generate_rows(seed):
    rng = random.Random(f"train-{seed}")
    texts = [prompt(command) + answer + "<|end|>" for command, answer in (generate.case(rng) for _ in range(CHUNK))
             if generate.normalized(command) not in test_commands]
    encodings = worker_tokenizer.encode_batch(texts, add_special_tokens=False)
    return pack([e.ids for e in encodings if len(e.ids) <= ROW])


class Data:
    """Rows on the training device, added to in the background; batches are drawn from all that are there."""

    def __init__(self, tokenizer_path, device, workers, chunks, capacity):
        self.rows = torch.full((capacity, ROW), PAD, dtype=torch.int16, device=device)
        self.count = 0
        self.pool = multiprocessing.get_context("spawn").Pool(workers, start_worker, (str(tokenizer_path),))
        self.thread = threading.Thread(target=self.fill, args=(chunks,), daemon=True)
        self.thread.start()

    def fill(self, chunks):
        for rows in self.pool.imap_unordered(generate_rows, chunks):
            rows = torch.from_numpy(rows)[: len(self.rows) - self.count]
            self.rows[self.count:self.count + len(rows)] = rows.to(self.rows.device)
            self.count += len(rows)

    def batch(self, size):
        index = torch.randint(self.count, (size,), device=self.rows.device)
        return self.rows[index].long()

    def close(self):
        self.pool.terminate()


# -- training --------------------------------------------------------------------------------------------------------


def loss_of(model, rows, prompt_weight, balance_weight):
    tokens, targets = rows[:, :-1], rows[:, 1:]
    in_answer = (tokens == ASSISTANT).cumsum(1) == (tokens == BOS).cumsum(1)
    weight = torch.where(in_answer, 1.0, prompt_weight) * ((targets != PAD) & (targets != BOS))
    logits, balance = model(tokens)
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(weight)
    answer = ((losses * weight) * in_answer).sum() / (weight * in_answer).sum()
    return (losses * weight).sum() / weight.sum() + balance_weight * balance, answer


def train(model, data, args, device, end):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=args.lr, betas=(0.9, 0.98), fused=device == "cuda")
    step_loss = torch.compile(loss_of) if device == "cuda" else loss_of

    def backward(rows):
        with torch.autocast(device, torch.bfloat16):
            loss, answer = step_loss(model, rows, args.prompt_weight, 0.01)
        loss.backward()
        return answer

    while data.count < 4 * args.batch_rows:
        time.sleep(0.1)
    backward(data.batch(args.batch_rows))  # compiles
    model.zero_grad()
    start, step = time.time(), 0
    while (now := time.time()) < end:
        fraction = (now - start) / (end - start)
        rate = args.lr * min(1.0, (step + 1) / args.warmup) * (0.5 + 0.5 * math.cos(math.pi * fraction))
        for group in optimizer.param_groups:
            group["lr"] = rate
        answer = backward(data.batch(args.batch_rows))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % args.log_every == 0:
            print(f"step {step}  {now - start:.0f} s  loss {answer.item():.4f}  rate {rate:.2e}  rows {data.count}", flush=True)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.time() - start
    print(f"{step} steps, {step * args.batch_rows * (ROW - 1) / 1e6:.0f} M tokens in {seconds:.0f} s; {data.count} different rows of {ROW} tokens", flush=True)


# -- the checkpoint --------------------------------------------------------------------------------------------------


def write_checkpoint(model, folder):
    save_file(model.export(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    files = {
        "config.json": CONFIG,
        "generation_config.json": {"bos_token_id": BOS, "do_sample": False, "eos_token_id": END, "max_new_tokens": 256, "pad_token_id": PAD},
        "tokenizer_config.json": {"backend": "tokenizers", "bos_token": "<|bos|>", "eos_token": "<|end|>", "model_max_length": CONFIG["max_position_embeddings"],
                                  "pad_token": "<|pad|>", "padding_side": "left", "tokenizer_class": "TokenizersBackend"},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--init", type=Path, help="checkpoint to start from, tokenizer included")
    parser.add_argument("--first-chunk", type=int, default=0, help="number of the first chunk: other chunks are other cases")
    parser.add_argument("--seconds", type=float, default=240, help="time from start to the finished checkpoint")
    parser.add_argument("--batch-rows", type=int, default=64)
    parser.add_argument("--chunks", type=int, default=600, help=f"chunks of {CHUNK} cases to generate")
    parser.add_argument("--capacity", type=int, default=2_000_000, help="most rows kept")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--prompt-weight", type=float, default=0.05)
    parser.add_argument("--log-every", type=int, default=500)
    args = parser.parse_args()

    end = time.time() + args.seconds - 5
    device = "cuda" if torch.cuda.is_available() else "cpu"
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    if args.init:
        shutil.copy(args.init / "tokenizer.json", args.out)
    else:
        train_tokenizer(args.out / "tokenizer.json")
    data = Data(args.out / "tokenizer.json", device, args.workers, range(args.first_chunk, args.first_chunk + args.chunks), args.capacity)
    model = (load(args.init) if args.init else Model()).to(device)
    print(f"{sum(p.numel() for p in model.parameters())} parameters on {device}", flush=True)
    train(model, data, args, device, end)
    data.close()
    write_checkpoint(model, args.out)
    print(f"wrote {args.out}", flush=True)


if __name__ == "__main__":
    main()
