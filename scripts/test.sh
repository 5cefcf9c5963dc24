#!/usr/bin/env bash
# Everything that must hold before a commit: set-up, build, all tests, then style and layers.
# Usage: scripts/test.sh [preset]      cpu (default), cuda, asan or tsan
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
preset=${1:-cpu}

scripts/setup.sh || exit
. scripts/env.sh
cmake --preset "$preset" || exit
cmake --build --preset "$preset" || exit

# Both are run whatever the other finds; ctest's verdict comes last, where it is looked for.
log="build/$preset/ctest.log"
ctest --preset "$preset" -j "$(nproc)" 2>&1 | tee "$log"
tests=${PIPESTATUS[0]}
scripts/check.sh
checks=$?
echo
((checks == 0)) || echo "scripts/check.sh failed, see above"
grep 'tests passed' "$log" || echo "ctest did not finish, see above"
((tests == 0 && checks == 0))
