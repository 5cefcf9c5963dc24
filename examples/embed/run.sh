#!/usr/bin/env bash
# Takt inside an application: installs the library, builds a program against it, and runs that on two ranks.
set -euo pipefail
cd "$(dirname "$0")/../.."

scripts/setup.sh
. scripts/env.sh
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

cmake --preset cpu
cmake --build --preset cpu --target takt_lib
cmake --install build/cpu --component library --prefix "$prefix"
cmake -S examples/embed -B "$prefix/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release
cmake --build "$prefix/build"

echo
takt_mpirun 2 "$prefix/build/pump" "$prefix/model"
