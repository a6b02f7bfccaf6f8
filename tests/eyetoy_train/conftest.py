"""The toy modality, and what a run leaves behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import helpers.toy
from helpers.forks import FORKS

TOY = Path(helpers.toy.__file__)
ENVIRONMENT = {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    return helpers.toy


@pytest.fixture
def slopes(toy):
    return toy.Slopes


@pytest.fixture
def toy_recipe(toy, tmp_path: Path):
    def build(**changes):
        return toy.build_recipe(**{"output_dir": str(tmp_path / "run"), **changes})

    return build


@pytest.fixture(scope="session")
def start_toy():
    """Start the toy script, alone or under `accelerate launch`, with a recipe and options of its own, in a fork."""

    def start(recipe: dict, *options: str, launch: tuple[str, ...] | None = None, **environment: str):
        launcher = [] if launch is None else ["-m", "accelerate.commands.launch", "--main_process_port", "0", *launch]
        command = [*launcher, str(TOY), json.dumps(recipe), *options]
        return FORKS.start(command, env=os.environ | ENVIRONMENT | environment, merge=True)

    return start


@pytest.fixture(scope="session")
def run_toy(start_toy):
    """Run the toy script to its end, in one process or several, and return what it printed."""

    def run(recipe: dict, *options: str, processes: int = 1, **environment: str) -> str:
        if processes > 1:
            command = [str(TOY), json.dumps(recipe), *options]
            return FORKS.run_several(processes, command, env=os.environ | ENVIRONMENT | environment, merge=True)
        process = start_toy(recipe, *options, **environment)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
        return printed

    return run


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def _latest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*"))


def _lines(path: Path) -> list[dict]:
    """Lines without what depends on the clock."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "speed"} for line in lines]


def _assert_equal_runs(first: Path, second: Path) -> None:
    for checkpoint in (lambda run: run / "checkpoints" / "best", _latest):
        expected, actual = _weights(checkpoint(first)), _weights(checkpoint(second))
        assert expected.keys() == actual.keys()
        assert [name for name, value in expected.items() if not torch.equal(value, actual[name])] == []
    for name in ("metrics.jsonl", "steps.jsonl"):
        assert _lines(first / name) == _lines(second / name)
    results = [json.loads((run / "results.json").read_text()) for run in (first, second)]
    for key in ("best_epoch", "val", "test", "stability"):
        assert results[0][key] == results[1][key]


@pytest.fixture(scope="session")
def runs():
    """Functions that look into the folder of a run."""
    return SimpleNamespace(weights=_weights, latest=_latest, lines=_lines, assert_equal=_assert_equal_runs)
