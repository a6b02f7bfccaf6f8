"""benchmarks/compare.py and steps.py: every grid names options that exist; a small one is trained, kept, timed."""

from __future__ import annotations

import dataclasses
import importlib
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml

from eyetoy_audio.app import APP as AUDIO
from eyetoy_image.app import APP as IMAGE
from eyetoy_image.detection.model import Detector
from eyetoy_image.segmentation.model import Segmenter
from eyetoy_train import build_classifier
from eyetoy_video.app import APP as VIDEO
from helpers.forks import FORKS
from helpers.paths import REPOSITORY, config

APPS = {"image": IMAGE, "audio": AUDIO, "video": VIDEO}
GRIDS = sorted((REPOSITORY / "benchmarks" / "grids").glob("*.yaml"))
SIZES = ("pico", "nano", "tiny", "small", "base")
SMALL = """
title: A small ViT
recipe: apps/image/src/eyetoy_image/configs/digits.yaml
seeds: 2
options: {epochs: 1, max_steps: 2, model.stem_strides: null, trackers: []}
variants:
  narrow, augmented: {model.name: timm/test_vit, data.augmentation.erasing: 0.5, model.options: {patch_size: 4}}
"""


@pytest.fixture
def benchmark(tmp_path, monkeypatch, capsys) -> Callable[..., str]:
    """Run a script of the benchmarks in this process, and the programs that it starts in forks; return what it says."""

    def run_in_fork(command: list[str], *, stdout: Any, env: dict[str, str], **_: Any) -> Any:
        done = FORKS.run(command[1:], env=env | {"OMP_NUM_THREADS": "1"}, merge=True)
        stdout.write(done.stdout)
        return done

    def run(name: str, *arguments: str, code: int = 0) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
        monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
        monkeypatch.setattr(subprocess, "run", run_in_fork)
        monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "benchmarks" / name), *arguments])
        ended = None
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as stop:
            ended = stop.code
        printed = capsys.readouterr()
        assert (isinstance(ended, str) or ended or 0) == code, printed.out + printed.err
        return printed.out

    return run


@pytest.fixture
def compare(benchmark) -> Callable[..., str]:
    return lambda *arguments, **options: benchmark("compare.py", *arguments, **options)


def test_a_grid_is_trained_kept_and_gone_on_with(tmp_path, compare):
    (tmp_path / "small.yaml").write_text(SMALL)
    assert compare("small.yaml", "--seeds", "1").count(": done") == 1
    assert compare("small.yaml", "--jobs", "2").count(": done") == 1
    folder = tmp_path / "runs" / "compare"
    report = json.loads((folder / "compare-small.json").read_text())
    row = report["variants"]["narrow, augmented"]
    runs = [folder / "small" / "narrow--augmented" / f"seed-{seed}" / "results.json" for seed in (0, 1)]
    accuracies = [100 * json.loads(path.read_text())["test"]["accuracy"] for path in runs]
    score = row["scores"]["accuracy"]
    assert score["seeds"] == pytest.approx(accuracies, abs=1e-3)
    assert score["mean"] == pytest.approx(sum(accuracies) / 2, abs=1e-3)
    # Student's t with one degree of freedom: 12.706 standard errors.
    half = 12.7062 * abs(accuracies[0] - accuracies[1]) / 2
    assert score["interval"] == pytest.approx(half, rel=1e-3, abs=1e-3)
    validated = [100 * json.loads(path.read_text())["val"]["accuracy"] for path in runs]
    assert row["validation"] == {"1": pytest.approx(sum(validated) / 2, abs=1e-3)}
    assert 0 < row["cpu_seconds"] < 300
    assert (folder / "compare-small.png").stat().st_size > 10_000
    assert "| narrow, augmented | " in (folder / "compare-small.md").read_text()
    runs[0].unlink()
    assert compare("small.yaml").count(": done") == 1
    (tmp_path / "small.yaml").write_text(SMALL.replace("erasing: 0.5", "erasing: 0.6"))
    assert "was started with another recipe or other options" in compare("small.yaml", code=1)


def test_the_variants_are_trained_by_another_recipe_with_its_own_options(tmp_path, compare):
    (tmp_path / "small.yaml").write_text(SMALL.replace("max_steps: 2", "max_steps: 3"))
    recipe = yaml.safe_load((config("image", "digits")).read_text())
    recipe |= {"epochs": 1, "warmup_epochs": 0, "max_steps": 1, "trackers": [], "model": {"name": "timm/test_vit"}}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(recipe))
    compare("small.yaml", "--seeds", "1", "--recipe", "other.yaml")
    report = json.loads((tmp_path / "runs" / "compare" / "compare-small-other.json").read_text())
    assert report["variants"]["narrow, augmented"]["steps"] == 1
    compare("small.yaml", "--recipe", "no.yaml", code=2)
    compare("small.yaml", "--recipe", "other.yaml", "--steps", "steps-small.json", code=2)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(recipe | {"lr": 0.5}))
    said = compare("small.yaml", "--seeds", "1", "--recipe", "other.yaml", code=1)
    assert "was started with another recipe" in said


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_variant_of_every_grid_is_a_recipe_with_a_model(path, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    slug = importlib.import_module("compare")._slug
    grid = yaml.safe_load(path.read_text())
    variants = [(other.stem, slug(name)) for other in GRIDS for name in yaml.safe_load(other.read_text())["variants"]]
    runs = {f"runs/compare/{stem}/{variant}/seed-0" for stem, variant in variants}
    assert path.read_text().startswith(f"# python benchmarks/compare.py benchmarks/grids/{path.name}")
    for name, options in grid["variants"].items():
        merged = grid.get("options", {}) | options
        arguments = [
            f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in merged.items()
        ]
        app = APPS[grid["recipe"].split("/")[1]]
        task, recipe = app.parse_args(["--config", str(REPOSITORY / grid["recipe"]), *arguments])
        sizes = set(SIZES).intersection(name.replace(",", "").split())
        assert all(recipe.model.name.endswith(f"_{size}") for size in sizes), f"{name} is {recipe.model.name}"
        if recipe.model.weights is not None:
            assert recipe.model.weights in runs, f"{name} starts from a run of no grid"
            recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, weights=None))
        CHECKS.get(getattr(recipe, "task", None), classifies)(task, recipe)


def classifies(task: Any, recipe: Any) -> None:
    model = build_classifier(
        recipe.model, num_classes=10, in_channels=task.in_channels, grid=task.grid, families=task.families
    )
    channels = 3 if task.in_channels is None else task.in_channels
    assert model(torch.zeros(2, channels, *task.grid)).shape == (2, 10)


def segments(task: Any, recipe: Any) -> None:
    logits = Segmenter(recipe.model, recipe.segmenter, 3).eval()(torch.zeros(1, 3, 64, 96))
    assert logits.shape[:2] == (1, 3)


def detects(task: Any, recipe: Any) -> None:
    anchors = {"kind": "mask_rcnn", "anchor_sizes": [8, 16, 32, 64, 128]}  # which the data would tell
    detector = Detector(recipe.model, dataclasses.replace(recipe.detector, **anchors), 3, (64, 96)).eval()
    [found] = detector([torch.zeros(3, 64, 96)])
    assert {"boxes", "labels", "scores", "masks"} <= found.keys()


CHECKS = {"segmentation": segments, "detection": detects}


def test_steps_knows_the_apps(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    named = importlib.import_module("steps").APPS
    assert {name: importlib.import_module(module).APP for name, module in named.items()} == APPS


def test_steps_of_a_grid_are_timed_and_say_how_long_an_epoch_takes(tmp_path, benchmark, compare):
    (tmp_path / "small.yaml").write_text(SMALL)
    printed = benchmark("steps.py", "small.yaml", "--rounds", "1", "--output", ".")
    times = json.loads((tmp_path / "steps-small.json").read_text())["step_ms"]
    assert list(times) == ["narrow, augmented"]
    assert f"{times['narrow, augmented']:.1f} ms" in printed
    compare("small.yaml", "--seeds", "1", "--steps", "steps-small.json")
    report = json.loads((tmp_path / "runs" / "compare" / "compare-small.json").read_text())
    row = report["variants"]["narrow, augmented"]
    assert row["seconds_per_epoch"] == pytest.approx(2 * times["narrow, augmented"] / 1e3, abs=1e-3)
    assert row["samples_per_second"] * row["seconds_per_epoch"] == pytest.approx(2 * 64, rel=0.02)
