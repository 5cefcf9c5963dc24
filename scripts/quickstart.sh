#!/usr/bin/env bash
# From a fresh clone to a trained model and its first words: set-up, build, data, training on two ranks, text.
# Arguments go to `takt train`, for example: scripts/quickstart.sh --set train.steps=100
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
. scripts/env.sh
cmake --preset cpu
cmake --build --preset cpu --target takt

takt=build/cpu/takt
if [[ ! -f data/kjv.train.bin ]]; then
  mkdir -p data
  # The reader asks on a terminal where it cannot find its pages, so it gets none.
  bible -f "gen1:1-rev22:21" </dev/null >data/kjv.txt
  "$takt" data build --text data/kjv.txt --vocab 2048 --out data/kjv
fi

run_dir="runs/kjv-quickstart.$(date +%Y-%m-%dT%H-%M-%S)"
takt_mpirun 2 "$takt" train examples/gpt/kjv.toml --out "$run_dir" "$@"

echo
"$takt" generate "$run_dir" --prompt "In the beginning" --tokens 120
cat <<END

data         data/kjv.train.bin, data/kjv.valid.bin, data/kjv.tokenizer.json
run          $run_dir   (console.log, metrics.jsonl, checkpoints)
model        $run_dir/final   (safetensors with Hugging Face names)
more text    $takt generate $run_dir --prompt "And it came to pass"
END
