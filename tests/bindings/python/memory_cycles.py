"""Resident memory stays flat over many times open, generate, close: memory_cycles.py MODEL COUNT"""

import os
import sys
import time

import dsopt

WARM_UP = 0.1         # share of the cycles after which memory has to stay
ALLOWED = 2 << 20     # bytes more at the end; a leak of 3 KB per cycle is found in 1000 cycles


def resident():
    """Bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cycle(path):
    """Everything that a program makes once, and gives back."""
    with dsopt.Runtime(cpu_threads=2, log=lambda *line: None) as runtime, \
            dsopt.Model(path, runtime=runtime, progress=lambda share: None) as model, \
            model.session(max_tokens=128) as session, session.stream() as stream:
        stream.append("go to the kitchen")
        prompt = stream.token_count
        stream.generate(max_tokens=2, ignore_eos=True, on_event=lambda event: None)
        session.run()
        assert stream.token_count == prompt + 2, stream.token_count
        stream.fork().load(stream.save())
        try:
            model.get_metadata("no such key")
        except dsopt.NotFoundError:
            pass


def main():
    """Prints the figures; exit code 1 if memory grew."""
    path, count, after = sys.argv[1], int(sys.argv[2]), 0
    started = time.monotonic()
    for number in range(count):
        if number == int(count * WARM_UP):
            after = resident()
        cycle(path)
    grown = resident() - after
    print(f"{count} cycles in {time.monotonic() - started:.1f} s, resident {after / 1e6:.1f} MB after "
          f"{int(count * WARM_UP)} cycles, {grown / 1e6:+.2f} MB at the end")
    return 1 if grown > ALLOWED else 0


if __name__ == "__main__":
    sys.exit(main())
