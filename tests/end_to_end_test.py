"""The takt program as users run it: real processes on a tiny dataset and model, seen only from outside.

Run by ctest, one test a class. By hand: TAKT_BINARY=build/cpu/takt python3 tests/end_to_end_test.py [CLASS[.TEST]]
"""
import array
import hashlib
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

TAKT = os.path.abspath(os.environ.get("TAKT_BINARY", "build/cpu/takt"))
MPIEXEC = os.environ.get("TAKT_MPIEXEC", "mpirun")
DEADLINE_S = 60  # of every process: a hang is a failure, not a wait
LAUNCHER_WORDS = ("TAKT_", "OMPI_", "PMI_", "PMIX_", "SLURM_")  # variables of whoever started this test
ONE_RANK, TWO_RANKS = (1, 1), (2, 1)
MESHES = (TWO_RANKS, (1, 2), (2, 2), (4, 1))  # data x tensor

JOB = """
name = "tiny"
seed = 5
threads = 1
[data]
train = ["tiny.train.bin"]
valid = ["tiny.valid.bin"]
tokenizer = "tiny.tokenizer.json"
[model]
layers = 2
embed = 32
heads = 4
seq = 32
[train]
global_batch = "16 samples"
steps = 20
[optimizer]
lr = 3e-3
schedule = { kind = "constant", warmup = 4 }
[checkpoint]
every = "8 steps"
[eval]
every = "10 steps"
samples = 40
[log]
every = 5
"""


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHER_WORDS)}
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return {**kept, **root, "OMP_NUM_THREADS": "1", **more}


def generated_text(num_bytes):
    """Sentences of 300 made-up words, some far commoner than others, so that there is something to learn."""
    rng = random.Random(7)
    syllables = ["ta", "ko", "mi", "re", "su", "lan", "dor", "fen", "gil", "hap", "ju", "vex"]
    words = ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 3))) for _ in range(300)]
    text = ""
    while len(text) < num_bytes:
        picked = [words[int(300 * rng.random() ** 2)] for _ in range(rng.randint(4, 12))]
        text += " ".join(picked).capitalize() + ".\n"
    return text


def write_tokens(path, tokens):
    """An llm.c .bin: 256 int32 of header, then uint16 tokens."""
    header = [20240520, 1, len(tokens)] + [0] * 253
    path.write_bytes(struct.pack("<256i", *header) + struct.pack(f"<{len(tokens)}H", *tokens))


def weights(run):
    """Tensors by name from DIR/final/model.safetensors: u64 length, JSON header, data."""
    data = (run / "final/model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32", name
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = array.array("f", data[begin:end])
    return tensors


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def column(run, key):
    return {line["step"]: line[key] for line in metrics(run) if key in line}


def numbers(run):
    """What must not depend on when or how fast a run ran: everything but times and memory."""
    keys = ("step", "loss", "grad_norm", "lr", "tokens", "valid_loss")
    return [{k: line[k] for k in keys if k in line} for line in metrics(run)]


def flip_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


def hashes_below(directory):
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def wait_until(condition, what):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {DEADLINE_S} s")
        time.sleep(0.005)  # between two looks; nothing depends on its length


def children(pid):
    """Process ids whose parent is `pid`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


class Finished:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        self.errors = [line for line in err.splitlines() if line.startswith("error:")]

    def __str__(self):
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class EndToEnd(unittest.TestCase):
    """A directory of its own for each class, with the dataset and the job file."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix=f"takt-end-to-end-{os.getpid()}-")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.dir = Path(cls.folder.name)
        (cls.dir / "tiny.txt").write_text(generated_text(200_000))
        (cls.dir / "job.toml").write_text(JOB)
        command = [TAKT, "data", "build", "--text", "tiny.txt", "--out", "tiny", "--vocab", "300"]
        subprocess.run(command, cwd=cls.dir, env=environment(), check=True, timeout=DEADLINE_S, capture_output=True)

    def start(self, *words, ranks=0, launcher=(), **variables):
        """Starts takt: one process without a launcher, or `ranks` under mpirun, with these words of its own."""
        mpirun = [MPIEXEC, "--oversubscribe", *launcher, "-np", str(ranks)] if ranks else []
        process = subprocess.Popen([*mpirun, TAKT, *words], cwd=self.dir, env=environment(**variables), text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.terminate()  # mpirun ends its ranks
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()

    def finish(self, process, timeout_s=DEADLINE_S):
        out, err = process.communicate(timeout=timeout_s)
        return Finished(process.returncode, out, err)

    def takt(self, *words, code=0, **how):
        done = self.finish(self.start(*words, **how))
        self.assertEqual(done.code, code, f"takt {' '.join(words)}: {done}")
        return done

    def words(self, out, *more, mesh=ONE_RANK):
        layout = f"mesh.layout={{data={mesh[0]},tensor={mesh[1]}}}"
        return ["train", "job.toml", "--out", out, "--set", layout, *more]

    def train(self, out, *more, mesh=ONE_RANK, code=0):
        """Trains on data x tensor ranks and returns the run directory."""
        ranks = mesh[0] * mesh[1]
        self.takt(*self.words(out, *more, mesh=mesh), ranks=0 if ranks == 1 else ranks, code=code)
        return self.dir / out

    def assert_same_columns(self, a, b, key):
        ours, theirs = column(a, key), column(b, key)
        self.assertEqual(ours.keys(), theirs.keys())
        for step in ours:
            self.assertLessEqual(abs(ours[step] - theirs[step]), 1e-5 * abs(theirs[step]), f"{key} of step {step}")

    def assert_same_weights(self, a, b):
        ours, theirs = weights(a), weights(b)
        self.assertEqual(ours.keys(), theirs.keys())
        for name, values in ours.items():
            self.assertEqual(len(values), len(theirs[name]), name)
            self.assertLess(max(abs(x - y) for x, y in zip(values, theirs[name])), 1e-4, name)

    def assert_same_run(self, a, b):
        for key in ("loss", "grad_norm", "valid_loss"):
            self.assert_same_columns(a, b, key)
        self.assert_same_weights(a, b)

    def assert_same_bits(self, a, b):
        self.assertEqual(numbers(a), numbers(b))
        # effective.toml names where each value came from, which may differ between two commands for one job.
        ours, theirs = hashes_below(a / "final"), hashes_below(b / "final")
        ours.pop("effective.toml"), theirs.pop("effective.toml")
        self.assertEqual(ours, theirs)


class Meshes(EndToEnd):
    def check_family(self, family):
        chosen = ["--set", f"model.family={family}"]
        one = self.train(f"{family}-1x1", *chosen)
        losses = column(one, "loss")
        self.assertEqual(list(losses), list(range(1, 21)))
        self.assertLess(losses[20], losses[1] - 0.5, "it learns")
        for mesh in MESHES:
            with self.subTest(family=family, data=mesh[0], tensor=mesh[1]):
                self.assert_same_run(self.train(f"{family}-{mesh[0]}x{mesh[1]}", *chosen, mesh=mesh), one)

    def test_any_mesh_equals_one_rank_for_llama(self):
        self.check_family("llama")

    def test_any_mesh_equals_one_rank_for_gpt2(self):
        self.check_family("gpt2")

    def test_experts_on_two_ranks_equal_all_on_one(self):
        # Every token picks both, and half find no slot: between picks that are all but equal, rounding would decide.
        chosen = ["--set", "model.experts=2", "--set", "model.capacity_factor=0.5"]
        one = self.train("experts-1", *chosen)
        losses = column(one, "loss")
        self.assertLess(losses[20], losses[1] - 0.5, "it learns")
        self.assertIn("model.layers.1.block_sparse_moe.experts.1.w2.weight", weights(one))
        self.takt("train", "job.toml", "--out", "experts-2", *chosen, "--set", "mesh.layout={expert=2}", ranks=2)
        self.assert_same_run(self.dir / "experts-2", one)

    def test_same_command_gives_same_bits(self):
        for mesh in (ONE_RANK, (2, 2)):
            with self.subTest(mesh=mesh):
                runs = [self.train(f"twice-{mesh[0]}x{mesh[1]}-{n}", mesh=mesh) for n in (1, 2)]
                self.assert_same_bits(*runs)

    def test_invariant_numerics_give_the_bits_of_one_rank(self):
        chosen = ("--set", "train.numerics=invariant")
        one = self.train("invariant-1x1", *chosen)
        for mesh, more in [(mesh, ()) for mesh in MESHES] + [((4, 1), ("--set", "mesh.shard=gradients"))]:
            with self.subTest(mesh=mesh, more=more):
                run = self.train(f"invariant-{mesh[0]}x{mesh[1]}-{len(more)}", *chosen, *more, mesh=mesh)
                for key in ("loss", "grad_norm"):
                    self.assertEqual(column(run, key), column(one, key))
                hashes = [json.loads((r / "summary.json").read_text())["weights_hash"] for r in (run, one)]
                self.assertEqual(*hashes)


class Resume(EndToEnd):
    # Long enough that the signal comes long before the end, with few checkpoints.
    LONG = ("--steps", "250", "--set", "checkpoint.every='100 steps'", "--set", "eval.every='100 steps'")

    def stop_after_some_steps(self, out, mesh, ranks, by):
        process = self.start(*self.words(out, *self.LONG, mesh=mesh), ranks=ranks)
        file = self.dir / out / "metrics.jsonl"
        wait_until(lambda: file.exists() and file.read_text().count("\n") >= 5, "step 5")
        process.send_signal(by)  # mpirun passes it on to its ranks
        done = self.finish(process)
        self.assertEqual(done.code, 75, done)
        self.assertIn(f"the same command with --out {out} goes on from there", done.out)
        summary = json.loads((self.dir / out / "summary.json").read_text())
        self.assertEqual(summary["exit"], 75)
        self.assertLess(summary["steps"], 250)
        self.assertFalse((self.dir / out / "final").exists())

    def test_stopped_run_goes_on_with_same_bits(self):
        for mesh, ranks, by in ((ONE_RANK, 0, signal.SIGTERM), (TWO_RANKS, 2, signal.SIGUSR1)):
            with self.subTest(mesh=mesh):
                whole = self.train(f"whole-{ranks}", *self.LONG, mesh=mesh)
                self.stop_after_some_steps(f"stopped-{ranks}", mesh, ranks, by)
                self.assert_same_bits(self.train(f"stopped-{ranks}", *self.LONG, mesh=mesh), whole)

    def test_more_steps_go_on_with_same_bits(self):
        self.train("extended", "--steps", "10", mesh=TWO_RANKS)
        self.assert_same_bits(self.train("extended", mesh=TWO_RANKS), self.train("straight", mesh=TWO_RANKS))

    def test_checkpoint_of_one_mesh_resumes_on_others(self):
        whole = self.train("2x2", mesh=(2, 2))
        shutil.copytree(whole / "checkpoint/step-000008", self.dir / "copied/step-000008")
        for mesh in (ONE_RANK, TWO_RANKS, (1, 2)):
            with self.subTest(mesh=mesh):
                run = self.train(f"from-2x2-{mesh[0]}x{mesh[1]}", "--resume", "copied/step-000008", mesh=mesh)
                ours, theirs = column(run, "loss"), column(whole, "loss")
                self.assertEqual(list(ours), list(range(9, 21)))
                for step, loss in ours.items():
                    self.assertLessEqual(abs(loss - theirs[step]), 1e-5 * loss, f"loss of step {step}")
                self.assert_same_columns(run, whole, "valid_loss")
                self.assert_same_weights(run, whole)

    # What a sharded optimizer wrote, any mesh reads, sharded or not; and the other way round.
    def test_checkpoint_of_a_sharded_optimizer_resumes_on_others(self):
        sharded = ("--set", "mesh.shard=optimizer")
        for name, writer, reader in (("cut", sharded, ()), ("whole", (), sharded)):
            whole = self.train(f"{name}-2x2", *writer, mesh=(2, 2))
            step = shutil.copytree(whole / "checkpoint/step-000008", self.dir / f"{name}/step-000008")
            for mesh in (TWO_RANKS, (1, 2)):
                with self.subTest(writer=name, mesh=mesh):
                    run = self.train(f"{name}-{mesh[0]}x{mesh[1]}", *reader, "--resume", f"{name}/{step.name}", mesh=mesh)
                    theirs = column(whole, "loss")
                    for number, loss in column(run, "loss").items():
                        self.assertLessEqual(abs(loss - theirs[number]), 1e-5 * loss, f"loss of step {number}")
                    self.assert_same_weights(run, whole)

    def test_finished_run_stays_as_it_is(self):
        record = lambda: (numbers(run), json.loads((run / "summary.json").read_text()), hashes_below(run / "final"),
                          hashes_below(run / "checkpoint"))
        run = self.train("finished", mesh=TWO_RANKS)
        before = record()
        self.train("finished", mesh=TWO_RANKS)
        self.assertEqual(before, record())

    def test_init_starts_from_a_finished_model(self):
        trained = self.train("teacher")
        still = ("--steps", "1", "--set", "optimizer.lr=1e-30", "--set", "optimizer.weight_decay=0")
        started = self.train("pupil", "--set", "model.init=teacher/final", *still, mesh=(1, 2))
        theirs = column(trained, "valid_loss")[20]
        self.assertLessEqual(abs(column(started, "valid_loss")[1] - theirs), 1e-5 * theirs)
        self.assertLess(column(started, "loss")[1], column(trained, "loss")[1] - 0.5)

    def damage(self, run):
        flip_byte(next(run.glob("model-*.safetensors")))

    def test_resume_path_is_obeyed_or_refused(self):
        donor = self.train("donor", "--steps", "8")
        path = "donor/checkpoint/step-000008"
        began = ("begun", "--resume", path, "--steps", "12", "--set", "checkpoint.every='2 steps'")
        self.train(*began)
        done = self.takt(*self.words(*began[:-4], "--steps", "16"))  # the same command, requeued
        self.assertRegex(done.out, "resumed from begun/checkpoint/step-000012 at step 12")
        before = hashes_below(donor / "checkpoint"), numbers(donor), hashes_below(self.dir / "begun/checkpoint")
        own = sorted((self.dir / "begun/checkpoint").glob("step-*"))
        for out, resume, ranks in (("begun", str(own[0]), 0), ("begun", str(own[0]), 2), ("donor", "begun", 0),
                                   ("begun", "donor", 0)):
            with self.subTest(out=out, resume=resume):
                mesh = (max(ranks, 1), 1)
                done = self.takt(*self.words(out, "--resume", resume, "--steps", "20", mesh=mesh), ranks=ranks, code=64)
                self.assertEqual(len(done.errors), 1, done)
                self.assertIn("choose another --out", done.err)
        self.assertEqual(before, (hashes_below(donor / "checkpoint"), numbers(donor),
                                  hashes_below(self.dir / "begun/checkpoint")))
        self.train("donor", "--resume", path, "--steps", "9")  # its own newest: no contradiction

    def test_run_with_no_step_left_knows_its_loss(self):
        run = self.train("done", "--steps", "8")
        loss = column(run, "loss")[8]
        shutil.rmtree(run / "final")
        done = self.takt(*self.words("done", "--steps", "8"))
        self.assertIn(f"loss {loss:.4f}", done.out)
        self.assertNotIn("tok/s", done.out.splitlines()[-2])
        self.assertEqual(json.loads((run / "summary.json").read_text())["loss"], loss)
        self.train("copy", "--steps", "8", "--resume", "done")  # another's checkpoint, whose loss it has not seen
        self.assertNotIn("loss", json.loads((self.dir / "copy/summary.json").read_text()))

    def start_long(self, out):
        process = self.start(*self.words(out, "--steps", "1000000", "--set", "checkpoint.every=off"))
        file = self.dir / out / "metrics.jsonl"
        wait_until(lambda: file.exists() and file.read_text().count("\n") >= 3, "step 3")
        return process

    def test_second_process_on_a_run_directory_is_refused(self):
        first = self.start_long("shared")
        for ranks, mesh in ((0, ONE_RANK), (2, TWO_RANKS)):
            done = self.takt(*self.words("shared", mesh=mesh), ranks=ranks, code=64)
            self.assertRegex(done.err, rf"shared: another run is going on here \(process {first.pid} on ")
        first.kill()  # the kernel gives the lock back, whatever happens
        first.wait()
        self.train("shared", "--steps", "4")

    def test_metrics_without_a_checkpoint_are_kept(self):
        first = self.start_long("killed")
        first.kill()
        first.wait()
        before = (self.dir / "killed/metrics.jsonl").read_bytes()
        done = self.takt(*self.words("killed", "--steps", "2"))
        self.assertIn("they are kept in killed/metrics.2.jsonl", done.out)
        self.assertEqual((self.dir / "killed/metrics.2.jsonl").read_bytes(), before)
        self.assertEqual(list(column(self.dir / "killed", "loss")), [1, 2])

    def test_ranks_that_see_other_files_go_the_way_of_the_root(self):
        """Rank 1 works in a folder where the run has its checkpoint and nothing else, as a stale view may show it."""
        job = JOB.replace("tiny.", f"{self.dir}/tiny.")
        (self.dir / "absolute.toml").write_text(job)
        train = [TAKT, "train", str(self.dir / "absolute.toml"), "--out", "seen", "--steps", "8"]
        subprocess.run([MPIEXEC, "--oversubscribe", "-np", "2", *train], cwd=self.dir, env=environment(), check=True,
                       timeout=DEADLINE_S, capture_output=True)
        (self.dir / "stale/seen").mkdir(parents=True)
        (self.dir / "stale/seen/checkpoint").symlink_to(self.dir / "seen/checkpoint")
        mpmd = [MPIEXEC, "--oversubscribe", "-np", "1", "-wdir", str(self.dir), *train, ":", "-np", "1", "-wdir",
                str(self.dir / "stale"), *train]
        done = subprocess.run(mpmd, cwd=self.dir, env=environment(), text=True, capture_output=True, timeout=DEADLINE_S)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("nothing to do: this run has done its 8 steps", done.stdout)

    def test_damaged_checkpoint_falls_back_to_the_one_before(self):
        for ranks, mesh in ((0, ONE_RANK), (2, TWO_RANKS)):
            with self.subTest(ranks=ranks):
                out = f"damaged-{ranks}"
                checkpoint = self.train(out, "--steps", "16", mesh=mesh) / "checkpoint"
                self.damage(checkpoint / "step-000016")
                done = self.takt(*self.words(out, "--steps", "20", mesh=mesh), ranks=ranks)
                warnings = [line for line in done.out.splitlines() if line.startswith("warning:")]
                self.assertEqual(len(warnings), 1, done)
                self.assertIn("step-000016", warnings[0])
                self.assertRegex(done.out, "resumed from .*step-000008 at step 8")
                self.assertEqual(list(column(self.dir / out, "loss")), list(range(1, 21)))
                for step in checkpoint.glob("step-*"):
                    self.damage(step)
                done = self.takt(*self.words(out, "--steps", "24", mesh=mesh), ranks=ranks, code=65)
                self.assertEqual(len(done.errors), 1, done)


class Stop(EndToEnd):
    """A request to stop is looked at wherever a run spends time, and never leaves a rank behind."""

    @staticmethod
    def catches(pid, number):
        try:
            # Before it becomes takt the process is a copy of mpiexec, which catches the signal too.
            if Path(f"/proc/{pid}/exe").resolve().name != Path(TAKT).name:
                return False
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False
        found = re.search(r"(?m)^SigCgt:\s*([0-9a-f]+)", status)
        return bool(found) and bool(int(found[1], 16) >> (number - 1) & 1)

    def test_set_up_is_stopped_by_a_signal_to_one_rank(self):
        deep = ("--set", "model.layers=700", "--set", "model.embed=8", "--set", "model.heads=1")  # a long compile
        for ranks, mesh, by in ((0, ONE_RANK, signal.SIGTERM), (2, TWO_RANKS, signal.SIGUSR1)):
            with self.subTest(ranks=ranks):
                out = f"set-up-{ranks}"
                process = self.start(*self.words(out, *deep, mesh=mesh), ranks=ranks)
                rank_of = lambda: process.pid if not ranks else (children(process.pid) or [0])[-1]
                wait_until(lambda: self.catches(rank_of(), by), "the start of the last rank")
                os.kill(rank_of(), by)
                done = self.finish(process)
                self.assertEqual(done.code, 75, done)
                self.assertEqual(done.err.count("stopped on request before the first step"), 1, done)
                self.assertFalse(done.errors, done)
                self.assertFalse((self.dir / out).exists())

    def test_evaluation_is_stopped_and_made_up_for(self):
        """Every step is followed by a validation that takes far longer."""
        long = ("--set", "data.valid=['tiny.train.bin']", "--set", "eval.every='1 steps'", "--set", "eval.samples=800",
                "--set", "train.micro_batch=1", "--set", "train.global_batch='2 samples'", "--steps", "2")
        for ranks, mesh in ((0, ONE_RANK), (2, TWO_RANKS)):
            with self.subTest(ranks=ranks):
                out = f"evaluation-{ranks}"
                process = self.start(*self.words(out, *long, mesh=mesh), ranks=ranks)
                file = self.dir / out / "metrics.jsonl"
                wait_until(lambda: file.exists() and "\n" in file.read_text(), "step 1")
                process.send_signal(signal.SIGUSR1)
                done = self.finish(process)
                self.assertEqual(done.code, 75, done)
                self.assertEqual([list(line)[1] for line in metrics(self.dir / out)], ["time"], "no validation")
                self.assertTrue((self.dir / out / "checkpoint/step-000001/manifest.json").exists())
                self.assert_same_bits(self.train(out, *long, mesh=mesh), self.train(f"{out}-whole", *long, mesh=mesh))

    def test_console_says_which_signal_is_safe(self):
        self.assertIn("SIGUSR1 to mpirun", self.takt(*self.words("with", "--steps", "1", mesh=TWO_RANKS), ranks=2).out)
        self.assertIn("checkpoint: Ctrl-C, SIGTERM or SIGUSR1", self.takt(*self.words("without", "--steps", "1")).out)

    def test_time_between_checkpoints_is_limited_by_default(self):
        (self.dir / "default.toml").write_text(JOB.replace('[checkpoint]\nevery = "8 steps"\n', ""))
        self.assertRegex(self.takt("train", "default.toml", "--dry-run").out, r'(?m)^every = "20m" +# default')


class Commands(EndToEnd):
    def test_run_directory_tells_the_story(self):
        done = self.takt(*self.words("run", mesh=(2, 1)), ranks=2)
        run = self.dir / "run"
        self.assertEqual((run / "console.log").read_text(), done.out)
        self.assertEqual((run / "job.toml").read_text(), JOB)
        self.assertIn("--out run", (run / "command.txt").read_text())
        self.assertEqual(json.loads((run / "environment.json").read_text())["ranks"], "2")
        fields = ("step time loss grad_norm lr tokens step_ms tokens_per_s tflops_per_rank mfu comm_ms comm_exposed_ms "
                  "mem_peak_bytes").split()
        steps = [line for line in metrics(run) if "loss" in line]
        self.assertEqual([list(line) for line in steps], [fields] * 20)
        self.assertEqual([line["tokens"] for line in steps], [512 * step for step in range(1, 21)])
        self.assertEqual([list(line) for line in metrics(run) if "loss" not in line], [["step", "valid_loss", "valid_ppl", "valid_bits_per_byte"]] * 2)
        summary = json.loads((run / "summary.json").read_text())
        self.assertEqual((summary["name"], summary["steps"], summary["tokens"], summary["ranks"], summary["exit"]),
                         ("tiny", 20, 20 * 512, 2, 0))
        self.assertEqual(summary["loss"], steps[-1]["loss"])
        self.assertEqual(summary["valid_loss"], column(run, "valid_loss")[20])
        self.assertEqual((run / "checkpoint/LATEST").read_text().strip(), "step-000020")
        self.assertEqual(json.loads((run / "final/config.json").read_text())["vocab_size"], 300)

    def test_effective_file_is_the_same_job(self):
        run = self.train("first", "--steps", "3")
        self.takt("train", "first/effective.toml", "--out", "second")
        self.assert_same_bits(run, self.dir / "second")
        dry = self.takt("train", "job.toml", "--dry-run", "--set", "optimizer.lr=0.5", TAKT_TRAIN_STEPS="7").out
        self.assertRegex(dry, r"(?m)^lr = 0\.5 +# --set")
        self.assertRegex(dry, r"(?m)^steps = 7 +# env TAKT_TRAIN_STEPS")

    def test_generate_goes_on_from_the_prompt(self):
        self.train("writer")
        prompt = "Tako mi "
        say = lambda *more: self.takt("generate", "writer", "--prompt", prompt, "--tokens", "40", *more).out
        text = say("--seed", "3")
        self.assertTrue(text.startswith(prompt), text)
        self.assertGreater(len(text), len(prompt) + 20)
        self.assertEqual(text, say("--seed", "3"))
        self.assertNotEqual(text, say("--seed", "4"))
        self.assertEqual(say("--temperature", "0"), say("--temperature", "0", "--seed", "4"))

    def test_plan_prints_memory_and_graphs(self):
        words = ["plan", "job.toml", "--ranks", "4", "--set", "mesh.layout={data=2,tensor=2}"]
        plan = self.takt(*words).out
        self.assertIn("mesh data=2 tensor=2", plan)
        self.assertIn("memory of a rank", plan)
        graphs = self.takt(*words, "--after", "parallelize").out
        self.assertIn("program micro_batch after parallelize", graphs)
        self.assertIn("all_reduce", graphs)

    def test_data_build_reads_every_text(self):
        lines = generated_text(60_000).splitlines(keepends=True)
        for name, begin in (("part-a.txt", 0), ("part-b.txt", len(lines) // 2)):
            (self.dir / name).write_text("".join(lines[begin : begin + len(lines) // 2]))
        (self.dir / "whole.txt").write_text("".join(lines[: len(lines) // 2 * 2]))
        for out, texts in (("one", ["whole.txt"]), ("two", ["part-a.txt", "part-b.txt"]), ("glob", ["part-*.txt"])):
            self.takt("data", "build", "--text", *texts, "--out", f"built-{out}", "--vocab", "300")
        for file in ("train.bin", "valid.bin", "tokenizer.json"):
            whole = (self.dir / f"built-one.{file}").read_bytes()
            self.assertEqual(whole, (self.dir / f"built-two.{file}").read_bytes(), file)
            self.assertEqual(whole, (self.dir / f"built-glob.{file}").read_bytes(), file)
        done = self.takt("data", "build", "--text", "no-*.txt", "--out", "never", code=65)
        self.assertRegex(done.err, "--text no-\\*.txt: no file has such a name")

    def test_version_and_keys(self):
        self.assertRegex(self.takt("version").out, r"^takt \d+\.\d+\.\d+ ")
        self.assertRegex(self.takt("keys").out, r"(?m)^  lr  +Learning rate")
        self.assertEqual(self.takt("version", ranks=2).out.count("takt "), 1)


HEAT = """
name = "heat"
seed = 3
threads = 1
[data]
train = "heat/train"
valid = "heat/valid"
[model]
kind = "mlp"
layers = 2
embed = 32
mlp = 48
[train]
global_batch = "16 samples"
steps = 60
[optimizer]
lr = 3e-3
[checkpoint]
every = "40 steps"
[eval]
every = "20 steps"
[log]
every = 20
"""


def npy(path):
    """The shape and the f32 elements of a .npy file, version 1."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<H", data, 8)
    header = data[10 : 10 + length].decode()
    assert "'<f4'" in header, header
    shape = [int(extent) for extent in re.search(r"'shape': \(([\d, ]*)\)", header)[1].split(",") if extent.strip()]
    return shape, array.array("f", data[10 + length :])


class Arrays(EndToEnd):
    """A model that is not a language model: a surrogate of heat conduction, as examples/surrogate has it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        (cls.dir / "heat.toml").write_text(HEAT)
        for part, first, number in (("train", 0, 300), ("valid", 1000, 37)):
            command = [os.environ["TAKT_MAKE_CASES"], f"heat/{part}", str(first), str(number)]
            subprocess.run(command, cwd=cls.dir, check=True, timeout=DEADLINE_S)

    def words(self, out, *more, mesh=ONE_RANK):
        words = super().words(out, *more, mesh=mesh)
        return ["train", "heat.toml", *words[2:]]

    def test_any_mesh_equals_one_rank(self):
        one = self.train("one")
        self.assertLess(column(one, "loss")[60], column(one, "loss")[1] / 4, "it learns")
        self.assertEqual(column(one, "samples")[60], 960)
        for mesh in MESHES:
            with self.subTest(data=mesh[0], tensor=mesh[1]):
                other = self.train(f"on-{mesh[0]}x{mesh[1]}", mesh=mesh)
                self.assert_same_run(other, one)
                self.assert_same_columns(other, one, "valid_relative_l2")
                config = (other / "final/config.json").read_bytes()
                self.assertEqual(config, (one / "final/config.json").read_bytes(), "the normalization")

    def test_predictions_are_in_the_units_of_the_data(self):
        run = self.train("predicting", mesh=TWO_RANKS)
        inputs = self.dir / "heat/valid/inputs.npy"
        self.takt("predict", "predicting", "--inputs", str(inputs), "--out", "out.npy", "--batch", "10")
        shape, found = npy(self.dir / "out.npy")
        wanted_shape, wanted = npy(self.dir / "heat/valid/targets.npy")
        self.assertEqual(shape, wanted_shape)
        error = sum((a - b) ** 2 for a, b in zip(found, wanted)) / sum(b * b for b in wanted)
        said = column(run, "valid_relative_l2")[60]
        self.assertAlmostEqual(error**0.5, said, delta=1e-4 * said)
        self.assertLess(said, 0.9, "better than to predict nothing")

    def test_stopped_run_goes_on_with_same_bits(self):
        whole = self.train("whole")
        self.train("parts", "--steps", "40")
        self.train("parts")
        self.assertEqual([line["loss"] for line in metrics(whole) if "loss" in line],
                         [line["loss"] for line in metrics(self.dir / "parts") if "loss" in line])
        self.assertEqual(weights(whole), weights(self.dir / "parts"))

    def test_mistakes(self):
        self.train("arrays", "--steps", "2")
        self.takt("train", "job.toml", "--out", "words", "--steps", "2")
        inputs = "heat/valid/inputs.npy"

        def check(code, wanted, *words):
            done = self.takt(*words, code=code)
            self.assertEqual(len(done.errors), 1, done)
            self.assertRegex(done.err, wanted)

        check(64, "which does not write text", "generate", "arrays")
        check(64, "does not turn arrays into arrays", "predict", "words", "--inputs", inputs, "--out", "o.npy")
        check(65, r"a row has the shape \[16, 16\], the model was trained on \[2, 16, 16\]",
              "predict", "arrays", "--inputs", "heat/valid/targets.npy", "--out", "o.npy")
        check(65, "no final/", "predict", "heat", "--inputs", inputs, "--out", "o.npy")
        check(78, 'but this model counts samples',
              *self.words("never", "--set", "train.global_batch=64 tokens"))
        check(78, "model.heads is for model.kind", *self.words("never", "--set", "model.heads=2"))
        check(65, "nowhere/inputs.npy", *self.words("never", "--set", "data.train=nowhere"))
        check(78, "an mlp reads one folder", *self.words("never", "--set", "data.train=['heat/train', 'heat/valid']"))


class Errors(EndToEnd):
    """Every mistake is one `error:` line, whoever started takt, and has its exit code."""

    def check(self, code, wanted, *words, launches=(0, 2), **variables):
        for ranks in launches:
            with self.subTest(words=words, ranks=ranks):
                done = self.takt(*words, ranks=ranks, code=code, **variables)
                self.assertEqual(len(done.errors), 1, done)
                self.assertRegex(done.err, wanted)
                if ranks == 0:  # mpirun adds lines of its own
                    for line in done.err.splitlines()[1:]:
                        self.assertTrue(line.startswith("  "), done)

    def check_job(self, code, wanted, *settings, **how):
        sets = [word for setting in settings for word in ("--set", setting)]
        self.check(code, wanted, "train", "job.toml", "--out", "never", *sets, **how)

    def test_usage(self):
        self.check(64, "unknown flag '--stepz'\n.*did you mean '--steps'", "train", "job.toml", "--stepz", "3")
        self.check(64, "unknown command 'trian'\n.*did you mean 'train'", "trian", "job.toml")
        self.check(64, "JOB is required", "train")
        self.check(64, "KEY=VALUE", "train", "job.toml", "--set", "seed")
        build = ("data", "build", "--text", "tiny.txt", "--out", "unbuilt")
        self.check(64, "unknown flag '--vocb'\n.*did you mean '--vocab'", *build, "--vocb", "512", launches=(0,))
        self.check(64, "unexpected argument 'b.txt'", *build, "--overwrite", "b.txt", launches=(0,))
        self.assertFalse(list(self.dir.glob("unbuilt*")))

    def test_job_file(self):
        self.check(78, "no.toml", "train", "no.toml")
        self.check(78, "a directory", "train", ".")
        (self.dir / "slip.toml").write_text(JOB.replace("lr = ", "learning_rate = "))
        line = 1 + JOB.replace("lr = ", "learning_rate = ").splitlines().index("learning_rate = 3e-3")
        self.check(78, rf"slip.toml:{line}:1: unknown key 'optimizer.learning_rate'[\s\S]*did you mean 'lr'",
                   "train", "slip.toml")
        (self.dir / "broken.toml").write_text("name = \n")
        self.check(78, "broken.toml:1", "train", "broken.toml")

    def test_values(self):
        self.check_job(78, "did you mean 'layers'", "model.layerz=2")
        self.check_job(78, "whole number.*got \"two\"", "model.layers=\"two\"")
        self.check_job(78, "8 stepz", "checkpoint.every='8 stepz'")
        self.check_job(78, "12 bananas", "train.global_batch='12 bananas'")

    def test_plan_and_train_refuse_the_same_memory(self):
        # A rank that has more than half of the host, and less than all of it.
        half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        limit = Path("/sys/fs/cgroup/memory.max")
        if limit.exists() and limit.read_text().strip().isdigit():
            half = min(half, int(limit.read_text()) // 2)
        vocab = int(1.2 * half) // (4 * 4 * 64)  # table, gradient and two moments, in fp32
        sets = [word for key in (f"model.vocab={vocab}", "model.tied=true", "model.embed=64", "model.layers=1",
                                 "train.micro_batch=1", "model.seq=1", "eval.every=off", "data.valid=[]",
                                 "mesh.layout={data=2}")
                for word in ("--set", key)]
        two = ("plan", "job.toml", "--ranks", "2", *sets)
        self.assertIn("2 ranks on 2 hosts like this one, 1 a host", self.takt(*two).out)
        self.check(71, r"memory: a rank needs .* over 2 ranks", *two, "--ranks-per-host", "2", launches=(0,))
        self.check(71, r"memory: a rank needs .* over 2 ranks", "train", "job.toml", "--out", "never", *sets, launches=(2,))
        self.check(64, "--ranks-per-host 1: the launcher placed 2 ranks", "train", "job.toml", "--out", "never",
                   "--ranks-per-host", "1", launches=(2,))

    def test_impossible_jobs(self):
        self.check_job(78, "tensor=5", "mesh.layout={tensor=5}")
        self.check_job(78, "data=3 x tensor=1", "mesh.layout={data=3,tensor=1}")
        self.check_job(78, "tensor=2 does not divide.*heads", "mesh.layout={tensor=2}", "model.heads=1", launches=(2,))
        self.check(78, "tensor=3 does not divide.*heads", "plan", "job.toml", "--ranks", "3", "--set",
                   "mesh.layout={tensor=3}")
        self.check_job(78, "embed 32 is not a multiple of model.heads 5", "model.heads=5")
        self.check_job(78, "500", "train.global_batch='500 tokens'")
        self.check_job(78, "15 samples", "train.global_batch='15 samples'", "mesh.layout={data=2}", launches=(2,))
        self.check_job(78, "micro_batch 6", "train.micro_batch=6")

    def test_data(self):
        write_tokens(self.dir / "short.bin", [1] * 20)
        self.check_job(65, "short.bin", "data.train=['short.bin']")
        self.check_job(65, "short.bin", "data.valid=['short.bin']")
        write_tokens(self.dir / "wild.bin", [1] * 500 + [300] + [1] * 500)
        self.check_job(65, "wild.bin: token 500 is 300", "data.train=['wild.bin']")
        whole = (self.dir / "tiny.train.bin").read_bytes()
        (self.dir / "cut.bin").write_bytes(whole[:-10])
        self.check_job(65, "cut.bin.*\n.*cut short", "data.train=['cut.bin']")
        self.check_job(65, "no.bin", "data.train=['no.bin']")
        self.check_job(65, "no.json", "data.tokenizer=no.json")
        (self.dir / "bad.json").write_text('{"model": {"type": "BPE", "vocab"')
        self.check_job(65, "bad.json", "data.tokenizer=bad.json")

    def test_checkpoints(self):
        run = self.train("source", "--steps", "8")
        self.check_job(65, "no-model", "model.init=no-model")
        resume = lambda wanted, path: self.check(65, wanted, "train", "job.toml", "--out", "never", "--resume", path)
        resume("no-run", "no-run")
        for file in ("model", "optimizer"):
            shutil.copytree(run / "checkpoint", self.dir / f"flipped-{file}")
            flip_byte(next((self.dir / f"flipped-{file}/step-000008").glob(f"{file}-*.safetensors")))
            resume(f"{file}-.*safetensors", f"flipped-{file}/step-000008")
        flip_byte(next((run / "checkpoint/step-000008").glob("model-*")))  # now the only one there is
        self.check(65, "step-000008", *self.words("source"), launches=(0,))

    def test_weights_of_another_model(self):
        final = self.train("teacher", "--steps", "1") / "final"
        config = json.loads((final / "config.json").read_text())
        for change, code, wanted in (({"rope_theta": 500000.0}, 78, "model.rope_theta is 10000.0, the file has rope_theta = 500000.0"),
                                     ({"model_type": "granite", "logits_scaling": 8.0}, 65, "model_type is \"granite\"")):
            (final / "config.json").write_text(json.dumps({**config, **change}))
            self.check_job(code, wanted, "model.init=teacher/final")
        (final / "config.json").unlink()
        done = self.takt(*self.words("unseen", "--steps", "1", "--set", "model.init=teacher/final/model.safetensors"))
        self.assertIn("warning: no config.json lies beside model.init", done.out)

    def test_ranks_with_different_jobs(self):
        train = [TAKT, "train", "job.toml", "--out", "never"]
        mpmd = [MPIEXEC, "--oversubscribe", "-np", "1", *train, ":", "-np", "1", "-x", "TAKT_OPTIMIZER_LR=1", *train]
        done = subprocess.run(mpmd, cwd=self.dir, env=environment(), text=True, capture_output=True, timeout=DEADLINE_S)
        self.assertEqual(done.returncode, 78, done)
        self.assertEqual(len(re.findall("(?m)^error: the job: rank 1 has another one than rank 0", done.stderr)), 1, done)

    def test_another_experiment_does_not_resume(self):
        self.train("first", "--steps", "4")
        for setting, wanted in (("seed=9", "seed: the checkpoint was made with 5"), ("model.seq=16", "model.seq"),
                                ("model.rope_theta=500", "model.rope_theta")):
            self.check(78, wanted, *self.words("first", "--set", setting), launches=(0,))

    def test_data_is_compared_by_content(self):
        run = self.train("moving", "--steps", "8")
        moved = self.dir / "elsewhere/moved.bin"
        moved.parent.mkdir()
        shutil.copy(self.dir / "tiny.train.bin", moved)
        elsewhere = ("--set", f"data.train=['{moved}']")
        self.train("moving", "--steps", "10", *elsewhere)
        self.assertEqual(list(column(run, "loss")), list(range(1, 11)))
        tokens = bytearray(moved.read_bytes())
        tokens[-2:] = bytes(2)  # the last token; of another file of the same size
        moved.write_bytes(tokens)
        self.check(78, "data.train: the checkpoint was made with data of hash",
                   *self.words("moving", "--steps", "12", *elsewhere), launches=(0,))

    def test_launcher_that_starts_ranks_that_do_not_meet(self):
        self.check(79, "srun started 4 ranks.*MPI sees 1", "train", "job.toml", launches=(0,), SLURM_STEP_ID="0",
                   SLURM_PROCID="0", SLURM_STEP_NUM_TASKS="4")


class Failures(EndToEnd):
    def test_numbers_that_are_not_finite_end_the_run(self):
        for mesh, ranks in ((ONE_RANK, 0), (TWO_RANKS, 2)):
            with self.subTest(ranks=ranks):
                out = f"nan-{ranks}"
                run = self.train(out, "--steps", "8", mesh=mesh)
                before = hashes_below(run / "checkpoint"), hashes_below(run / "final"), numbers(run)
                done = self.takt(*self.words(out, "--set", "optimizer.lr=1e30", mesh=mesh), ranks=ranks, code=76)
                self.assertEqual(len(done.errors), 1, done)
                named = int(re.search(r"step (\d+)", done.errors[0])[1])
                self.assertTrue(9 < named <= 16, done)
                self.assertEqual(before[:2], (hashes_below(run / "checkpoint"), hashes_below(run / "final")))
                self.assertEqual(before[2], numbers(run)[: len(before[2])])
                self.train(out, mesh=mesh)  # and the run is none the worse for it
                self.assertEqual(list(column(run, "loss")), list(range(1, 21)))

    def test_weights_that_are_not_finite_are_not_saved(self):
        settings = ["optimizer.lr=3e38", "optimizer.schedule={kind=\"constant\"}", "checkpoint.every=\"1 steps\"",
                    "optimizer.weight_decay=1000.0"]
        sets = [word for setting in settings for word in ("--set", setting)]
        done = self.takt(*self.words("burnt", *sets), code=76)
        self.assertEqual(len(done.errors), 1, done)
        self.assertRegex(done.err, "step 1: the weights are not finite; they were not saved\n  there is no checkpoint yet")
        self.assertFalse(list((self.dir / "burnt/checkpoint").glob("step-*")))

    def test_killed_rank_ends_the_run(self):
        process = self.start(*self.words("killed", "--steps", "1000000", mesh=TWO_RANKS), ranks=2)
        file = self.dir / "killed/metrics.jsonl"
        wait_until(lambda: file.exists() and file.read_text().count("\n") >= 3, "step 3")
        ranks = children(process.pid)
        self.assertEqual(len(ranks), 2)
        os.kill(ranks[-1], signal.SIGKILL)
        done = self.finish(process, timeout_s=10)
        self.assertNotEqual(done.code, 0, done)
        wait_until(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks), "the end of the other rank")


if __name__ == "__main__":
    unittest.main(verbosity=2)
