#!/usr/bin/env python3
"""What each layout costs on two ranks: the quickstart's model, all layouts in turns, medians against data=2.

Usage: scripts/layout_overhead.py [rounds]     after scripts/quickstart.sh, which makes the data
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA2, TENSOR2 = ("mesh.layout={data=2}",), ("mesh.layout={tensor=2}",)
LAYOUTS = {
    "data = 2": DATA2,
    "ZeRO-1": (*DATA2, "mesh.shard=optimizer"),
    "ZeRO-2": (*DATA2, "mesh.shard=gradients"),
    "ZeRO-3": (*DATA2, "mesh.shard=parameters"),
    "ZeRO-3, full recompute": (*DATA2, "mesh.shard=parameters", "train.recompute=full"),
    "selective recompute": (*DATA2, "train.recompute=selective"),
    "tensor = 2": (*TENSOR2, "mesh.sequence=false"),
    "tensor = 2, sequence": TENSOR2,
    "context = 2": ("mesh.layout={context=2}",),
    "invariant": (*DATA2, "train.numerics=invariant"),
}
STEPS = 24


def tokens_per_s(settings, folder):
    """The median over the steps but the first few."""
    out = Path(folder) / "run"
    words = ["mpirun", "-np", "2", "--oversubscribe", str(ROOT / "build/cpu/takt"), "train", str(ROOT / "examples/gpt/kjv.toml"),
             "--out", str(out), "--resume", "never"]
    for setting in (*settings, f"train.steps={STEPS}", "eval.every=off", "data.valid=[]", "checkpoint.every=off"):
        words += ["--set", setting]
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    subprocess.run(words, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["tokens_per_s"] for line in lines[4:])


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    speeds = {name: [] for name in LAYOUTS}
    for _ in range(rounds):
        for name, settings in LAYOUTS.items():
            with tempfile.TemporaryDirectory() as folder:
                speeds[name].append(tokens_per_s(settings, folder))
    base = statistics.median(speeds["data = 2"])
    print("| layout | tokens/s | of data = 2 |\n|---|---|---|")
    for name, measured in speeds.items():
        speed = statistics.median(measured)
        print(f"| {name} | {speed / 1e3:.1f}k | {speed / base:.2f} |")


main()
