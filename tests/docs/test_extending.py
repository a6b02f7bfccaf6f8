"""The page about extending says what is true: its diffs apply, and its code and commands run on what they make."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.forks import FORKS
from helpers.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
DATA_SET, MODEL, BACKEND, TASK = SECTIONS
PACKAGES = ("packages", "apps/audio/src", "apps/image/src", "apps/video/src")
# All commands of a section in one process: importing torch and the app takes longer than running them.
RUN_SCRIPTS = """
import json, runpy, sys
for sys.argv in json.loads(sys.argv[1]):
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A copy of the packages and apps with all diffs of the page applied."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("packages", "apps"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    # If the temporary folder is inside of a repository, git would take the diffs' paths from there and skip them all.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    command = [shutil.which("git") or "git", "apply", "-"]
    for section in SECTIONS:
        for diff in blocks(section, "diff"):
            done = subprocess.run(
                command, cwd=folder, env=environment, input=diff, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{section}: {done.stderr}"
    return folder


def run(folder: Path, *arguments: str) -> str:
    """Run Python on the copy and return what it prints."""
    paths = os.pathsep.join(str(folder / name) for name in PACKAGES)
    environment = os.environ | {"PYTHONPATH": paths, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = FORKS.run(arguments, cwd=folder, env=environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def run_commands(folder: Path, section: str, *, training: str) -> str:
    """Run the commands of a section as they are, with further options for those that train."""
    scripts = []
    for line in "".join(blocks(section, "sh")).replace("\\\n", " ").splitlines():
        if "docs/examples" in line:  # test_docs.py runs these
            continue
        words = re.fullmatch(r"(?:accelerate launch|python) (.*)", line)[1]
        scripts.append(shlex.split(words) + (shlex.split(training) if "train.py" in words else []))
    assert scripts
    return run(folder, "-c", RUN_SCRIPTS, json.dumps(scripts))


def scores_in(printed: str) -> dict[str, float]:
    """Return what validate.py printed."""
    return json.loads(re.search(r"^\{.*?^\}", printed, re.MULTILINE | re.DOTALL)[0])


def write_pictures(root: Path, values: dict[str, float]) -> None:
    """Write grey pictures, as bright as their values from 0 to 1."""
    for name, value in values.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 14, 3), round(255 * value), np.uint8)).save(root / name)


@pytest.mark.parametrize("section", SECTIONS)
def test_each_section_shows_a_diff(section):
    assert section.startswith("Add a ")
    diffs = blocks(section, "diff")
    assert diffs
    assert all(diff.startswith("--- ") for diff in diffs)
    assert len(SECTIONS) == 4


def test_the_data_set_trains(extended):
    recordings = extended / "data" / "free-spoken-digit-dataset" / "recordings"
    recordings.mkdir(parents=True)
    generator = np.random.default_rng(0)
    indices = {"test": (0, 4), "val": (5, 9), "train": (10, 49)}
    for digit in range(10):
        for index in sum(indices.values(), ()):
            with wave.open(str(recordings / f"{digit}_ada_{index}.wav"), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes(generator.normal(0, 3000, 2000).astype("<i2").tobytes())
    small = "--max_steps 1 --batch_size 4 --model.name eyetoy1d_pico --model.stem_strides [8,8]"
    printed = run_commands(extended, DATA_SET, training=small)
    results = json.loads((extended / "runs" / "spoken_digits" / "results.json").read_text())
    assert results["stability"]["steps"] == 1
    assert "20 training samples" in printed
    assert (results["val"]["count"], results["test"]["count"]) == (20, 20)
    labels = json.loads((extended / "runs/spoken_digits/checkpoints/best/labels.json").read_text())
    assert labels == list("0123456789")


def test_the_models_run(extended):
    code = blocks(MODEL, "python")
    run(extended, "-c", "\n".join(code))
    assert "eyetoy2d_femto" in code[0]
    # The digits recipe writes its data only if they are missing.
    write_pictures(
        extended / "data" / "digits",
        {f"{split}/{name}/{i}.png": i / 4 for split in ("train", "val", "test") for name in "01" for i in range(4)},
    )
    printed = run_commands(extended, MODEL, training="--max_steps 1 --batch_size 4")
    results = json.loads((extended / "runs" / "convnet" / "results.json").read_text())
    # 1 * 9 * 64 + 64 of the first convolution, 64 * 9 * 64 + 64 of the second, 64 * 2 + 2 of the head.
    assert results["parameters"] == 640 + 36_928 + 130
    assert scores_in(printed)["accuracy"] == results["test"]["accuracy"]
    config = json.loads((extended / "runs/convnet/checkpoints/best/config.json").read_text())
    assert config["kind"] == "mine"


PARITY = """
import itertools
from eyetoy import neighborhood_attention

torch.manual_seed(0)
for dims, window, dilation, stride, causal in itertools.product((1, 2, 3), (1, 4, 9), (1, 2), (1, 2), (False, True)):
    if stride > window:
        continue
    grid = (7, 6, 5)[:dims]
    tokens = [torch.randn(2, *grid, 2, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = torch.rand(2, *grid) < 0.3  # some queries are left without any key
    outs = [
        neighborhood_attention(
            *tokens, window, dilation=dilation, stride=stride, is_causal=causal, key_mask=mask, backend=backend
        )
        for backend in ("dense", "reference")
    ]
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*[torch.autograd.grad(out.square().sum(), tokens) for out in outs])
"""


def test_the_backend_equals_the_reference(extended):
    code = "\n".join(blocks(BACKEND, "python"))
    assert 'backend="dense"' in code
    run(extended, "-c", code + PARITY)


def test_the_task_learns_and_loads(extended):
    root = extended / "data" / "values"
    values = {f"{i}.png": i / 24 for i in range(24)}
    splits = ("train", "train", "val", "test")
    write_pictures(root, values)
    with (root / "values.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(name, value, splits[i % 4]) for i, (name, value) in enumerate(values.items())]
        csv.writer(file).writerows([("file", "value", "split"), *rows])
    training = "--epochs 20 --batch_size 12 --lr 3e-3 --data.image_size 16"
    printed = run_commands(extended, TASK, training=training)

    results = json.loads((extended / "runs" / "regression" / "results.json").read_text())
    scores = scores_in(printed)
    assert scores["r2"] == pytest.approx(results["test"]["r2"])
    assert scores["r2"] > 0.5
    assert (extended / "runs" / "regression" / "report.html").exists()
    # What predict.py prints, scored by the definition of r2.
    found = re.findall(r"^data/values/(\S+\.png)  (\S+)$", printed, re.MULTILINE)
    predicted = {name: float(number) for name, number in found}
    assert predicted.keys() == values.keys()
    truth = np.array([value for name, value, split in rows if split == "test"])
    errors = truth - np.array([predicted[name] for name, _, split in rows if split == "test"])
    assert scores["loss"] == pytest.approx((errors**2).mean(), rel=1e-2)
    assert scores["r2"] == pytest.approx(1 - (errors**2).sum() / ((truth - truth.mean()) ** 2).sum(), abs=1e-2)
