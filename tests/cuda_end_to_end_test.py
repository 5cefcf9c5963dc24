#!/usr/bin/env python3
"""The takt program on emulated GPUs as users run it: ranks are processes, seen only from outside.

Run by ctest, one test a class. By hand: TAKT_BINARY=build/cuda-emulated/takt python3 tests/cuda_end_to_end_test.py
"""
import json
import os
import shutil
import signal
import unittest
from pathlib import Path

import end_to_end_test
from end_to_end_test import ONE_RANK, TWO_RANKS, children, column, wait_until

# As small as it goes: every kernel runs as C++ code, thread by thread.
JOB = """
name = "tiny"
seed = 5
threads = 1
[device]
backend = "cuda"
[data]
train = ["tiny.train.bin"]
valid = ["tiny.valid.bin"]
[model]
layers = 1
embed = 16
heads = 2
seq = 16
vocab = 300
[train]
global_batch = "4 samples"
micro_batch = 1
steps = 6
[optimizer]
lr = 3e-3
schedule = { kind = "constant", warmup = 2 }
[checkpoint]
every = "3 steps"
[eval]
every = "6 steps"
samples = 4
[log]
every = 1
"""
CPU = ("--set", "device.backend=cpu")
SHARDED = ("--set", "mesh.shard=optimizer")
ENDLESS = ("--steps", "1000000", "--set", "checkpoint.every=off", "--set", "eval.every=off")


class CudaEndToEnd(end_to_end_test.EndToEnd):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        (cls.dir / "job.toml").write_text(JOB)

    def assert_follows(self, run, whole, steps):
        """`run` has these steps, and they are those of `whole`."""
        ours, theirs = column(run, "loss"), column(whole, "loss")
        self.assertEqual(list(ours), list(steps))
        for step, loss in ours.items():
            self.assertLessEqual(abs(loss - theirs[step]), 1e-5 * loss, f"loss of step {step}")

    def start_and_wait(self, out, *more, mesh):
        ranks = mesh[0] * mesh[1]
        process = self.start(*self.words(out, *ENDLESS, *more, mesh=mesh), ranks=0 if ranks == 1 else ranks)
        file = self.dir / out / "metrics.jsonl"
        wait_until(lambda: file.exists() and file.read_text().count("\n") >= 2, "step 2")
        return process


class Equality(CudaEndToEnd):
    def test_gpus_train_as_cpus_do(self):
        for mesh, more in ((ONE_RANK, ()), (TWO_RANKS, SHARDED), ((1, 2), ())):
            with self.subTest(mesh=mesh):
                name = f"{mesh[0]}x{mesh[1]}"
                gpus = self.train(f"gpus-{name}", *more, mesh=mesh)
                cpus = self.train(f"cpus-{name}", *more, *CPU, mesh=mesh)
                self.assert_same_run(gpus, cpus)
                self.assertIn("backend cuda", (gpus / "console.log").read_text())

    def test_a_checkpoint_goes_from_gpus_to_cpus_and_back(self):
        for writer, reader in (((), CPU), (CPU, ())):
            name = "to-gpus" if writer else "to-cpus"
            with self.subTest(name):
                whole = self.train(f"whole-{name}", *writer, *SHARDED, mesh=TWO_RANKS)
                shutil.copytree(whole / "checkpoint/step-000003", self.dir / name / "step-000003")
                run = self.train(f"rest-{name}", *reader, *SHARDED, "--resume", f"{name}/step-000003", mesh=TWO_RANKS)
                self.assert_follows(run, whole, range(4, 7))
                self.assert_same_weights(run, whole)


class Ends(CudaEndToEnd):
    def test_a_killed_rank_ends_the_run(self):
        process = self.start_and_wait("killed", mesh=TWO_RANKS)
        ranks = children(process.pid)
        self.assertEqual(len(ranks), 2)
        os.kill(ranks[-1], signal.SIGKILL)
        done = self.finish(process, timeout_s=30)
        self.assertNotEqual(done.code, 0, done)
        wait_until(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks), "the end of the other rank")

    def test_memory_that_does_not_fit_is_exit_71(self):
        large = ("--set", "model.vocab=30000", "--set", "model.embed=64")
        for ranks, mesh in ((0, ONE_RANK), (2, TWO_RANKS)):
            with self.subTest(ranks=ranks):
                done = self.takt(*self.words("never", *large, mesh=mesh), ranks=ranks, code=71, TAKT_EMULATED_MEMORY_MIB="16")
                self.assertEqual(len(done.errors), 1, done)
                self.assertRegex(done.err, r"needs [\d.]+ \w+")
                self.assertRegex(done.err, "16|15", "what there is")

    def test_a_stopped_run_goes_on(self):
        process = self.start_and_wait("stopped", mesh=TWO_RANKS)
        process.send_signal(signal.SIGUSR1)
        done = self.finish(process)
        self.assertEqual(done.code, 75, done)
        stopped = json.loads((self.dir / "stopped/summary.json").read_text())["steps"]
        more = ("--steps", str(stopped + 2), "--set", "checkpoint.every=off", "--set", "eval.every=off")
        run = self.train("stopped", *more, mesh=TWO_RANKS)
        whole = self.train("straight", *more, mesh=TWO_RANKS)
        self.assertEqual(column(run, "loss"), column(whole, "loss"))
        self.assert_same_weights(run, whole)


if __name__ == "__main__":
    unittest.main(verbosity=2)
