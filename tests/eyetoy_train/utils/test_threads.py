"""All cores of a CPU, unless the user has chosen a number of threads; a run that resumes keeps its number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from eyetoy_train.checkpoint.train_state import TrainState
from eyetoy_train.commands.train import training
from eyetoy_train.engine import setup
from eyetoy_train.utils import threads
from eyetoy_train.utils.threads import available_cores, free_threads

ONE_BY_LAUNCHER = {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}
CPU = SimpleNamespace(device=torch.device("cpu"), num_processes=1, is_main_process=True)


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 8)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("own", "launcher", "command", "expected"),
    [
        ({}, {}, [], 8),
        ({"OMP_NUM_THREADS": "1"}, {}, [], None),  # exported by a shell, whose own environment does not show it
        ({"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "1"}, [], None),
        ({"MKL_NUM_THREADS": "2"}, {}, [], None),
        (ONE_BY_LAUNCHER, {}, ["accelerate", "launch", "train.py"], 8),
        (ONE_BY_LAUNCHER | {"LOCAL_WORLD_SIZE": "3"}, {}, ["accelerate", "launch", "train.py"], 2),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "16"}, {}, ["torchrun"], 1),
        (ONE_BY_LAUNCHER, {"OMP_NUM_THREADS": "1"}, ["accelerate", "launch", "train.py"], None),
        (ONE_BY_LAUNCHER, {}, ["accelerate", "launch", "--num_cpu_threads_per_process=1", "train.py"], None),
        (ONE_BY_LAUNCHER, {"ACCELERATE_MIXED_PRECISION": "no"}, ["sh", "-c", "OMP_NUM_THREADS=1 train.py"], None),
    ],
)
def test_only_a_number_that_the_user_chose_counts(own, launcher, command, expected, monkeypatch):
    for name in (*threads.VARIABLES, *threads.LAUNCHED, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(psutil.Process, "environ", lambda process: launcher)
    monkeypatch.setattr(psutil.Process, "cmdline", lambda process: command)
    assert free_threads() == expected


@pytest.mark.usefixtures("eight_cores")
def test_a_launcher_of_somebody_else_is_not_asked(monkeypatch):
    def refuse(process):
        raise psutil.AccessDenied

    for name, value in ONE_BY_LAUNCHER.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(psutil.Process, "environ", refuse)
    assert free_threads() is None


def test_accelerate_launch_leaves_all_cores_to_its_process(tmp_path):
    script = tmp_path / "tell.py"
    script.write_text("from eyetoy_train.utils.threads import free_threads; print(free_threads())", encoding="utf-8")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", str(script)]
    environment = {name: value for name, value in os.environ.items() if name not in threads.VARIABLES}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{available_cores()}\n"


@pytest.mark.parametrize(("quota", "expected"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)])
def test_a_container_has_the_cores_of_its_quota(quota, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 8)
    threads.QUOTA.write_text(quota + "\n")
    assert available_cores() == expected


def test_the_command_trains_with_all_cores_and_the_run_knows(toy, toy_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "free_threads", lambda: 2)
    torch.set_num_threads(1)
    recipe = toy_recipe(epochs=1)
    with training(lambda: (toy.Slopes(recipe), recipe)) as trainer:
        trainer.fit()
    run = tmp_path / "run"
    assert json.loads((run / "results.json").read_text())["environment"]["threads"] == 2
    (latest,) = (run / "checkpoints").glob("step-*/trainer.json")
    progress = json.loads(latest.read_text())["progress"]
    assert (progress["processes"], progress["threads"]) == (1, 2)


@pytest.mark.parametrize(
    ("processes", "had", "is_free", "has", "warns"),
    [
        (0, 0, True, 1, False),  # of a checkpoint that does not tell
        (1, 2, True, 2, False),
        (1, 2, False, 1, True),
        (1, 1, False, 1, False),
        (4, 2, True, 1, False),  # of another number of processes: its sums are others anyway
    ],
)
def test_a_resumed_run_keeps_its_number(processes, had, is_free, has, warns, capsys):
    torch.set_num_threads(1)
    state = TrainState(processes=processes, threads=had)
    setup.keep_threads(state, CPU, is_free=is_free)
    assert (state.processes, state.threads, torch.get_num_threads()) == (1, has, has)
    assert ("the run had 2 thread(s) until now, and has 1" in capsys.readouterr().out) is warns


def test_a_checkpoint_without_the_number_is_read():
    values = TrainState(threads=3).to_json()
    assert TrainState.from_json(values).threads == 3
    del values["threads"], values["processes"]
    assert TrainState.from_json(values).threads == 0
