#!/usr/bin/env bash
# Perplexity of the four trained checkpoints with encoded weights, beside bf16:
#   tests/bench/quality.sh BUILD_FOLDER [WINDOWS] [TEXT]     default: 64 windows of 512 tokens of wikitext-2-valid.txt
# int4 is calibrated with the ends of two other texts. Prints a table of Markdown. Takes minutes.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
data=$root/../shared/data
if [ $# -lt 1 ]; then
  sed -n '2,4p' "$0" >&2
  exit 2
fi
dsopt=$(cd "$1" && pwd)/bin/dsopt
windows=${2:-64}
text=${3:-wikitext-2-valid.txt}
if [ ! -d "$data/checkpoints" ]; then
  echo "skipped: ../shared/data/checkpoints is absent"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(tail -c 150000 "$data/text/books_heldout_1MB.txt"; tail -c 100000 "$data/text/code_python_heldout.txt") > "$work/calibration.txt"

perplexity() {
  "$dsopt" perplexity "$1" "$data/text/$text" --windows "$windows" --device cpu --json |
    python3 -c 'import json, sys; print(repr(json.load(sys.stdin)["perplexity"]))'
}

echo "| checkpoint | bf16 | lossless12 | int8 | fp8 | int4, groups of 32, offsets | the same, calibrated |"
echo "|---|---|---|---|---|---|---|"
for name in llama-12m mistral-10m mixtral-13m deepseek-v2-14m; do
  "$dsopt" convert "$data/checkpoints/$name" "$work/plain.dsopt" --weights bf16 --quiet
  base=$(perplexity "$work/plain.dsopt")
  row="| $name | $base"
  while read -r weights; do
    # shellcheck disable=SC2086
    "$dsopt" convert "$work/plain.dsopt" "$work/coded.dsopt" --quiet --weights $weights
    row+=$(python3 -c 'import sys
found, base = float(sys.argv[1]), float(sys.argv[2])
print(f" | {found:.6f} ({100 * (found / base - 1):+.3f} %)" if found != base else f" | {found!r} (equal)")' \
      "$(perplexity "$work/coded.dsopt")" "$base")
  done <<WEIGHTS
lossless12
int8
fp8
int4 --group 32 --offsets
int4 --group 32 --offsets --calibrate $work/calibration.txt
WEIGHTS
  echo "$row |"
done
