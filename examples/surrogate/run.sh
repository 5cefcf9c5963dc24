#!/usr/bin/env bash
# A surrogate of a physical simulation: makes its data, trains on two ranks, and predicts cases it has never seen.
# Arguments go to `takt train`, for example: examples/surrogate/run.sh --set train.precision=bf16
set -euo pipefail
cd "$(dirname "$0")/../.."

scripts/setup.sh
. scripts/env.sh
cmake --preset cpu
cmake --build --preset cpu --target takt make_cases compare

takt=build/cpu/takt
examples=build/cpu/examples/surrogate
run_dir="runs/heat.$(date +%Y-%m-%dT%H-%M-%S)"

"$examples/make_cases" data/heat/train 0 16384
"$examples/make_cases" data/heat/valid 100000 1024
"$examples/make_cases" data/heat/unseen 200000 1024
takt_mpirun 2 "$takt" train examples/surrogate/heat.toml --out "$run_dir" "$@"

echo
"$takt" predict "$run_dir" --inputs data/heat/unseen/inputs.npy --out "$run_dir/predictions.npy"
"$examples/compare" data/heat/train data/heat/unseen "$run_dir/predictions.npy"
cat <<END

data         data/heat/{train,valid,unseen}   (inputs.npy, targets.npy)
run          $run_dir   (console.log, metrics.jsonl, checkpoints)
model        $run_dir/final   (safetensors, config.json with the normalization)
predictions  $run_dir/predictions.npy
END
