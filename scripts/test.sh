#!/usr/bin/env bash
# Everything that must hold before a commit: set-up, build, all tests, then style and layers.
# Usage: scripts/test.sh [preset]      cpu (default), cuda, cuda-emulated, asan or tsan
# After the default, the CUDA sources are tested on the emulated device where NVIDIA's headers are installed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
preset=${1:-cpu}

# Builds a preset and runs its tests; the log is looked at again at the end.
run_preset() {
  cmake --preset "$1" && cmake --build --preset "$1" || return
  ctest --preset "$1" -j "$(nproc)" 2>&1 | tee "build/$1/ctest.log"
  return "${PIPESTATUS[0]}"
}

# The header of each library that the CUDA sources use.
missing_nvidia_headers() {
  local include=${CUDA_HOME:-/usr/local/cuda}/include header
  for header in cuda_runtime.h cublasLt.h cudnn.h nccl.h; do
    [[ -e $include/$header ]] || printf '%s ' "$header"
  done
}

scripts/setup.sh || exit
. scripts/env.sh

# All are run whatever the others find; ctest's verdict comes last, where it is looked for.
presets=("$preset")
skipped=
if (($# == 0)); then
  missing=$(missing_nvidia_headers)
  if [[ -z $missing ]]; then
    presets+=(cuda-emulated)
  else
    skipped="skipped: the CUDA sources on the emulated device, which needs NVIDIA's headers; missing: $missing"
  fi
fi
failed=()
for each in "${presets[@]}"; do run_preset "$each" || failed+=("tests of $each"); done
scripts/check.sh || failed+=("scripts/check.sh")

echo
[[ -z $skipped ]] || echo "$skipped"
for each in "${presets[@]}"; do
  printf '%s: ' "$each"
  grep 'tests passed' "build/$each/ctest.log" 2>/dev/null || echo "did not finish, see above"
done
((${#failed[@]} == 0)) || { printf 'failed: %s\n' "${failed[@]}" && exit 1; }
