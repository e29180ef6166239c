#!/usr/bin/env python3
"""Measures dsopt and Hugging Face Transformers on the same model shapes, on one device, in one run, and prints one table.

Both sides have random weights made on the device, Transformers always in bf16: nothing is downloaded. Needs torch,
transformers and a build of dsopt, for a GPU with its CUDA plugin; nothing else may run on the device. The sides run one after the other, never together.

  dsopt       `dsopt bench --json`: batched decode with sampling on the GPU, median of the steps after warm-up
  generate()  Transformers with its dynamic cache and SDPA attention, as most people call it
  compiled    the same with a static cache, whose decode step generate() compiles with torch.compile

A step of Transformers is the time between two calls of a logits processor, after a synchronisation (generate() itself
waits for every token); the median counts. Prefill is the time from the call of generate() to its first logits, the
second of two calls, and only of generate(): what is compiled is the decode step. Both sides pick tokens greedily.
Peak memory on a GPU: dsopt's device bytes as its bench reports them; torch's reserved bytes. Neither has the CUDA context
in it. On the CPU: the most that either process ever had resident, programs and libraries included; the notes say what
dsopt had planned for weights, cache and workspace.

Cases: decode at batch 1 and 32 with 512 tokens in the cache, at batch 1 with 32768, prefill of 8192. A case that a side
cannot do, or not in its time, is shown as "-", and why is said under the table. With the default limits one shape takes
less than 3 minutes: the limit is per side, and what is done by then is kept.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

CASES = [  # name, batch, tokens in the cache, prompt of the prefill measurement
    ("b1", 1, 512, 0),
    ("prefill", 1, 512, 8192),
    ("long", 1, 32768, 0),
    ("b32", 32, 512, 0),
]
ROWS = [
    ("decode, batch 1, 512 tokens (tok/s)", "b1", "decode"),
    ("decode, batch 1, 32768 tokens (tok/s)", "long", "decode"),
    ("decode, batch 32, 512 tokens (tok/s)", "b32", "decode"),
    ("prefill, 8192 tokens (tok/s)", "prefill", "prefill"),
    ("peak memory, batch 1, 512 tokens (GB)", "b1", "memory"),
    ("peak memory, batch 1, 32768 tokens (GB)", "long", "memory"),
]
# As in src/tools/shapes.cc. The keys are Transformers' own.
LLAMA = dict(model_type="llama", rms_norm_eps=1e-5, tie_word_embeddings=False)
SHAPES = {
    "tinyllama-1.1b": dict(LLAMA, num_hidden_layers=22, hidden_size=2048, intermediate_size=5632, vocab_size=32000,
                           num_attention_heads=32, num_key_value_heads=4, rope_theta=1e4),
    "llama-3.2-1b": dict(LLAMA, num_hidden_layers=16, hidden_size=2048, intermediate_size=8192, vocab_size=128256,
                         num_attention_heads=32, num_key_value_heads=8, head_dim=64, rope_theta=5e5,
                         tie_word_embeddings=True),
    "llama-3-8b": dict(LLAMA, num_hidden_layers=32, hidden_size=4096, intermediate_size=14336, vocab_size=128256,
                       num_attention_heads=32, num_key_value_heads=8, rope_theta=5e5),
    "llama-3-70b": dict(LLAMA, num_hidden_layers=80, hidden_size=8192, intermediate_size=28672, vocab_size=128256,
                        num_attention_heads=64, num_key_value_heads=8, rope_theta=5e5),
    "mistral-7b": dict(LLAMA, model_type="mistral", num_hidden_layers=32, hidden_size=4096, intermediate_size=14336,
                       vocab_size=32000, num_attention_heads=32, num_key_value_heads=8, rope_theta=1e4,
                       sliding_window=4096),
    "mixtral-8x7b": dict(LLAMA, model_type="mixtral", num_hidden_layers=32, hidden_size=4096, intermediate_size=14336,
                         vocab_size=32000, num_attention_heads=32, num_key_value_heads=8, rope_theta=1e6,
                         num_local_experts=8, num_experts_per_tok=2, sliding_window=None),
    "deepseek-v2-lite": dict(model_type="deepseek_v2", num_hidden_layers=27, hidden_size=2048, intermediate_size=10944,
                             vocab_size=102400, num_attention_heads=16, num_key_value_heads=16, n_routed_experts=64,
                             num_experts_per_tok=6, moe_intermediate_size=1408, n_shared_experts=2,
                             first_k_dense_replace=1, q_lora_rank=None, kv_lora_rank=512, qk_nope_head_dim=128,
                             qk_rope_head_dim=64, v_head_dim=128, norm_topk_prob=False, topk_method="greedy",
                             rms_norm_eps=1e-6, rope_theta=1e4),
}


# ---- Transformers, in a process of its own: one line of JSON per case as soon as it is measured --------------------

class Clock:
    """A logits processor that notes when each step's logits are there."""

    def __init__(self, wait):
        self.wait, self.times = wait, []

    def __call__(self, _ids, scores):
        self.wait()
        self.times.append(time.perf_counter())
        return scores


def build(torch, transformers, options):
    keys = dict(SHAPES[options.child_shape])
    if options.layers:
        keys["num_hidden_layers"] = options.layers
    keys.update(max_position_embeddings=65536, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    config = transformers.AutoConfig.for_model(keys.pop("model_type"), **keys)
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(options.torch_device):
        model = transformers.AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    return model.to(torch.bfloat16).eval(), config


def run_generate(torch, model, config, options, batch, length, steps):
    """Returns (seconds to the first logits, seconds of each later step)."""
    from transformers import LogitsProcessorList
    cuda = options.torch_device.startswith("cuda")
    clock = Clock(torch.cuda.synchronize if cuda else lambda: None)
    ids = torch.randint(3, config.vocab_size, (batch, length), device=options.torch_device)
    more = {"cache_implementation": "static"} if options.child == "compiled" else {}
    clock.wait()
    start = time.perf_counter()
    with torch.no_grad():
        model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=steps,
                       max_new_tokens=steps, use_cache=True, logits_processor=LogitsProcessorList([clock]), **more)
    return clock.times[0] - start, [b - a for a, b in zip(clock.times, clock.times[1:])]


def child(options):
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    if options.child == "compiled" and not hasattr(transformers.PreTrainedModel, "get_compiled_call"):
        print(json.dumps({"error": f"transformers {transformers.__version__}: generate() does not compile"}), flush=True)
        return
    model, config = build(torch, transformers, options)
    print(json.dumps({"versions": f"torch {torch.__version__}, transformers {transformers.__version__}"}), flush=True)
    cuda = options.torch_device.startswith("cuda")
    for name, batch, context, prompt in CASES:
        if name not in options.cases or (prompt and options.child == "compiled"):
            continue
        result = {"case": name}
        try:
            if cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            if prompt:
                run_generate(torch, model, config, options, 1, prompt, 2)
                first, _ = run_generate(torch, model, config, options, 1, prompt, 2)
                result["prefill"] = prompt / first
            else:
                # The first call compiles, the second has the same lengths.
                run_generate(torch, model, config, options, batch, context, options.steps)
                _, steps = run_generate(torch, model, config, options, batch, context, options.steps)
                # The first steps may still record graphs.
                result["decode"] = batch / statistics.median(steps[len(steps) // 4:])
            if cuda:
                result["memory"] = torch.cuda.max_memory_reserved() * 1e-9
            else:
                result["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-9
        except Exception as error:  # noqa: BLE001: whatever it is, the other cases are still worth measuring
            result["error"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]
        print(json.dumps(result), flush=True)


def transformers_side(options, shape, mode):
    command = [sys.executable, os.path.abspath(__file__), "--child", mode, "--child-shape", shape, "--steps",
               str(options.steps), "--layers", str(options.layers), "--torch-device", options.torch_device, "--cases",
               ",".join(options.cases)]
    results, notes = {}, []
    if shape not in SHAPES:
        return results, ["the shape is not known to this script"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=options.seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        notes.append(f"stopped after {options.seconds} s")
    for line in out.splitlines():
        if not line.startswith("{"):
            continue
        record = json.loads(line)
        if "case" in record:
            results[record["case"]] = record
        notes += [str(record[key]) for key in ("versions", "error") if key in record]
    if process.returncode not in (0, -9) and err.strip():
        notes.append(err.strip().splitlines()[-1][:160])
    return results, notes


# ---- dsopt ----------------------------------------------------------------------------------------------------

def dsopt_side(options, shape, weights):
    results, notes, deadline = {}, [], time.monotonic() + options.seconds
    for name, batch, context, prompt in CASES:
        if name not in options.cases:
            continue
        command = [options.dsopt, "bench", "--shape", shape, "--device", options.device, "--batch", str(batch), "--context",
                   str(context), "--steps", str(options.steps), "--weights", weights, "--json"]
        command += ["--prompt", str(prompt)] if prompt else []
        command += ["--repeats", "1"] if context > 8192 else []
        command += ["--layers", str(options.layers)] if options.layers else []
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            notes.append(f"{name}: stopped after {options.seconds} s")
            break
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 or not lines:
            notes.append(f"{name}: {(done.stderr.strip().splitlines() or ['no output'])[-1][:160]}")
            continue
        record = json.loads(lines[-1])
        on_cpu = record["device"] == "cpu"
        peak = record["peak_host_mb" if on_cpu else "peak_device_mb"]
        results[name] = {"decode": record["decode_tok_s"], "memory": peak * 1e-3}
        if prompt:
            results[name]["prefill"] = record["prefill_tok_s"]
            continue
        notes.append(f"{name}: {record['decode_ms_p50']} ms a step, roof ratio {record['roof_ratio']}, planned "
                     f"{record['peak_device_mb']} MB, on {record['device']}")
    return results, notes


# ---- the table ------------------------------------------------------------------------------------------------

def cell(value):
    return "-" if value is None else f"{value:,.1f}"


def measure_shape(options, shape):
    start = time.monotonic()
    sides = [(f"dsopt {weights}", *dsopt_side(options, shape, weights)) for weights in options.weights]
    ours = len(sides)
    sides += [(mode, *transformers_side(options, shape, mode)) for mode in options.modes]
    print(f"\n## {shape}{f', {options.layers} layers' if options.layers else ''}, {options.device}, random weights\n")
    names = [side[0] for side in sides]
    print("| case | " + " | ".join(names) + f" | {names[0]} / best other |")
    print("|---" * (len(names) + 2) + "|")
    for title, case, key in ROWS:
        if case not in options.cases:
            continue
        values = [results.get(case, {}).get(key) for _, results, _ in sides]
        others = [value for value in values[ours:] if value]
        best = (min if key == "memory" else max)(others) if others else None
        ratio = f"{values[0] / best:.2f}" if best and values[0] else "-"
        print(f"| {title} | " + " | ".join(cell(value) for value in values) + f" | {ratio} |")
    print()
    for name, _, notes in sides:
        for note in dict.fromkeys(notes):
            print(f"- {name}: {note}")
    print(f"- {time.monotonic() - start:.0f} s in all", flush=True)
    return all(results for _, results, _ in sides[:ours])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsopt", default="dsopt", help="the dsopt program (default: from PATH)")
    parser.add_argument("--shapes", default="mistral-7b", metavar="NAME[,NAME]",
                        help="of " + ", ".join(SHAPES) + " (default mistral-7b)")
    parser.add_argument("--device", default="cuda:0", help="of dsopt (default cuda:0)")
    parser.add_argument("--torch-device", default="cuda:0", help="of torch: the same one (default cuda:0)")
    parser.add_argument("--weights", default="bf16", metavar="W[,W]",
                        help="encodings of dsopt's weights, a column each, as of dsopt bench (default bf16)")
    parser.add_argument("--modes", default="generate,compiled", help="of Transformers (default generate,compiled)")
    parser.add_argument("--steps", type=int, default=64, help="decode steps of a case (default 64)")
    parser.add_argument("--layers", type=int, default=0, help="only the first N layers, on both sides (default: all)")
    parser.add_argument("--seconds", type=int, default=55, help="limit of each side of each shape (default 55)")
    parser.add_argument("--cases", default="b1,prefill,long,b32", help="(default b1,prefill,long,b32)")
    parser.add_argument("--child", choices=["generate", "compiled"], help=argparse.SUPPRESS)
    parser.add_argument("--child-shape", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps < 8:
        parser.error("--steps: at least 8 expected")
    options.cases = options.cases.split(",")
    if not set(options.cases) <= {case[0] for case in CASES}:
        parser.error("--cases: b1, prefill, long and b32 expected")
    if options.child:
        child(options)
        return 0
    options.weights = options.weights.split(",")
    options.modes = [mode for mode in options.modes.split(",") if mode]
    for mode in options.modes:
        if mode not in ("generate", "compiled"):
            parser.error(f"--modes: '{mode}' is not generate or compiled")
    measured = [measure_shape(options, shape) for shape in options.shapes.split(",")]
    return 0 if all(measured) else 1


if __name__ == "__main__":
    sys.exit(main())
