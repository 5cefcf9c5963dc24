#!/usr/bin/env bash
# What a machine can check of the style: format, include layers, file and function lengths.
# Usage: scripts/check.sh [--tidy]     --tidy also runs clang-tidy on the sources changed since HEAD (needs build/cpu)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

tidy=false
case "${1:-}" in
  "") ;;
  --tidy) tidy=true ;;
  *)
    echo "error: check: unknown argument '$1'; the only one is --tidy" >&2
    exit 64
    ;;
esac

failed=0
mapfile -t sources < <(find core collectives optimizers launch tests examples -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' | sort)

unformatted=()
for source in "${sources[@]}"; do
  clang-format --dry-run -Werror "$source" 2>/dev/null || unformatted+=("$source")
done
if ((${#unformatted[@]} > 0)); then
  printf '%s: error: not formatted\n' "${unformatted[@]}"
  echo "  fix: clang-format -i ${unformatted[*]}"
  failed=1
fi
python3 scripts/check_layers.py || failed=1
# A wait outside of the one helper could be forgotten without a test that notices.
bare_waits=$(grep -rln cudaStreamWaitEvent core collectives optimizers launch | grep -v '^core/device/cuda/hand_over\.cpp$')
if [[ -n $bare_waits ]]; then
  printf '%s: error: calls cudaStreamWaitEvent; use HandOver of core/device/cuda/hand_over.h\n' $bare_waits
  failed=1
fi
python3 scripts/check_sizes.py "${sources[@]}" || failed=1

if $tidy; then
  mapfile -t changed < <({ git diff --name-only --diff-filter=d HEAD; git ls-files --others --exclude-standard; } | grep '\.cpp$' | sort -u)
  if ((${#changed[@]} > 0)); then
    # The build's flags are GCC's; clang does not know all of them.
    clang-tidy -p build/cpu --quiet --warnings-as-errors='*' --extra-arg=-Wno-unknown-warning-option "${changed[@]}" ||
      failed=1
  fi
fi

((failed == 0)) && echo "check: ${#sources[@]} sources, no complaints"
exit "$failed"
