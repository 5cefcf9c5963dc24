#!/usr/bin/env python3
"""What the program says about GPUs, in each kind of build: TAKT_BUILD is cpu, cuda or cuda-emulated."""
import os
import pathlib
import subprocess
import tempfile
import unittest

TAKT = os.environ["TAKT_BINARY"]
BUILD = os.environ["TAKT_BUILD"]
EXIT_CONFIG = 78


def takt(*arguments):
    return subprocess.run([TAKT, *arguments], capture_output=True, text=True, check=False, timeout=60)


def has_driver():
    return pathlib.Path("/proc/driver/nvidia/version").exists()


class Version(unittest.TestCase):
    def test_libraries_are_shown_as_compiled_and_as_found(self):
        text = takt("version").stdout
        for library in ("cuBLASLt", "cuDNN", "NCCL"):
            pattern = rf"{library} +built with \d+\.\d+\.\d+, found \d+\.\d+\.\d+"
            if BUILD == "cpu":
                self.assertNotIn(library, text)
            else:
                self.assertRegex(text, pattern)

    def test_the_build_is_named(self):
        self.assertRegex(takt("version").stdout, r"\(cpu, git " if BUILD == "cpu" else r"\(cpu\+cuda, git ")


class Backend(unittest.TestCase):
    def train(self, backend):
        with tempfile.TemporaryDirectory() as folder:
            job = pathlib.Path(folder, "job.toml")
            job.write_text('[data]\ntrain = ["/nonexistent.bin"]\n', encoding="utf-8")
            return takt("train", str(job), "--set", f"device.backend={backend}")

    def test_cuda_where_there_is_none_is_one_line_and_exit_78(self):
        if BUILD == "cuda" and has_driver():
            self.skipTest("there is a driver")
        if BUILD == "cuda-emulated":
            self.skipTest("there are emulated GPUs")
        result = self.train("cuda")
        self.assertEqual(result.returncode, EXIT_CONFIG, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn('device.backend = "cuda"', result.stderr)
        self.assertIn("-DTAKT_CUDA=ON" if BUILD == "cpu" else "driver", result.stderr)

    def test_auto_goes_on_without_a_gpu(self):
        self.assertNotIn("device.backend", self.train("auto").stderr)

    def test_another_word_is_refused_with_the_choices(self):
        self.assertIn('one of "auto", "cpu", "cuda"', self.train("gpu").stderr)


if __name__ == "__main__":
    unittest.main()
