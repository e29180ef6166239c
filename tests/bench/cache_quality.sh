#!/bin/bash
# cache_quality.sh BUILD_FOLDER - perplexity of the trained checkpoints of ../shared/data with each type of cache, and the
# change against bf16, as a table. One text per model, 64 windows of 512 tokens; weights and arithmetic are those of
# the default (bf16).
set -eu
build=$1
data=$(dirname "$0")/../../../shared/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "| checkpoint, text | bf16 | fp8 | int8 | int4 |"
echo "|---|---|---|---|---|"
while read -r name text; do
  "$build/bin/dsopt" convert "$data/checkpoints/$name" "$work/$name.dsopt" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  line="| $name, $text |"
  base=
  for type in bf16 fp8 int8 int4; do
    value=$("$build/bin/dsopt" perplexity "$work/$name.dsopt" "$data/text/$text" --device cpu --kv-dtype $type --json |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["perplexity"])')
    base=${base:-$value}
    line+=$(python3 -c "print(f' {$value:.4f} |' if $value == $base else f' {$value:.4f} ({100 * ($value / $base - 1):+.3f} %) |')")
  done
  echo "$line"
done << 'END'
llama-12m books_heldout_1MB.txt
mistral-10m code_python_heldout.txt
mixtral-13m wikitext-2-valid.txt
deepseek-v2-14m code_python_heldout.txt
END
