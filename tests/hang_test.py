"""Runs in which one rank hangs, in each way a rank can: the run ends with exit code 79, in time, and names it.

Run by ctest. By hand: TAKT_BINARY=build/cpu/takt TAKT_HANG_LIBRARY=build/cpu/tests/libtakt_hang.so python3
tests/hang_test.py [CLASS[.TEST]]
"""
import os
import re
import signal
import time
import unittest
from pathlib import Path

from end_to_end_test import TWO_RANKS, EndToEnd, children, wait_until

LIBRARY = os.path.abspath(os.environ.get("TAKT_HANG_LIBRARY", "build/cpu/tests/libtakt_hang.so"))
TIMEOUT_S = 3
# The watchdog may take one second more than the timeout; the launcher, to end the ranks, two; a busy machine, the rest.
BOUND_S = TIMEOUT_S + 1 + 2 + 4
ENDLESS = ("--steps", "1000000", "--set", "eval.every=off", "--set", "checkpoint.every='4 steps'", "--set",
           f"guard.hang_timeout='{TIMEOUT_S}s'")


def rank_of(pid):
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((int(w.partition(b"=")[2]) for w in words if w.startswith(b"OMPI_COMM_WORLD_RANK=")), None)


class Hangs(EndToEnd):
    def start_training(self, out, *more, **variables):
        process = self.start(*self.words(out, *ENDLESS, *more, mesh=TWO_RANKS), ranks=2, **variables)
        file = self.dir / out / "metrics.jsonl"
        wait_until(lambda: file.exists() and file.read_text().count("\n") >= 10, "step 10")
        return process

    def pid_of(self, process, rank):
        return next(pid for pid in children(process.pid) if rank_of(pid) == rank)

    def finish_hung(self, out, process, hung, cause):
        """Ends `process`, whose rank `hung` hangs since now. Returns the report."""
        start, start_time = time.monotonic(), time.time()
        done = self.finish(process)
        took_s = time.monotonic() - start
        self.assertEqual(done.code, 79, done)
        self.assertGreaterEqual(took_s, TIMEOUT_S - 0.5, done)
        self.assertLessEqual(took_s, BOUND_S, done)
        files = list((self.dir / out).glob("incident-*/report.txt"))
        self.assertEqual(len(files), 1, done)
        fired_s = files[0].stat().st_mtime - start_time
        print(f"{self.id()}: timeout {TIMEOUT_S} s, fired after {fired_s:.2f} s, all over after {took_s:.2f} s")
        report = files[0].read_text()
        self.assertEqual(done.err.count("error: no progress"), 1, done)
        self.assertIn(report, done.err)
        first, waiting, missing, saved = report.splitlines()
        self.assertRegex(first, rf"^error: no progress for {TIMEOUT_S} s at step \d+ \(exit 79\)$")
        self.assertRegex(waiting, rf"^  waiting   rank {1 - hung}   \w+ #\d+ '.+' [\d.]+ k?M?B, group (world|data\[0\])$")
        self.assertRegex(missing, rf"^  missing   rank {hung} \(host \S+, pid \d+\): last finished \w+ #\d+ '.+' in group "
                                  rf"\S+; {cause}, host thread in .+ for [23](\.\d)? s$")
        self.assertRegex(saved, r"^  saved     \S+/report.txt, last good checkpoint step-\d{6}     the same command with --out "
                                rf"{out} resumes$")
        return report

    def test_a_stopped_rank_is_named(self):
        for hung in (0, 1):
            with self.subTest(rank=hung):
                out = f"stopped-{hung}"
                process = self.start_training(out)
                pid = self.pid_of(process, hung)
                os.kill(pid, signal.SIGSTOP)
                report = self.finish_hung(out, process, hung, "process stopped by a signal")
                self.assertIn(f"pid {pid})", report)

    def test_a_busy_rank_is_named(self):
        process = self.start_training("busy", LD_PRELOAD=LIBRARY)
        os.kill(self.pid_of(process, 1), signal.SIGUSR2)
        self.finish_hung("busy", process, 1, "process busy")

    def test_a_rank_that_reads_for_ever_is_named(self):
        process = self.start_training("reading", LD_PRELOAD=LIBRARY)
        os.kill(self.pid_of(process, 1), signal.SIGWINCH)
        self.finish_hung("reading", process, 1, "process asleep")

    def test_the_same_command_resumes(self):
        process = self.start_training("again")
        os.kill(self.pid_of(process, 1), signal.SIGSTOP)
        report = self.finish_hung("again", process, 1, "process stopped by a signal")
        step = int(re.search(r"step-(\d{6})", report).group(1))
        done = self.takt(*self.words("again", "--steps", str(step + 10), mesh=TWO_RANKS), ranks=2)
        self.assertRegex(done.out, rf"resumed from .* at step \d+")
        self.assertTrue((self.dir / "again/final").is_dir())

    def test_a_run_stopped_as_a_whole_goes_on(self):
        process = self.start_training("paused", "--set", "guard.hang_timeout='2s'")
        file = self.dir / "paused/metrics.jsonl"
        pids = [self.pid_of(process, rank) for rank in (0, 1)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        end = time.monotonic() + 4  # two timeouts, as a batch system that suspends a job
        wait_until(lambda: time.monotonic() > end, "the end of the pause")
        before = file.read_text().count("\n")
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: file.read_text().count("\n") > before + 10 or process.poll() is not None, "another step")
        self.assertIsNone(process.poll())


if __name__ == "__main__":
    unittest.main()
