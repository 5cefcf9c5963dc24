#!/usr/bin/env bash
# Installs what Takt needs to build, test and run on Debian 12 or a close relative. Does nothing when all is there.
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache pkg-config git python3
  openmpi-bin libopenmpi-dev libdnnl-dev libhwloc-dev
  libcli11-dev libtomlplusplus-dev nlohmann-json3-dev libfmt-dev libspdlog-dev libxxhash-dev
  libgtest-dev libgmock-dev libbenchmark-dev clang-format
  iproute2 procps # hosts as network namespaces: tests/hosts_test.py
  bible-kjv bible-kjv-text # the quickstart's training text, and its reader
)

if ! command -v dpkg-query >/dev/null; then
  echo "error: setup: this system has no dpkg; packages are installed on Debian and Ubuntu only" >&2
  echo "  Install the equivalents of: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed* ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then exit 0; fi

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "error: setup: these packages are missing, and there is neither root nor sudo to install them" >&2
    echo "  Ask an administrator to run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "setup: installing ${missing[*]}"
"${as_root[@]}" apt-get update -q
if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; then
  echo "error: setup: apt-get could not install ${missing[*]}" >&2
  echo "  Takt is built against the packages of Debian 12; older releases lack some of them." >&2
  exit 1
fi
