"""Machines that fail under a run: each time the run ends, soon, and says why; what was saved stays."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from helpers.forks import FORKS
from helpers.paths import REPOSITORY

pytestmark = pytest.mark.first

ROOT = REPOSITORY
SOURCES = [ROOT / "packages", *(ROOT / "apps" / app / "src" for app in ("audio", "image", "video"))]
TOY = ROOT / "tests" / "helpers" / "toy.py"
NOBODY = 65534
TWO = ("-m", "accelerate.commands.launch", "--main_process_port", "0", "--multi_gpu", "--num_processes", "2")
MODEL = {"name": "eyetoy1d_pico", "stem_strides": [8]}


def toy(code: str) -> list[str]:
    """A command that runs some code with the toy modality; the recipe's values follow it as JSON."""
    start = f"import json, os, sys; sys.path.insert(0, {str(TOY.parent)!r}); from toy import *\n"
    return [sys.executable, "-c", start + textwrap.dedent(code)]


RUN = "recipe = build_recipe(**json.loads(sys.argv[1]))\ntrain({task}(recipe), recipe)\n"


def environment(**changes: str) -> dict[str, str]:
    path = os.pathsep.join(map(str, SOURCES))
    return os.environ | {"PYTHONPATH": path, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"} | changes


def run(command: list[str], recipe: dict, *, seconds: int = 90, env: dict | None = None, **options) -> tuple[int, str]:
    """Run to the end, which must come within the time; return the exit code and what was printed.

    In a fork, unless the process needs a beginning of its own.
    """
    values = {"epochs": 2, "trackers": [], "model": MODEL} | recipe
    if env is None and not options:
        arguments = [*command[1:], json.dumps(values)]
        forked = FORKS.run(arguments, env=environment(), merge=True, timeout=seconds)
        return forked.returncode, forked.stdout
    found = subprocess.run(
        [*map(str, command), json.dumps(values)],
        env=env or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
        **options,
    )
    return found.returncode, found.stdout


def test_a_killed_worker_ends_the_run(tmp_path):
    """As the system kills it when memory runs out."""
    code = """
    class KillsItsWorker(Slopes):
        def load_sample(self, source, *, training):
            if source == ("train", 5):
                os.kill(os.getpid(), signal.SIGKILL)
            return super().load_sample(source, training=training)
    """
    started = time.monotonic()
    ended, said = run(
        toy(textwrap.dedent(code) + RUN.format(task="KillsItsWorker")),
        {"output_dir": str(tmp_path / "run"), "num_workers": 2},
    )
    assert ended == 1
    assert re.search(
        r"DataLoader worker (\(pid.*\) .*(killed by signal: Killed|exited unexpectedly)|exited .* handed over a batch)",
        said,
    )
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("collates", [True, False], ids=["tensors", "lists"])
def test_a_worker_without_shared_memory_ends_the_run(tmp_path, collates):
    """Where batches are larger than what /dev/shm takes, by a limit on files, which shared memory counts as."""
    own = "" if collates else "collate = staticmethod(lambda samples: {k: [s[k] for s in samples] for k in samples[0]})"
    code = f"""
    import resource
    from torch.utils.data import Dataset
    class Large(Dataset):
        {own}
        def __len__(self):
            return 40
        def __getitem__(self, index):
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            return {{"input": torch.zeros(1, 100_000), "label": 0}}
    class NeedsRoom(Slopes):
        def dataset(self, split):
            return Large() if split == "train" else super().dataset(split)
    """
    ended, said = run(
        toy(textwrap.dedent(code) + RUN.format(task="NeedsRoom")),
        {"output_dir": str(tmp_path / "run"), "num_workers": 1},
    )
    assert ended == 1
    assert "shared memory" in said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_the_death_of_one_of_two_processes_ends_the_other(tmp_path, number):
    code = f"""
    class Dies(Slow):
        def loss(self, model, batch):
            if os.environ["RANK"] == "1":
                self.passes = getattr(self, "passes", 0) + 1
                if self.passes == 7:
                    Path({str(tmp_path / "death")!r}).touch()
                    os.kill(os.getpid(), {int(number)})
            return super().loss(model, batch)
    """
    script = tmp_path / "script.py"
    script.write_text(toy(textwrap.dedent(code) + RUN.format(task="Dies"))[-1])
    ended, said = run([sys.executable, *TWO, script], {"output_dir": str(tmp_path / "run"), "epochs": 30})
    assert ended == 1
    assert time.time() - (tmp_path / "death").stat().st_mtime < 60
    assert re.search(rf"exitcode *: *-{int(number)}|Signal {int(number)}|{number.name}", said)
    saved = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert [path.name for path in saved] == ["step-00000005"]
    left = subprocess.run(["pgrep", "-f", str(script)], capture_output=True, text=True, check=False).stdout  # noqa: S607
    assert left == ""


def test_an_exception_in_one_of_two_processes_ends_the_other(tmp_path):
    code = f"""
    class Fails(Slow):
        def load_sample(self, source, *, training):
            if os.environ["RANK"] == "1" and source[0] == "val":
                Path({str(tmp_path / "death")!r}).touch()
                raise ValueError("cannot read a sample of mine")
            return super().load_sample(source, training=training)
    """
    script = tmp_path / "script.py"
    script.write_text(toy(textwrap.dedent(code) + RUN.format(task="Fails"))[-1])
    ended, said = run([sys.executable, *TWO, script], {"output_dir": str(tmp_path / "run")})
    assert ended == 1
    assert "cannot read a sample of mine" in said
    assert time.time() - (tmp_path / "death").stat().st_mtime < 60


PLAIN = toy(RUN.format(task="Slopes"))


def as_nobody(command: list[str], folder: Path) -> dict:
    """Options to run without the rights of root, which writes anywhere."""
    if os.getuid():
        return {}
    probe = subprocess.run([command[0], "-c", "import torch"], user=NOBODY, capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("Python and its packages are in a place that only root reads")
    return {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": folder}


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_trained(tmp_path):
    for folder in (*tmp_path.parents, tmp_path):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o555)
    (tmp_path / "shut").mkdir(mode=0o555)
    ended, said = run(PLAIN, {"output_dir": str(tmp_path / "shut" / "run")}, **as_nobody(PLAIN, tmp_path))
    assert ended == 1
    assert f"PermissionError: [Errno 13] Permission denied: '{tmp_path / 'shut' / 'run'}" in said
    assert "epoch" not in said


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    ended, said = run(PLAIN, {"output_dir": str(tmp_path / "file" / "run")})
    assert ended == 1
    assert "NotADirectoryError" in said
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("home", ["/nonexistent", None], ids=["missing", "unset"])
def test_a_run_needs_no_home(tmp_path, home):
    env = environment(TMPDIR=str(tmp_path))
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "MPLCONFIGDIR", "USER", "LOGNAME"):
        env.pop(name, None)
    if home:
        env["HOME"] = home
    ended, said = run(PLAIN, {"output_dir": str(tmp_path / "run"), "trackers": ["tensorboard"]}, env=env)
    assert ended == 0, said
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_clock_that_jumps_back_changes_nothing(tmp_path):
    """By an hour with every look: what a run goes on from is told by steps, and times by a clock that only advances."""
    jump = """
    import time
    hours = iter(range(10**9))
    now = time.time
    time.time = lambda: now() - 3600 * next(hours)
    class Stops(Slopes):
        passes = 0
        def loss(self, model, batch):
            self.passes += 1
            if self.passes == 8 and not os.path.exists(MARK):
                os.mkdir(MARK)
                os._exit(3)
            return super().loss(model, batch)
    """
    results = []
    for name, change in (("jumping", jump), ("steady", jump.replace("3600", "0"))):
        code = textwrap.dedent(change).replace("MARK", repr(str(tmp_path / f"mark of {name}")))
        command, recipe = toy(code + RUN.format(task="Stops")), {"output_dir": str(tmp_path / name)}
        assert run(command, recipe)[0] == 3
        ended, said = run(command, recipe)
        assert ended == 0, said
        assert "going on after step 5" in said
        results.append(json.loads((tmp_path / name / "results.json").read_text()))
        assert results[-1]["training_seconds"] > 0
    assert results[0]["test"] == results[1]["test"]


WITHOUT_NETWORK = """
import json, socket, sys, time, traceback
time.sleep = lambda seconds: None  # between tries
def refuse(*arguments, **options):
    raise socket.gaierror(-3, "Temporary failure in name resolution")
socket.getaddrinfo = socket.create_connection = refuse
socket.socket.connect = refuse
said = {}
for what, call in json.loads(sys.argv[1]).items():
    try:
        exec(call)
    except Exception:
        said[what] = traceback.format_exc()
print(json.dumps(said))
"""


def test_without_a_network_it_is_said_what_was_to_be_fetched(tmp_path):
    calls = {
        "data": "from eyetoy_train.data.hub import HubSet\nHubSet('someone/something', 'Image').prepare()",
        "weights": "from eyetoy_train import ModelRecipe\nfrom eyetoy_train.models.build import build_classifier\n"
        "build_classifier(ModelRecipe(name='eyetoy2d_pico', weights='someone/something'), num_classes=2)",
        "model": "from eyetoy import Classifier\nClassifier.from_pretrained('someone/something')",
    }
    env = environment(HF_HOME=str(tmp_path), HF_HUB_DOWNLOAD_TIMEOUT="1", HF_HUB_ETAG_TIMEOUT="1")
    command = [sys.executable, "-c", WITHOUT_NETWORK, json.dumps(calls)]
    found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)
    said = json.loads(found.stdout.splitlines()[-1])
    assert said.keys() == calls.keys()
    assert [what for what, traceback in said.items() if "someone/something" not in traceback[-600:]] == []


def test_a_disk_that_fills_up_while_lines_are_written(tmp_path):
    """Not in a checkpoint, but in the record of steps."""

    def shrink() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))

    ended, said = run(PLAIN, {"output_dir": str(tmp_path / "run")}, preexec_fn=shrink)
    assert ended == 1
    assert re.search(r"could not write .*MB are free there|File too large", said)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_full_disk_of_its_own(tmp_path):
    """A small file system in memory, where the machine lets one be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", disk], capture_output=True, check=False)  # noqa: S607
    if mount.returncode:
        pytest.skip("this machine lets no file system be mounted")
    try:
        ended, said = run(PLAIN, {"output_dir": str(disk / "run"), "epochs": 3})
        assert ended == 1
        assert re.search(r"could not write .*No space left on device.* MB are free there", said)
        assert not list(disk.rglob("*.partial"))
    finally:
        subprocess.run(["umount", disk], check=True)  # noqa: S607
