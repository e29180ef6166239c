# A tour in cells, for an editor that knows "# %%" (VS Code, Spyder, PyCharm, jupytext), or from top to bottom:
#     PYTHONPATH=build/release/bindings/python/stage python3 examples/python_notebook_style/tour.py [MODEL.dsopt]
# Chat with streaming, Ctrl-C, statistics, and a look at the logits. In a terminal it ends with a chat of your own.

# %% A model
import math
import pathlib
import signal
import sys
import time

import dsopt

here = pathlib.Path(__file__).parent if "__file__" in globals() else pathlib.Path.cwd()
path = sys.argv[1] if len(sys.argv) == 2 else here.parent / "robot_model" / "robot.dsopt"

model = dsopt.Model(path)
info = model.info
print(f"{info.architecture}, {info.parameter_count:,} parameters, {info.weight_bytes / 1e6:.1f} MB on {info.device}")

# %% The short way
print(model.chat("go to the kitchen"))

# %% Streaming, Ctrl-C, statistics
# Streams an answer and prints what it cost. Ctrl-C (in a notebook: the stop button) ends the answer, not the program;
# what has been said stays. The session holds the cache: one for all answers, and the stream is rewound for each.
session = model.session(max_tokens=512)
stream = session.stream()


def say(command, *, stop_after=None, **options):
    """Streams the answer and returns its text. stop_after: presses Ctrl-C by itself after so many pieces."""
    before, began, first, pieces = session.stats, time.perf_counter(), None, []
    stream.rewind(0)
    stream.append(model.format_chat(command), special=True, bos=False)
    stream.generate(**options)
    try:
        for piece in stream:
            first = first or time.perf_counter()
            pieces.append(piece)
            print(piece, end="", flush=True)
            if len(pieces) == stop_after:
                signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        stream.cancel()
        session.run()  # the cancellation takes effect at the next poll
        while stream.read() is not None:  # what came before it, and the end
            pass
    after = session.stats
    tokens, decode_us = after.decode_tokens - before.decode_tokens, after.decode_us - before.decode_us
    speed = f"{tokens / decode_us * 1e6:.0f} tokens/s" if decode_us else "-"
    latency = f"{(first - began) * 1e3:.1f} ms" if first else "-"
    print(
        f"\n  [{stream.finish.name}: first text after {latency}, {speed}, "
        f"{after.prefill_tokens - before.prefill_tokens} prompt tokens, "
        f"cache {after.kv_tokens_used} of {after.kv_tokens_total}]"
    )
    return "".join(pieces)


say("bring me the red cup from the kitchen, then come back")
say("what's 12 times 8?")

# %% Ctrl-C in the middle of an endless answer
said = say("jump three times and then dance", stop_after=10, ignore_eos=True, max_tokens=400)
assert stream.finish == dsopt.Finish.CANCELLED, stream.finish
assert say("wave to the kids") == '[{"action":"gesture","name":"wave","to":"kids"}]'  # the stream is as good as new

# %% Logits: what could have come next?
# Right after a generation the logits of the next token are there, written by native code into a numpy array. To look at
# the first verb of an answer, the prompt and the beginning of the answer are brought into the cache, and nothing else.


def distribution(text):
    """(probability, token text) of what may follow, most probable first, and the entropy in bits."""
    stream.rewind(0)
    stream.append(text, special=True, bos=False)
    stream.generate(prefill_only=True)
    session.run()
    while stream.read() is not None:
        pass
    logits = [float(x) for x in stream.logits()]
    top = max(logits)
    weights = [math.exp(x - top) for x in logits]
    total = sum(weights)
    ranked = sorted(((w / total, i) for i, w in enumerate(weights)), reverse=True)
    entropy = -sum(p * math.log2(p) for p, _ in ranked if p > 0)
    return [(p, model.detokenize([i])) for p, i in ranked], entropy


def show(text, rows=5):
    ranked, entropy = distribution(text)
    print(f"after ...{text[-48:]!r}: entropy {entropy:.2f} bits")
    for p, piece in ranked[:rows]:
        print(f"  {p:7.2%} {'#' * round(40 * p):40} {piece!r}")


for command in ("go to the kitchen", "the lamp", "take me home"):
    show(model.format_chat(command) + '[{"action":"')

# %% How sure was it, token by token?
stream.rewind(0)
stream.append(model.format_chat("fetch me the blu bok"), special=True, bos=False)
stream.generate(top_logprobs=2)
print("token             p      runner-up")
while True:
    result = session.poll(0.002)  # what a frame or control loop would do
    while (event := stream.read()) is not None:
        for token, logprob, best in zip(event.tokens, event.logprobs or (), event.top_logprobs or ()):
            other = next(((t, lp) for t, lp in best if t != token), (None, -math.inf))
            if logprob < math.log(0.99):  # only where there was a choice
                runner_up = f"{model.detokenize([other[0]])!r} {math.exp(other[1]):.1%}"
                print(f"{model.detokenize([token])!r:16} {math.exp(logprob):6.1%}  {runner_up}")
    if not result.pending:
        break
print(f"whole answer: {stream.finish.name}, {stream.token_count} tokens with the prompt")

# %% A chat of your own: an empty line or Ctrl-D ends it, Ctrl-C ends an answer
while sys.stdin is not None and sys.stdin.isatty():
    try:
        line = input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        break
    if not line:
        break
    say(line)

# %% Everything goes back
stream.close()
session.close()
model.close()
print("done")
