#!/usr/bin/env bash
# Perplexity of the four trained checkpoints on all three texts against their goldens:
#   tests/model/all_goldens.sh BUILD_FOLDER [exact|reference|fast]...       default: all three
# reference and fast run the dsopt program and allow 0.02 % and 0.1 %; exact runs model_exact_golden, which rounds the
# rotary frequencies as the goldens' run did, and allows 0.001 %. Takes ten minutes. Exit code 1: a difference.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
data=$root/../shared/data
if [ $# -lt 1 ]; then
  sed -n '2,5p' "$0" >&2
  exit 2
fi
build=$(cd "$1" && pwd)
dsopt=$build/bin/dsopt
shift
[ $# -gt 0 ] || set -- exact reference fast
if [ ! -d "$data/checkpoints" ]; then
  echo "skipped: ../shared/data/checkpoints is absent"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
precisions=()
for precision in "$@"; do
  if [ "$precision" = exact ]; then
    "$build/tests/model/model_exact_golden" "[every-text]" || failed=1
  else
    precisions+=("$precision")
  fi
done
for name in llama-12m mistral-10m mixtral-13m deepseek-v2-14m; do
  "$dsopt" convert "$data/checkpoints/$name" "$work/$name.dsopt" --quiet
  for text in wikitext-2-valid.txt books_heldout_1MB.txt code_python_heldout.txt; do
    for precision in "${precisions[@]}"; do
      "$dsopt" perplexity "$work/$name.dsopt" "$data/text/$text" --precision "$precision" --device cpu --json |
        python3 -c '
import json, sys
name, text, precision, golden = sys.argv[1:]
found = json.load(sys.stdin)
expected = json.load(open(golden))["perplexity"][text]
value, golden_value = found["perplexity"], expected["value"]
error = value / golden_value - 1
good = abs(error) <= {"reference": 2e-4, "fast": 1e-3}[precision] and found["tokens"] == expected["tokens"]
verdict, seconds = "ok" if good else "WRONG", found["seconds"]
print(f"{name:16} {text:24} {precision:9} {value:12.6f} golden {golden_value:12.6f} {100 * error:+.5f} % "
      f"{seconds:6.1f} s {verdict}", flush=True)
sys.exit(not good)' "$name" "$text" "$precision" "$data/checkpoints/$name/golden.json" || failed=1
    done
  done
done
exit $failed
