"""A run that is killed, wherever it is, goes on by the same command and ends as if it had not been."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from accelerate import Accelerator

from eyetoy_train import train
from eyetoy_train.checkpoint.run_folder import choose_run_folder
from eyetoy_train.utils import signals
from eyetoy_train.utils.signals import NAMES, StopRequested, StopSignal

pytestmark = pytest.mark.first

RECIPE = {
    "epochs": 40,  # of five steps; a kill comes nine steps after the one before it at the latest
    "ema": {"decay": 0.9},
    "checkpoints": {"every_steps": 3, "keep_last": 2, "keep_best": 2},
    "log_steps": 2,
    "gradient_accumulation_steps": 2,
}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize("task", ["slopes", "streamed"])
def test_a_run_that_is_killed_at_random_moments_ends_like_one_that_is_not(task, tmp_path, run_toy, runs):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    kills = 10 if task == "slopes" else 4
    recipe = RECIPE if task == "slopes" else RECIPE | {"epochs": 12, "steps_per_epoch": 5}
    run_toy(recipe | {"output_dir": str(whole)}, "--kill", "0", "--task", task)
    printed = run_toy(recipe | {"output_dir": str(killed)}, "--kill", str(kills), "--task", task, "--seed", "1")
    found = json.loads(printed.strip().splitlines()[-1])
    assert found["kills"] == kills
    assert found["while_writing"] >= kills // 4
    runs.assert_equal(whole, killed)
    names = {path.name for path in (killed / "checkpoints").iterdir()}
    assert names == {path.name for path in (whole / "checkpoints").iterdir()}


@pytest.mark.parametrize(
    ("classes", "sizes", "said"),
    [
        (("falling", "rising", "level"), {}, "classes: flat gone, level new"),
        (("rising", "falling", "flat"), {}, "classes: in another order"),
        (None, {"train": 37}, "train has 37 samples, and had 40"),
        (None, {"test": 14}, "test has 14 samples, and had 13"),
    ],
)
def test_it_does_not_go_on_with_other_data(classes, sizes, said, toy, toy_recipe, tmp_path, runs):
    recipe = toy_recipe(epochs=2, checkpoints={"every_steps": 2})
    with pytest.raises(toy.Interrupted):
        train(toy.Killed(recipe), recipe)

    class Source(toy.SlopeSource):
        pass

    Source.classes = classes or Source.classes
    other = type("Other", (toy.Slopes,), {"sizes": toy.Slopes.sizes | sizes, "source_class": Source})
    with pytest.raises(ValueError, match=f"its data have changed since it began: {said}. Bring them back"):
        train(other(recipe), recipe)
    latest = runs.latest(tmp_path / "run")
    train(toy.Slopes(recipe), recipe)  # with the same data it does
    assert latest.exists() or (tmp_path / "run" / "results.json").exists()


def test_it_does_not_go_on_with_other_files_of_the_same_number(toy, toy_recipe, tmp_path):
    recipe = toy_recipe(epochs=2, checkpoints={"every_steps": 2})
    with pytest.raises(toy.Interrupted):
        train(toy.Killed(recipe), recipe)

    class Source(toy.SlopeSource):
        def split(self, split):
            return [(place, (label + (split == "val")) % 3) for place, label in super().split(split)]

    task = type("Other", (toy.Slopes,), {"source_class": Source})(recipe)
    with pytest.raises(ValueError, match="val has other files, 11 as before"):
        train(task, recipe)


@pytest.mark.parametrize("every_steps", [None, 2])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_it_goes_on_at_the_next_batch(every_steps, num_workers, toy, toy_recipe, tmp_path, runs):
    options = {"checkpoints": {"every_steps": every_steps}, "ema": {"decay": 0.9}, "log_steps": 1, "epochs": 2}
    whole = toy_recipe(output_dir=str(tmp_path / "whole"), **options)
    train(toy.Slopes(whole), whole)
    recipe = toy_recipe(num_workers=num_workers, **options)
    with pytest.raises(toy.Interrupted):
        train(toy.Killed(recipe), recipe)
    assert not (tmp_path / "run" / "results.json").exists()
    assert runs.latest(tmp_path / "run").name == f"step-{6 if every_steps else 5:08d}"
    recipe = toy_recipe(num_workers=2 - num_workers, **options)  # other ones, as for less memory
    train(toy.Slopes(recipe), recipe)
    runs.assert_equal(tmp_path / "whole", tmp_path / "run")


def test_an_evaluation_that_fails_does_not_lose_the_epoch(toy, toy_recipe, tmp_path, runs):
    class Unreadable(toy.Slopes):
        def example(self, raw, *, training):
            if not training:
                raise toy.Interrupted
            return super().example(raw, training=training)

    options = {"epochs": 2, "ema": {"decay": 0.9}, "log_steps": 1}
    whole = toy_recipe(output_dir=str(tmp_path / "whole"), **options)
    train(toy.Slopes(whole), whole)
    recipe = toy_recipe(**options)
    with pytest.raises(toy.Interrupted):
        train(Unreadable(recipe), recipe)
    assert runs.latest(tmp_path / "run").name == "step-00000005"
    passes = []

    class Counted(toy.Slopes):
        def loss(self, model, batch):
            passes.append(len(batch["label"]))
            return super().loss(model, batch)

    train(Counted(recipe), recipe)
    assert len(passes) == 5, "the first epoch is not trained again"
    runs.assert_equal(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("launch", [None, ("--multi_gpu", "--num_processes", "2")], ids=["one", "two"])
def test_a_signal_saves_and_says_so(launch, number, tmp_path, start_toy, run_toy, runs):
    """To a process with its workers, as Slurm sends it; or to one of two, and Ctrl-C to both and the launcher."""
    run = tmp_path / "run"
    recipe = {"epochs": 12, "output_dir": str(run), "num_workers": 2 if launch is None else 0}
    process = start_toy(recipe, "--task", "slow", launch=launch)
    wait_for(run / "checkpoints" / "step-00000010")
    if launch is None or number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        os.kill(training_processes(process.pid)[1], signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert f"{NAMES[number]}: saved after step" in printed
    assert process.returncode == (128 + number if launch is None else 1)  # the launcher reports a child's failure as 1
    assert "143" in printed or launch is None or number == signal.SIGINT
    step = int(runs.latest(run).name.removeprefix("step-"))
    printed = run_toy(recipe, "--task", "slopes")
    assert f"going on after step {step}" in printed


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"there is no {path}"
        time.sleep(0.02)


def training_processes(launcher: int) -> list[int]:
    """Return the processes that a launcher started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children")
    if not children.exists():
        pytest.skip("this system does not list child processes")
    return [int(child) for child in children.read_text().split()]


def test_a_folder_in_which_a_run_is_under_way_is_left_alone(tmp_path, start_toy, toy, monkeypatch, capsys):
    run = tmp_path / "runs" / "toy"
    recipe = {"epochs": 30, "output_dir": None}
    monkeypatch.chdir(tmp_path)
    process = start_toy(recipe, "--task", "slow")
    try:
        wait_for(run / "checkpoints" / "step-00000005")
        assert choose_run_folder(toy.build_recipe(**recipe)).path == Path("runs", "toy-2")
        assert "runs/toy holds a run that is being trained" in capsys.readouterr().out
        with pytest.raises(FileExistsError, match="under way"):
            choose_run_folder(toy.build_recipe(**recipe | {"output_dir": str(run)}))
    finally:
        process.kill()
        process.communicate()
    assert choose_run_folder(toy.build_recipe(**recipe)).path == Path("runs", "toy")


def test_a_run_that_was_killed_as_it_began_is_begun_again(toy, toy_recipe, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("run.lock", "recipe.yaml.partial"):
        (tmp_path / "run" / name).touch()
    assert choose_run_folder(toy_recipe()).path == tmp_path / "run"


def test_an_unfinished_run_of_another_recipe_is_named_and_left_alone(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = toy.build_recipe()
    with pytest.raises(toy.Interrupted):
        train(toy.Killed(recipe), recipe)
    assert choose_run_folder(toy.build_recipe(lr=1.0)).path == Path("runs", "toy-2")
    assert "runs/toy holds an unfinished run of another recipe" in capsys.readouterr().out


def test_a_run_that_fails_with_workers_at_work_ends_at_once(tmp_path, start_toy):
    process = start_toy({"output_dir": str(tmp_path / "run"), "num_workers": 2}, "--task", "failing")
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot read val 9" in printed


def test_signals_are_only_taken_while_a_run_needs_them(slopes, toy_recipe):
    before = [signal.getsignal(number) for number in NAMES]
    recipe = toy_recipe(epochs=1)
    train(slopes(recipe), recipe)
    assert [signal.getsignal(number) for number in NAMES] == before


@pytest.mark.parametrize("launched", [False, True])
def test_a_second_ctrl_c_ends_the_program_at_once(launched, monkeypatch, capfd):
    """Under a launcher only after a moment, since the launcher passes on the first one."""
    if launched:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    ended, now = [], [100.0]
    monkeypatch.setattr(signals.os, "_exit", ended.append)
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with StopSignal(Accelerator(cpu=True)) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StopRequested, match="Ctrl-C"):
            stop.check()
        assert "press it again to end at once" in capfd.readouterr().err
        assert (signal.getsignal(signal.SIGINT) is signal.SIG_DFL) is not launched
        if launched:
            os.kill(os.getpid(), signal.SIGINT)
            assert not ended
            now[0] += 2
            os.kill(os.getpid(), signal.SIGINT)
            assert ended == [130]
