#!/usr/bin/env bash
# What every encoding of weights costs in quality: converts checkpoints and prints a table of dsopt validate against
# bf16, in Markdown.
#   tests/bench/weights_quality.sh DSOPT CHECKPOINT_FOLDER... -- TEXT...
# WINDOWS (default 16) of 512 tokens of each text are read; CONVERT adds options to every conversion but bf16's.
set -euo pipefail
dsopt=$1
shift
checkpoints=() texts=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do checkpoints+=("$1") && shift; done
[ $# -gt 1 ] || { echo "usage: $0 DSOPT CHECKPOINT_FOLDER... -- TEXT..." >&2; exit 2; }
shift
for text in "$@"; do texts+=(--text "$text"); done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "| checkpoint | weights | resident MB | perplexity | change | mean KL | worst KL | top-1 | top-5 | largest logit error |"
echo "|---|---|---|---|---|---|---|---|---|---|"
for checkpoint in "${checkpoints[@]}"; do
  "$dsopt" convert "$checkpoint" "$work/bf16.dsopt" --dtype bf16 --quiet
  for weights in bf16 lossless12 int8 fp8 int4; do
    if [ "$weights" != bf16 ]; then
      # shellcheck disable=SC2086 # several options
      "$dsopt" convert "$checkpoint" "$work/$weights.dsopt" --weights "$weights" ${CONVERT:-} --quiet
    fi
    "$dsopt" validate "$work/$weights.dsopt" --against "$work/bf16.dsopt" "${texts[@]}" --windows "${WINDOWS:-16}" \
      --device "${DEVICE:-cpu}" --json |
      python3 -c '
import json, sys
out = json.load(sys.stdin)
f = out["all"]
print("| %s | %s | %.2f | %.6f | %+.4f %% | %.2e | %.2e | %.3f %% | %.3f %% | %.3g |" % (
    sys.argv[1], sys.argv[2], out["model"]["weight_bytes"] / 1e6, f["perplexity"], f["perplexity_change_percent"],
    f["mean_kl"], f["worst_kl"], f["top1_agreement"] * 100, f["top5_agreement"] * 100, f["largest_logit_error"]))
' "$(basename "$checkpoint")" "$weights"
  done
done
