"""Several processes, on one machine and posing as several, train and count like one."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
import torch

from eyetoy_train import train

pytestmark = pytest.mark.first

# No dropout and no stochastic depth: their draws belong to a process.
RECIPE = {"epochs": 5, "log_steps": 1, "model": {"name": "eyetoy1d_pico", "stem_strides": [8]}, "ema": {"decay": 0.9}}
TWO = ("--multi_gpu", "--num_processes", "2")


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "steps.jsonl").read_text().splitlines()]


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory, run_toy) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    run_toy(RECIPE | {"output_dir": str(run)})
    return run


def assert_like(run: Path, alone: Path, processes: int) -> None:
    assert len(losses(alone)) == 25
    assert losses(run) == pytest.approx(losses(alone), abs=1e-4)
    assert results(run)["environment"]["processes"] == processes
    for split in ("val", "test"):  # of 11 and 13 samples, which two processes cannot share equally
        assert results(run)[split]["count"] == results(alone)[split]["count"]
        assert results(run)[split] == pytest.approx(results(alone)[split], abs=1e-3)


def test_two_processes_follow_the_loss_curve_of_one(alone, tmp_path, start_toy):
    """Those that `accelerate launch` starts; the other tests start them by its variables."""
    run = tmp_path / "run"
    process = start_toy(RECIPE | {"output_dir": str(run)}, launch=TWO)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    assert_like(run, alone, 2)


def test_two_processes_share_a_mean_over_different_numbers(tmp_path, run_toy):
    recipe = RECIPE | {"epochs": 2}
    for name, processes, passes in (("one", 1, 1), ("two", 2, 1), ("accumulated", 2, 2)):
        changes = {"output_dir": str(tmp_path / name), "gradient_accumulation_steps": passes}
        run_toy(recipe | changes, "--task", "sparse", processes=processes)
    for name in ("two", "accumulated"):
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "one"), abs=1e-4)


def test_two_processes_go_on_with_a_stream_each_where_it_was(tmp_path, run_toy, runs):
    run, whole = tmp_path / "run", tmp_path / "whole"
    changes = {"epochs": 3, "steps_per_epoch": 3, "checkpoints": {"every_steps": 2, "keep_last": 9}}
    recipe = RECIPE | changes | {"output_dir": str(run)}
    run_toy(recipe, "--task", "streamed", processes=2)
    shutil.copytree(run, whole)
    (run / "results.json").unlink()
    for checkpoint in (run / "checkpoints").glob("step-*"):
        if int(checkpoint.name.removeprefix("step-")) > 4:
            shutil.rmtree(checkpoint)
    printed = run_toy(recipe, "--task", "streamed", processes=2)
    assert "going on after step 4" in printed
    assert "new pass" not in printed
    runs.assert_equal(whole, run)
    assert losses(run) == losses(whole)


def test_two_machines_train_together(alone, tmp_path, start_toy):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = tmp_path / "run"
    two = (*TWO, "--num_machines", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(port))
    recipe = RECIPE | {"output_dir": str(run)}
    machines = [start_toy(recipe, launch=(*two, "--machine_rank", str(rank))) for rank in range(2)]
    for machine in machines:
        printed, _ = machine.communicate(timeout=200)
        assert machine.returncode == 0, printed
    assert_like(run, alone, 2)


SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
SHARDED |= {"FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}


@pytest.mark.parametrize("policy", ["TRANSFORMER_BASED_WRAP", "NO_WRAP"])
def test_a_sharded_model_trains_like_a_plain_one_and_is_saved_in_full(policy, alone, tmp_path, run_toy, runs):
    run = tmp_path / "run"
    options = SHARDED | {"FSDP_AUTO_WRAP_POLICY": policy}
    run_toy(RECIPE | {"output_dir": str(run)}, "--shard", processes=2, **options)
    assert_like(run, alone, 2)
    sharded, plain = runs.weights(run / "checkpoints" / "best"), runs.weights(alone / "checkpoints" / "best")
    assert {name: value.shape for name, value in sharded.items()} == {
        name: value.shape for name, value in plain.items()
    }


def test_a_checkpoint_of_a_sharded_model_goes_on_in_one_process(alone, tmp_path, run_toy):
    run = tmp_path / "run"
    recipe = RECIPE | {"output_dir": str(run)}
    run_toy(recipe, "--shard", processes=2, **SHARDED)
    # As if it had been stopped after its first checkpoint but one.
    (run / "results.json").unlink()
    latest = max((run / "checkpoints").glob("step-*"))
    for file in latest.iterdir():
        file.unlink()
    latest.rmdir()
    assert "going on after step 20" in run_toy(recipe)
    assert_like(run, alone, 1)


def test_fsdp_of_the_first_version_is_refused(tmp_path, start_toy):
    recipe = RECIPE | {"output_dir": str(tmp_path / "run")}
    process = start_toy(recipe, "--shard", launch=TWO, **SHARDED | {"FSDP_VERSION": "1"})
    printed, _ = process.communicate(timeout=100)
    assert process.returncode
    assert "set fsdp_version: 2" in printed


def test_running_statistics_are_shared_before_they_are_used(tmp_path, run_toy):
    """Otherwise each process would score its part of the set by its own, and the model that is kept by the first's."""
    run = tmp_path / "run"
    run_toy(RECIPE | {"output_dir": str(run), "epochs": 3}, "--task", "normed", processes=2)
    best = results(run)["best_epoch"]
    scored = json.loads((run / "metrics.jsonl").read_text().splitlines()[best - 1])["val"]
    assert results(run)["val"] == pytest.approx(scored, rel=1e-5)


def test_running_statistics_are_of_the_samples_of_all_processes(tmp_path, run_toy, runs):
    """A mean over all samples is the mean of the processes' means, as long as each goes on from its own."""
    recipe, means = RECIPE | {"epochs": 2, "ema": {}}, []
    for name, processes in (("one", 1), ("two", 2)):
        run_toy(recipe | {"output_dir": str(tmp_path / name)}, "--task", "normed", processes=processes)
        latest = max((tmp_path / name / "checkpoints").glob("step-*"))
        means.append(runs.weights(latest)["1.running_mean"])
    torch.testing.assert_close(*means, rtol=0, atol=1e-6)


def test_sharding_that_accelerate_leaves_out_is_said(tmp_path, run_toy):
    recipe = RECIPE | {"output_dir": str(tmp_path / "run"), "max_steps": 1}
    printed = run_toy(recipe, processes=2, **SHARDED)
    assert "every process here holds the whole model" in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device that is asked for")
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ACCELERATE_TORCH_DEVICE", "cuda", "the device cuda was asked for, and torch cannot use it"),
        ("WORLD_SIZE", "2", "accelerate launch started 2 processes, one for each GPU, .* set ACCELERATE_USE_CPU=1"),
    ],
)
def test_a_device_that_is_not_there_is_refused(variable, value, message, slopes, toy_recipe, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, value)
    recipe = toy_recipe()
    with pytest.raises(ValueError, match=message):
        train(slopes(recipe), recipe)
    assert not (tmp_path / "run").exists()
