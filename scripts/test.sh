#!/usr/bin/env bash
# Everything that must hold before a commit: set-up, build, all tests, then style and layers.
# Usage: scripts/test.sh [preset]      cpu (default), cuda, cuda-emulated, asan or tsan
# After the default, the CUDA sources are tested on the emulated device where NVIDIA's headers are installed, and where nvcc is
# too, the program is built with it for all GPUs, warnings and spilled registers being errors, and started.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
preset=${1:-cpu}

# Builds a preset and runs its tests; the log is looked at again at the end.
run_preset() {
  cmake --preset "$1" && cmake --build --preset "$1" || return
  ctest --preset "$1" -j "$(nproc)" 2>&1 | tee "build/$1/ctest.log"
  return "${PIPESTATUS[0]}"
}

# In PATH, as named for CMake, or in the toolkit's usual place.
has_nvcc() {
  command -v nvcc >/dev/null || [[ -x ${CUDACXX:-${CUDA_HOME:-/usr/local/cuda}/bin/nvcc} ]]
}

# The program as it goes to GPUs; its tests need one, but for those of a machine without.
build_for_gpus() {
  cmake --preset cuda && cmake --build --preset cuda --target takt || return
  ctest --preset cuda -R '^device_backend$' 2>&1 | tee build/cuda/ctest.log
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
with_gpus=
skipped=()
if (($# == 0)); then
  missing=$(missing_nvidia_headers)
  if [[ -z $missing ]]; then
    presets+=(cuda-emulated)
    has_nvcc && with_gpus=yes
  else
    skipped+=("the CUDA sources on the emulated device, which needs NVIDIA's headers; missing: $missing")
  fi
  [[ -n $with_gpus ]] || skipped+=("the build for GPUs, which needs nvcc and NVIDIA's headers and libraries")
fi
failed=()
for each in "${presets[@]}"; do run_preset "$each" || failed+=("tests of $each"); done
if [[ -n $with_gpus ]]; then
  presets+=(cuda)
  build_for_gpus || failed+=("the build for GPUs")
fi
scripts/check.sh || failed+=("scripts/check.sh")

echo
((${#skipped[@]} == 0)) || printf 'skipped: %s\n' "${skipped[@]}"
for each in "${presets[@]}"; do
  printf '%s: ' "$each"
  grep 'tests passed' "build/$each/ctest.log" 2>/dev/null || echo "did not finish, see above"
done
((${#failed[@]} == 0)) || { printf 'failed: %s\n' "${failed[@]}" && exit 1; }
