#!/usr/bin/env python3
"""Checks that an include goes down the layers or stays level, never up, and is written from the repository root.

Only our own includes count. Tests may include everything. Prints each offending line; exits 1 if there is one.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# From the top down; folders in one row are level with each other.
LAYERS = [
    ["launch"],
    ["core/train"],
    ["optimizers"],
    ["core/exec", "core/state"],
    ["core/models", "core/passes"],
    ["core/ops"],
    ["core/graph"],
    ["core/mesh"],
    ["collectives"],
    ["core/device"],
    ["core/base"],
]
HEIGHT = {folder: len(LAYERS) - row for row, folders in enumerate(LAYERS) for folder in folders}
UNRESTRICTED = ("tests", "examples")
OWN_PROJECTS = ("examples/embed",)  # built against an installation, with includes of their own
SUFFIXES = {".cpp", ".h", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


def layer_of(path):
    """The folder of LAYERS that holds path (relative to the root), or None."""
    parents = {parent.as_posix() for parent in pathlib.PurePosixPath(path).parents}
    return next((folder for folder in HEIGHT if folder in parents), None)


def complaint(source, target):
    """Why source may not include target, or None. Both are relative to the root; target is as written."""
    if str(source).startswith(OWN_PROJECTS):
        return None
    if not (ROOT / target).is_file():
        if (ROOT / source).parent.joinpath(target).is_file():
            return "is not written from the repository root"
        return None  # somebody else's header
    if source.parts[0] in UNRESTRICTED:
        return None
    above, below = layer_of(source), layer_of(target)
    if above is None:
        return f"stands in a folder without a layer; known are {', '.join(HEIGHT)}"
    if below is None:
        return "includes a folder without a layer"
    if HEIGHT[below] > HEIGHT[above]:
        return f"goes up from {above} to {below}"
    return None


def main():
    num_offences = 0
    for top in ("core", "collectives", "optimizers", "launch", *UNRESTRICTED):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix not in SUFFIXES:
                continue
            source = path.relative_to(ROOT)
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                match = INCLUDE.match(line)
                reason = match and complaint(source, match.group(1))
                if reason:
                    num_offences += 1
                    print(f"{source}:{number}: {line.strip()}   {reason}")
    return 1 if num_offences else 0


if __name__ == "__main__":
    sys.exit(main())
