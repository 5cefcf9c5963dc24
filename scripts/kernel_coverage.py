#!/usr/bin/env python3
"""Which lines of the CUDA kernels takt_cuda_tests runs, on the emulated device, where they are plain C++.

Usage: scripts/kernel_coverage.py [--filter GTEST_FILTER] [--no-run]

Builds in build/coverage, runs the tests once, and shows of each .cu and .cuh file the part of its lines that ran, and those
that did not. --no-run: shows again what the last run left.
"""
import argparse
import collections
import gzip
import json
import os
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/coverage"


def build():
    subprocess.run(["cmake", "--preset", "cuda-emulated", "-B", BUILD, "-DTAKT_KERNEL_COVERAGE=ON"], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", BUILD, "--target", "takt_cuda_tests"], cwd=ROOT, check=True)


def run_tests(test_filter):
    for counts in BUILD.rglob("*.gcda"):
        counts.unlink()
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    subprocess.run([BUILD / "tests/takt_cuda_tests", f"--gtest_filter={test_filter}", "--gtest_brief=1"], cwd=ROOT,
                   env=environment, check=False)


def counts_of_lines():
    """By file of ours and line: how often it ran, added up over all instances of a template and all that include it."""
    counts = collections.defaultdict(lambda: collections.defaultdict(int))
    with tempfile.TemporaryDirectory() as folder:
        for data in sorted(BUILD.rglob("*.gcda")):
            subprocess.run(["gcov", "--json-format", "--object-directory", data.parent, data], cwd=folder, check=True,
                           stdout=subprocess.DEVNULL)
        for report in pathlib.Path(folder).glob("*.gcov.json.gz"):
            with gzip.open(report, "rt", encoding="utf-8") as text:
                content = json.load(text)
            for file in content["files"]:
                path = (pathlib.Path(content["current_working_directory"]) / file["file"]).resolve()
                if path.suffix in (".cu", ".cuh") and path.is_relative_to(ROOT):
                    for line in file["lines"]:
                        counts[path.relative_to(ROOT)][line["line_number"]] += line["count"]
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filter", default="*")
    parser.add_argument("--no-run", action="store_true")
    args = parser.parse_args()
    if not args.no_run:
        build()
        run_tests(args.filter)

    num_lines = num_run = 0
    for path, counts in sorted(counts_of_lines().items()):
        missing = sorted(line for line, count in counts.items() if count == 0)
        num_lines += len(counts)
        num_run += len(counts) - len(missing)
        print(f"{1 - len(missing) / len(counts):6.1%} of {len(counts):4}  {path}")
        source = (ROOT / path).read_text(encoding="utf-8").splitlines()
        for line in missing:
            print(f"        {line:5}: {source[line - 1].strip()}")
    print(f"{num_run / max(num_lines, 1):6.1%} of {num_lines:4}  all")


if __name__ == "__main__":
    main()
