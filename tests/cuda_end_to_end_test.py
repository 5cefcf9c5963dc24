#!/usr/bin/env python3
"""The takt program on emulated GPUs as users run it: ranks are processes, seen only from outside.

Run by ctest, one test a class. By hand: TAKT_BINARY=build/cuda-emulated/takt python3 tests/cuda_end_to_end_test.py
"""
import json
import os
import re
import shutil
import signal
import unittest
from pathlib import Path

import end_to_end_test
from end_to_end_test import ONE_RANK, TWO_RANKS, children, column, metrics, wait_until

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

    def start_and_wait(self, out, *more, mesh, **how):
        ranks = mesh[0] * mesh[1]
        process = self.start(*self.words(out, *ENDLESS, *more, mesh=mesh), ranks=0 if ranks == 1 else ranks, **how)
        file = self.dir / out / "metrics.jsonl"
        wait_until(lambda: file.exists() and file.read_text().count("\n") >= 2, "step 2")
        return process


def lines_of(run):
    """The console's lines of steps, validations and checkpoints, without numbers that differ from run to run."""
    lines = re.findall(r"^ +(\d+/\d+) +(valid|checkpoint \S+)?", (run / "console.log").read_text(), re.MULTILINE)
    return [" ".join(line) for line in lines]


class Equality(CudaEndToEnd):
    # On GPUs results are read one step late: what is told, and when it is saved and validated, is the same.
    def test_gpus_train_as_cpus_do(self):
        for mesh, more in ((ONE_RANK, ()), (TWO_RANKS, SHARDED), ((1, 2), ())):
            with self.subTest(mesh=mesh):
                name = f"{mesh[0]}x{mesh[1]}"
                gpus = self.train(f"gpus-{name}", *more, mesh=mesh)
                cpus = self.train(f"cpus-{name}", *more, *CPU, mesh=mesh)
                self.assert_same_run(gpus, cpus)
                self.assertEqual([line["step"] for line in metrics(gpus)], [line["step"] for line in metrics(cpus)])
                for key in ("lr", "tokens"):
                    self.assertEqual(column(gpus, key), column(cpus, key))
                self.assertEqual(lines_of(gpus), lines_of(cpus))
                self.assertIn("backend cuda", (gpus / "console.log").read_text())
                self.assertEqual(column(gpus, "comm_ms"), {}, "not measured, unless asked for")

    def test_times_of_ops(self):
        for backend in ((), CPU):
            with self.subTest(backend=backend):
                run = self.train(f"times-{len(backend)}", *backend, *SHARDED, "--set", "device.time_ops=true", mesh=TWO_RANKS)
                table = re.findall(r"^(\S+(?: \S+)*) +([\d.]+) +([\d.]+) +[\d.]+%$", (run / "console.log").read_text(), re.MULTILINE)
                ops = json.loads((run / "summary.json").read_text())["ops"]
                self.assertEqual([op["op"] for op in ops], [row[0] for row in table])
                self.assertIn("matmul", [op["op"] for op in ops])
                self.assertTrue(any(op["op"].startswith("reduce_scatter<data") for op in ops), ops)
                self.assertTrue(all(op["ms"] > 0 and op["calls"] > 0 for op in ops), ops)
                self.assertEqual(len(column(run, "comm_ms")), 6)
                self.assertTrue(all(ms > 0 for ms in column(run, "comm_ms").values()))

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
    def kill_a_rank(self, out, *more, **how):
        process = self.start_and_wait(out, *more, mesh=TWO_RANKS, **how)
        ranks = children(process.pid)
        self.assertEqual(len(ranks), 2)
        os.kill(ranks[-1], signal.SIGKILL)
        done = self.finish(process, timeout_s=60)
        wait_until(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks), "the end of the other rank")
        return done

    # The launcher ends the others and says why, as it does for every program.
    def test_a_killed_rank_ends_the_run(self):
        done = self.kill_a_rank("killed")
        self.assertEqual(done.code, 128 + signal.SIGKILL, done)
        self.assertIn("exited on signal 9", done.err + done.out)

    # Under a launcher that lets the others go on, they find out by themselves. Its own exit code then says nothing, and it does
    # not always print theirs.
    def test_the_other_rank_of_a_killed_one_ends_itself(self):
        done = self.kill_a_rank("left-alone", "--set", "guard.hang_timeout='4s'", launcher=("--enable-recovery",))
        self.assertRegex(done.err, r"error: rank 0 .*all_reduce .* has not finished within 3.6 s|error: no progress for 4 s")

    # The update of the step that failed is not applied, nor that of the step which had begun by then. In which gradient an
    # overflow shows first is a matter of rounding.
    def test_a_step_that_is_not_finite_is_exit_76(self):
        for mesh in (ONE_RANK, TWO_RANKS):
            with self.subTest(mesh=mesh):
                ends = {}
                for backend in ((), CPU):
                    out = f"nan-{mesh[0]}-{len(backend)}"
                    words = self.words(out, *backend, "--set", "optimizer.lr=1e30", "--set", "checkpoint.every='1 steps'", mesh=mesh)
                    done = self.takt(*words, ranks=mesh[0] if mesh[0] > 1 else 0, code=76)
                    run = self.dir / out
                    culprit = "it shows first in the gradient of '[^']+' in micro-batch 0 on rank 0; "
                    self.assertRegex(done.errors[0], culprit)
                    ends[backend] = (re.sub(culprit, "", done.errors[0]), lines_of(run), sorted(path.name for path in (run / "checkpoint").glob("*")))
                self.assertEqual(ends[()], ends[CPU])

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
