#!/usr/bin/env bash
# Everything there is to find out about Takt on the GPUs of this host, in one go and one report: builds the preset cuda, runs
# takt_cuda_tests, times single ops, trains two models for some steps. A part that fails is reported, and the others still run.
#
# Usage: scripts/gpu_check.sh [--out DIR] [--ranks N] [--steps N] [--emulated]
#   --out DIR     where report.md and the logs go; default gpu-check.TIME
#   --ranks N     ranks, one a GPU; default: all GPUs that takt sees
#   --steps N     steps of each training; default 30
#   --emulated    the same with the preset cuda-emulated and tiny sizes: tries this script without a GPU, measures nothing
#
# Exits 0 if all parts did, 1 if one failed (the report says which), 64 for a wrong flag, 69 where there is no GPU.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. scripts/env.sh

out=gpu-check.$(date +%Y-%m-%dT%H-%M-%S)
ranks=
steps=30
preset=cuda
while (($# > 0)); do
  case "$1" in
    --out | --ranks | --steps)
      if (($# < 2)); then echo "error: gpu_check: $1 needs a value" >&2 && exit 64; fi
      declare "${1#--}=$2"
      shift 2
      ;;
    --emulated) preset=cuda-emulated && shift ;;
    --help | -h) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" && exit 0 ;;
    *) echo "error: gpu_check: unknown argument '$1'; see --help" >&2 && exit 64 ;;
  esac
done

if [[ $preset == cuda ]] && ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
  echo "gpu_check: there is no GPU here: \`nvidia-smi -L\` lists none. Nothing was run (exit 69)." >&2
  echo "  to try the script itself without one: scripts/gpu_check.sh --emulated" >&2
  exit 69
fi

mkdir -p "$out/logs" "$out/runs" || exit 1
out=$(cd "$out" && pwd)
report=$out/report.md
build=build/$preset
takt=$build/takt
results=() # "title|exit|seconds|log|command"
failed=0

# part SECONDS TITLE COMMAND...: runs it with a limit of time, keeps its output and exit code, and goes on whatever it was.
part() {
  local limit=$1 title=$2 log code start=$SECONDS
  shift 2
  log=logs/$(printf '%02d' ${#results[@]})-${title//[^a-zA-Z0-9]/-}.log
  printf '%s ... ' "$title"
  timeout --kill-after=30 "$limit" "$@" >"$out/$log" 2>&1
  code=$?
  ((code == 0)) || failed=1
  echo "exit $code, $((SECONDS - start)) s"
  results+=("$title|$code|$((SECONDS - start))|$log|$*")
  return $code
}

# The same for what goes through takt_mpirun, which timeout cannot call.
on_ranks() {
  local limit=$1 title=$2 num_ranks=$3
  shift 3
  part "$limit" "$title" bash -c '. scripts/env.sh && takt_mpirun "$@"' takt_mpirun "$num_ranks" "$@"
}

# Tokens in llm.c's layout: a walk through the vocabulary with some noise, always the same.
make_tokens() {
  part 600 "token file" python3 - "$out/tokens.bin" "$1" "$2" <<'PYTHON'
import array, random, struct, sys
path, num_tokens, vocab = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
draw = random.Random(1)
tokens, token = array.array("H"), 0
for _ in range(num_tokens):
    token = draw.randrange(vocab) if draw.random() < 0.1 else (token * 5 + 7) % vocab
    tokens.append(token)
with open(path, "wb") as file:
    file.write(struct.pack("<256i", 20240520, 1, num_tokens, *[0] * 253) + tokens.tobytes())
PYTHON
}

# job NAME MODEL BATCH: writes NAME.toml with these lines in [model] and [train]; bf16, no checkpoints on the way.
job() {
  cat >"$out/$1.toml" <<TOML
name = "$1"
[data]
train = ["$out/tokens.bin"]
[model]
$2
[device]
backend = "cuda"
[train]
precision = "bf16"
steps = $steps
$3
[optimizer]
kind = "adamw"
lr = 3e-4
schedule = { kind = "cosine", warmup = 5, final = 0.1 }
[checkpoint]
every = "off"
[log]
every = 1
TOML
}

# train NAME [FLAGS...]: runs the job on all ranks; of what it leaves, checkpoints and weights are not kept.
train() {
  local name=$1
  shift
  on_ranks 1800 "train $name" "$ranks" "$takt" train "$out/${job:-$name}.toml" --out "$out/runs/$name" "$@"
  rm -rf "$out/runs/$name/checkpoint" "$out/runs/$name/final"
}

# Medians over the steps after the first fifth, which warm up.
training_rows() {
  python3 - "$out/runs" <<'PYTHON'
import json, pathlib, statistics, sys
for metrics in sorted(pathlib.Path(sys.argv[1]).glob("*/metrics.jsonl")):
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    rows = [row for row in rows if "step_ms" in row]
    rows = rows[len(rows) // 5:]
    if not rows:
        continue
    median = lambda key: statistics.median(row[key] for row in rows)
    mfu = f"{median('mfu'):.1%}" if "mfu" in rows[0] else "peak not known"
    print(f"| {metrics.parent.name} | {len(rows)} | {median('step_ms'):.1f} | {median('tokens_per_s'):.0f} "
          f"| {median('tflops_per_rank'):.2f} | {mfu} | {rows[-1]['loss']:.4f} |")
PYTHON
}

machine() {
  echo "- host $(hostname), $(uname -sr), $(nproc) processors, $(free -g | awk '/^Mem/ {print $2}') GiB"
  echo "- git $(git describe --always --dirty 2>/dev/null || echo unknown), preset $preset"
  echo "- $(cmake --version | head -1), $(c++ --version | head -1), $(mpirun --version | head -1)"
  echo "- $("${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" --version 2>/dev/null | tail -1 || true)"
  printf '\n```\n'
  nvidia-smi 2>&1
  nvidia-smi topo -m 2>/dev/null
  nvidia-smi --query-gpu=name,driver_version,power.limit,clocks.max.sm,clocks.max.memory --format=csv 2>/dev/null
  printf '```\n\n```\n'
  "$takt" version 2>&1
  printf '```\n'
}

parts_table() {
  printf '| part | exit | seconds | log |\n|---|---|---|---|\n'
  local each title code seconds log
  for each in "${results[@]}"; do
    IFS='|' read -r title code seconds log _ <<<"$each"
    printf '| %s | %s | %s | %s |\n' "$title" "$code" "$seconds" "$log"
  done
}

# Every command as it was run and, of those that failed, the last lines.
parts_text() {
  local each title code seconds log command
  for each in "${results[@]}"; do
    IFS='|' read -r title code seconds log command <<<"$each"
    printf '\n### %s: exit %s\n\n```\n%s\n```\n' "$title" "$code" "$command"
    ((code == 0)) && continue
    printf '\n```\n%s\n```\n' "$(tail -n 40 "$out/$log")"
  done
}

write_report() {
  {
    printf '# Takt on GPUs: %s\n\n' "$(date -u +'%Y-%m-%d %H:%M UTC')"
    [[ $preset == cuda ]] || printf '**On the emulated device: says whether things run, not how fast they are.**\n\n'
    ((failed == 0)) && echo "All parts passed." || echo "**A part failed.**"
    printf '\n## Parts\n\n'
    parts_table
    printf '\n## Machine\n\n'
    machine
    printf '\n## Tests\n\n```\n'
    tail -n 12 "$out"/logs/*-tests.log 2>/dev/null
    printf '```\n\n## Single ops\n\n```\n'
    cat "$out"/logs/*-bench*.log 2>/dev/null
    printf '```\n\n## Trainings, bf16, %s ranks\n\n' "$ranks"
    printf '| run | steps counted | step ms | tokens/s | TFLOP/s a rank | MFU | last loss |\n|---|---|---|---|---|---|---|\n'
    training_rows
    cat <<'TEXT'

Medians over the steps after the first fifth. MFU = FLOPs of the model's matrix products and attention in a step (forward and
backward, each counted once, causal attention by half) / (seconds of the step x ranks x the GPU's dense bf16 peak by its data
sheet, core/device/gpu_peaks.cpp). Optimizer, norms and loss count as time, not as FLOPs.

## Commands
TEXT
    parts_text
  } >"$report"
}

# ---- Sizes: tokens stay below the smaller vocabulary ----
if [[ $preset == cuda ]]; then
  num_tokens=5000000 vocab=32000
  bench_flags=()
  gpt2='family = "gpt2"
layers = 12
embed = 768
heads = 12
vocab = 50304
seq = 1024
tied = true'
  llama='family = "llama"
layers = 22
embed = 2048
heads = 32
kv_heads = 4
mlp = 5632
vocab = 32000
seq = 2048'
  gpt2_micro=16 llama_micro=4 accumulated=4
else
  num_tokens=20000 vocab=64
  bench_flags=(--matmul 32 --attention '1,16,2,8' --copy 4kB --all-reduce 4kB --samples 3)
  gpt2='family = "gpt2"
layers = 2
embed = 32
heads = 4
vocab = 64
seq = 16
tied = true'
  llama='family = "llama"
layers = 2
embed = 32
heads = 4
kv_heads = 2
mlp = 64
vocab = 64
seq = 16'
  gpt2_micro=2 llama_micro=1 accumulated=2
  steps=$((steps < 5 ? steps : 5))
fi

# ---- Parts ----
part 3600 "configure" cmake --preset "$preset"
part 7200 "build" cmake --build --preset "$preset" --target takt takt_cuda_tests
part 60 "version" "$takt" version
[[ -n $ranks ]] || { [[ $preset == cuda-emulated ]] && ranks=2; }
[[ -n $ranks ]] || ranks=$("$takt" version | grep -c '^ *gpu ')
((ranks > 0)) || ranks=1

tests_filter='*'
[[ $preset == cuda ]] || tests_filter='DeviceTest.*' # the whole suite is ctest's there
part 3600 "tests" "$build/tests/takt_cuda_tests" --gtest_filter="$tests_filter"
part 1800 "bench one rank" "$takt" bench --device cuda --json "$out/bench-1.json" "${bench_flags[@]}"
if ((ranks > 1)); then
  on_ranks 1800 "bench all ranks" "$ranks" "$takt" bench --device cuda --json "$out/bench-$ranks.json" "${bench_flags[@]}"
fi

make_tokens $num_tokens $vocab
job gpt2-124m "$gpt2" "micro_batch = $gpt2_micro
global_batch = \"$((gpt2_micro * accumulated * ranks)) samples\""
job llama-1b "$llama" "micro_batch = $llama_micro
global_batch = \"$((llama_micro * accumulated * ranks)) samples\""
train gpt2-124m
train llama-1b
if ((ranks > 1)); then
  job=llama-1b train llama-1b-zero1 --set mesh.shard=optimizer
  if ((ranks % 2 == 0)); then job=llama-1b train llama-1b-tensor2 --set 'mesh.layout={tensor=2}'; fi
fi

write_report
echo "report: $report"
exit $failed
