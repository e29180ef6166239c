#!/usr/bin/env bash
# The CPU figures of RESULTS.md: decode and prefill of the tinyllama-1.1b shape, and how well poll keeps 2 ms.
#   tests/bench/cpu_speed.sh BUILD_FOLDER > figures.jsonl
# Needs 4 GB of memory and a machine that does nothing else: the load average is printed on stderr first.
set -euo pipefail
if [ $# -ne 1 ]; then
  sed -n '2,4p' "$0" >&2
  exit 2
fi
dsopt=$1/bin/dsopt
echo "load average before: $(cut -d' ' -f1-3 /proc/loadavg)" >&2
"$dsopt" doctor >&2
"$dsopt" bench --shape tinyllama-1.1b --device cpu --batch 1 --context 128 --prompt 512 --steps 64 --json
"$dsopt" bench --shape tinyllama-1.1b --device cpu --batch 1 --context 1024 --prompt 512 --steps 64 --json
"$dsopt" bench --shape tinyllama-1.1b --device cpu --batch 8 --context 128 --prompt 512 --steps 64 --json
"$dsopt" bench --shape tinyllama-1.1b --device cpu --poll-budget 2000 --calls 10000 --context 128 --json
echo "load average after: $(cut -d' ' -f1-3 /proc/loadavg)" >&2
