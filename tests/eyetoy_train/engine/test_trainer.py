"""What a run leaves behind, and that it can be continued and repeated."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
import yaml

from eyetoy_train import train
from eyetoy_train.checkpoint.train_state import TrainState
from eyetoy_train.engine import trainer as trainer_module
from eyetoy_train.engine.dry_run import dry_run
from eyetoy_train.engine.trainer import pass_marker


def test_a_run_learns_and_leaves_everything_in_its_folder(slopes, toy_recipe, tmp_path, runs):
    recipe = toy_recipe(epochs=12)
    results = train(slopes(recipe), recipe)
    run = tmp_path / "run"
    assert results["test"]["accuracy"] > 0.8
    assert results["test"]["count"] == 13
    assert results["val"]["count"] == 11
    assert json.loads((run / "results.json").read_text())["test"] == results["test"]
    assert [line["epoch"] for line in runs.lines(run / "metrics.jsonl")] == list(range(1, 13))
    assert [line["step"] for line in runs.lines(run / "steps.jsonl")] == sorted({*range(10, 61, 10), *range(5, 61, 5)})
    assert yaml.safe_load((run / "recipe.yaml").read_text())["epochs"] == 12
    for picture in ("curves.png", "samples.png", "confusion.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")
    assert list((run / "tensorboard").rglob("events*"))
    assert runs.weights(run / "checkpoints" / "best").keys() == runs.weights(runs.latest(run)).keys()
    assert not list(run.rglob("*.partial"))
    assert not list(run.rglob("*.backup"))


def test_the_same_seed_gives_the_same_run(slopes, toy_recipe, tmp_path, runs):
    for name in ("first", "second"):
        recipe = toy_recipe(output_dir=str(tmp_path / name), epochs=2)
        train(slopes(recipe), recipe)
    runs.assert_equal(tmp_path / "first", tmp_path / "second")


def test_another_seed_gives_another_run(slopes, toy_recipe, tmp_path, runs):
    for seed in (0, 1):
        recipe = toy_recipe(output_dir=str(tmp_path / str(seed)), epochs=1, seed=seed)
        train(slopes(recipe), recipe)
    first, second = (runs.weights(tmp_path / name / "checkpoints" / "best") for name in ("0", "1"))
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_accumulated_passes_equal_one_large_pass(slopes, toy_recipe, tmp_path, runs):
    model = {"name": "eyetoy1d_pico", "stem_strides": [8]}
    for passes in (1, 4):
        recipe = toy_recipe(
            output_dir=str(tmp_path / str(passes)), epochs=2, gradient_accumulation_steps=passes, model=model
        )
        train(slopes(recipe), recipe)
    first, second = (runs.lines(tmp_path / name / "metrics.jsonl") for name in ("1", "4"))
    assert [line["step"] for line in first] == [line["step"] for line in second] == [5, 10]
    for a, b in zip(first, second, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-4)


def test_accumulated_means_over_different_numbers_equal_the_mean_of_one_large_pass(toy, toy_recipe, tmp_path, runs):
    steps = []
    for passes in (1, 4, 8):  # with 8, some micro batches have nothing to learn
        changes = {"model": {"name": "eyetoy1d_pico", "stem_strides": [8]}, "gradient_accumulation_steps": passes}
        recipe = toy_recipe(output_dir=str(tmp_path / str(passes)), epochs=2, log_steps=1, **changes)
        train(toy.Sparse(recipe), recipe)
        steps.append(runs.lines(tmp_path / str(passes) / "steps.jsonl"))
    assert len(steps[0]) == 10
    for key in ("loss", "grad_norm"):
        one, *others = [[step[key] for step in lines] for lines in steps]
        for found in others:
            assert found == pytest.approx(one, rel=1e-3)


def test_max_steps_cuts_the_run_short(slopes, toy_recipe, tmp_path, runs):
    recipe = toy_recipe(max_steps=7)
    train(slopes(recipe), recipe)
    assert [line["step"] for line in runs.lines(tmp_path / "run" / "metrics.jsonl")] == [5, 7]


@pytest.mark.parametrize("steps_per_epoch", [2, 8])
def test_an_epoch_may_be_shorter_or_longer_than_the_set(slopes, toy_recipe, tmp_path, runs, steps_per_epoch):
    seen = []

    class Noting(slopes):
        def load_sample(self, source, *, training):
            seen.extend([source[1]] if training else [])
            return super().load_sample(source, training=training)

    recipe = toy_recipe(steps_per_epoch=steps_per_epoch, epochs=10)
    train(Noting(recipe), recipe)
    lines = runs.lines(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [steps_per_epoch * (i + 1) for i in range(10)]
    # Passes over the set of 40 follow each other whatever an epoch is.
    for start in range(0, len(seen) - 39, 40):
        assert sorted(seen[start : start + 40]) == list(range(40))


def test_epochs_without_an_evaluation(slopes, toy_recipe, tmp_path, runs):
    recipe = toy_recipe(epochs=5, eval_epochs=2)
    results = train(slopes(recipe), recipe)
    lines = runs.lines(tmp_path / "run" / "metrics.jsonl")
    assert [line["epoch"] for line in lines if "val" in line] == [2, 4, 5]
    assert results["best_epoch"] in (2, 4, 5)


@pytest.mark.parametrize(
    ("scores", "options", "epochs", "best"),
    [
        ([0.1, 0.9, 0.2, 0.3, 0.4, 0.5], {"early_stop_epochs": 3}, 5, 2),
        ([0.1, 0.9, 0.9, 0.9, 0.9, 0.9], {"early_stop_epochs": 3}, 5, 5),  # of equals the later is better, but no rise
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], {"early_stop_epochs": 1}, 6, 6),
        ([0.9, 0.1, 0.2], {"early_stop_epochs": 1, "eval_epochs": 2}, 4, 2),  # stops only where it looked
    ],
)
def test_a_run_stops_early_when_its_score_has_not_risen_for_long(
    slopes, toy_recipe, tmp_path, runs, scores, options, epochs, best
):
    found = iter(scores)

    class Scored(slopes):
        def metrics(self):
            metrics = super().metrics()
            compute = metrics.compute

            def given(sums):
                has_counted = bool(metrics.sums["top5"])  # then it is asked whether it has counted all, not for scores
                return compute(sums) | {"accuracy": 0.0 if has_counted else next(found, 0.0), "loss": 1.0}

            metrics.compute = given
            return metrics

    recipe = toy_recipe(epochs=6, **options)
    results = train(Scored(recipe), recipe)
    assert len(runs.lines(tmp_path / "run" / "metrics.jsonl")) == epochs
    assert results["best_epoch"] == best


def test_of_epochs_with_equal_scores_the_one_with_the_lower_loss_is_best():
    state = TrainState()
    for score, loss in ((0.9, 0.3), (0.9, 0.1), (0.9, 0.2), (0.8, 0.0), (0.9, None), (0.9, math.nan)):
        state.epoch += 1
        state.rank(score, 3, loss)
        state = TrainState.from_json(json.loads(json.dumps(state.to_json())))  # as if interrupted here
    assert list(state.ranking) == [2, 3, 1]
    assert state.losses == {2: 0.1, 3: 0.2, 1: 0.3}
    assert state.last_rise == 1  # equal is no rise, whatever the loss


def test_a_checkpoint_from_before_losses_were_kept_still_resumes():
    values = TrainState(epoch=2, ranking={2: 0.9}).to_json()
    del values["losses"]
    state = TrainState.from_json(values)
    state.epoch = 3
    assert state.rank(0.9, 1, 0.5)
    assert state.best_epoch == 3


def test_a_finished_run_is_never_overwritten(slopes, toy_recipe, tmp_path):
    recipe = toy_recipe(epochs=1)
    train(slopes(recipe), recipe)
    before = (tmp_path / "run" / "results.json").read_text()
    with pytest.raises(FileExistsError, match="output_dir=.*finished run"):
        train(slopes(recipe), recipe)
    assert (tmp_path / "run" / "results.json").read_text() == before


def test_without_output_dir_a_second_run_gets_a_folder_of_its_own(slopes, toy_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        recipe = toy_recipe(output_dir=None, epochs=1, name="twice")
        train(slopes(recipe), recipe)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["twice", "twice-2"]


@pytest.mark.parametrize(
    ("factor", "found"), [(float("nan"), "the loss is nan"), (1e38, "the gradient's norm is (inf|nan)")]
)
@pytest.mark.parametrize("log_steps", [1, 10])
def test_what_is_not_finite_stops_the_run_and_the_message_names_its_batch(
    slopes, toy_recipe, tmp_path, runs, factor, found, log_steps
):
    batches = []

    class Diverging(slopes):
        def loss(self, model, batch):
            batches.append(batch["label"])
            return super().loss(model, batch) * (factor if len(batches) == 7 else 1.0)

    recipe = toy_recipe(log_steps=log_steps)
    with pytest.raises(FloatingPointError, match=rf"{found}.* at step 7 \(epoch 2, batch 2 of 5: samples ") as caught:
        train(Diverging(recipe), recipe)
    assert f"The last good checkpoint is {runs.latest(tmp_path / 'run')}" in str(caught.value)
    indices = re.search(r"samples ([\d, ]+) of the training set", str(caught.value)).group(1)
    assert [int(index) % 3 for index in indices.split(", ")] == batches[6].tolist()
    assert runs.latest(tmp_path / "run").name == "step-00000005"
    for checkpoint in (runs.latest(tmp_path / "run"), tmp_path / "run" / "checkpoints" / "best"):
        assert all(torch.isfinite(value).all() for value in runs.weights(checkpoint).values())


def test_a_batch_size_that_passes_cannot_share_is_refused(slopes, toy_recipe):
    recipe = toy_recipe(batch_size=9, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="batch_size=9 .* multiple of 2"):
        train(slopes(recipe), recipe)


@pytest.mark.parametrize("changes", [{"gradient_accumulation_steps": 8}, {"augmentation_repeats": 8}])
def test_mixing_in_micro_batches_of_one_sample_is_refused(slopes, toy_recipe, changes):
    recipe = toy_recipe(batch_size=8, **changes)
    task = type("Mixing", (slopes,), {"mixes": True})(recipe)
    for start in (train, dry_run):
        with pytest.raises(ValueError, match="mixup and cutmix mix the samples .* has a single sample .*batch_size=8"):
            start(task, recipe)


@pytest.mark.parametrize("precision", ["bf16"])
def test_mixed_precision_trains(slopes, toy_recipe, precision):
    recipe = toy_recipe(epochs=2, mixed_precision=precision)
    results = train(slopes(recipe), recipe)
    assert results["test"]["loss"] < 2


def test_a_run_that_cannot_start_leaves_nothing_behind(slopes, toy_recipe, tmp_path):
    class Unreadable(slopes):
        def dataset(self, split):
            raise FileNotFoundError("there is no folder data")

    recipe = toy_recipe()
    with pytest.raises(FileNotFoundError, match="no folder data"):
        train(Unreadable(recipe), recipe)
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_to_make_its_data_equals_one_that_finds_them(slopes, toy_recipe, tmp_path, runs):
    class Making(slopes):
        def prepare(self):
            torch.rand(5)

    for name, task in (("made", Making), ("found", slopes)):
        recipe = toy_recipe(output_dir=str(tmp_path / name), epochs=1)
        train(task(recipe), recipe)
    runs.assert_equal(tmp_path / "made", tmp_path / "found")


SMALLER = {"widths": [32], "depths": [1], "scales": [1], "global_depth": 0}
"""What makes a model that is compiled in a fraction of the time."""


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"name": "eyetoy1d_pico", "stem_strides": [8], "grad_checkpointing": True}},
        {"model": {"name": "eyetoy1d_pico", "stem_strides": [8], "compile": True, "options": {"changes": SMALLER}}},
        {"deterministic": True},
        {"schedule": "one_cycle"},
        {"schedule": "constant", "layer_decay": 0.8, "clip_grad_norm": 1.0, "drop_path_warmup_epochs": 2},
        {"checkpoints": {"keep_best": 3, "keep_last": 1}, "trackers": []},
        {"model": {"name": "eyetoy1d_pico", "stem_strides": [8], "options": {"layer_scale": 0.1}}},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_options_of_a_recipe_train(slopes, toy_recipe, changes):
    recipe = toy_recipe(epochs=12, **changes)
    assert train(slopes(recipe), recipe)["test"]["accuracy"] > 0.6
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("asked", "mode"), [(True, "default"), ("default", "default"), ("max-autotune", "max-autotune"), (False, None)]
)
def test_a_model_is_compiled_in_the_mode_of_the_recipe(slopes, toy_recipe, monkeypatch, asked, mode):
    modes = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, mode: modes.append(mode))
    recipe = toy_recipe(epochs=1)
    recipe.model.compile = asked
    train(slopes(recipe), recipe)
    assert modes == ([] if mode is None else [mode])


def test_cuda_graphs_are_refused_without_cuda(slopes, toy_recipe, tmp_path):
    recipe = toy_recipe()
    recipe.model.compile = "reduce-overhead"
    with pytest.raises(
        ValueError, match="^model.compile=reduce-overhead .* need a CUDA device; this run is on cpu: use"
    ):
        train(slopes(recipe), recipe)
    assert not list((tmp_path / "run").glob("*.json*"))


def test_cuda_graphs_are_told_of_every_pass(slopes, toy_recipe, monkeypatch):
    told = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: told.append(1))
    recipe = toy_recipe(epochs=2)
    recipe.model.compile = "reduce-overhead"
    mark = pass_marker(recipe, torch.device("cuda"))
    recipe.model.compile = False
    assert pass_marker(recipe, torch.device("cuda")) is not mark
    monkeypatch.setattr(trainer_module, "pass_marker", lambda recipe, device: mark)
    passes = []

    class Counting(slopes):
        def loss(self, model, batch):
            passes.append(len(told))
            return super().loss(model, batch)

    train(Counting(recipe), recipe)
    assert passes[:5] == [1, 2, 3, 4, 5]
    assert passes[5] > 6  # batches of an evaluation lie between


def test_checkpointed_gradients_change_nothing(slopes, toy_recipe, tmp_path, runs):
    for name, checkpointing in (("plain", False), ("checkpointing", True)):
        model = {"name": "eyetoy1d_pico", "stem_strides": [8], "grad_checkpointing": checkpointing}
        recipe = toy_recipe(output_dir=str(tmp_path / name), epochs=1, model=model)
        train(slopes(recipe), recipe)
    plain, checkpointed = (runs.weights(runs.latest(tmp_path / name)) for name in ("plain", "checkpointing"))
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("trackers", "message"),
    [(["nowhere"], "no tracker 'nowhere'"), (["tensorboard", "wandb"], "wandb is not installed")],
)
def test_a_tracker_that_cannot_run_is_refused_before_anything_is_written(
    slopes, toy_recipe, tmp_path, monkeypatch, trackers, message
):
    monkeypatch.setattr("eyetoy_train.engine.setup.get_available_trackers", lambda: ["tensorboard"])
    recipe = toy_recipe(trackers=trackers)
    with pytest.raises(ValueError, match=message):
        train(slopes(recipe), recipe)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variable", "option", "asked"),
    [
        ("ACCELERATE_MIXED_PRECISION", "mixed_precision", "bf16"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "gradient_accumulation_steps", "4"),
    ],
)
def test_a_launcher_that_contradicts_the_recipe_is_refused(
    slopes, toy_recipe, tmp_path, monkeypatch, variable, option, asked
):
    monkeypatch.setenv(variable, asked)
    recipe = toy_recipe(epochs=1)
    with pytest.raises(ValueError, match=f"asks for {option} {asked}, .* give --{option} {asked}"):
        train(slopes(recipe), recipe)
    assert not (tmp_path / "run").exists()


def test_a_launcher_that_asks_for_nothing_leaves_accumulation_to_the_recipe(
    slopes, toy_recipe, tmp_path, monkeypatch, runs
):
    recipe = toy_recipe(output_dir=str(tmp_path / "plain"), epochs=1, gradient_accumulation_steps=4)
    train(slopes(recipe), recipe)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    recipe = toy_recipe(output_dir=str(tmp_path / "launched"), epochs=1, gradient_accumulation_steps=4)
    train(slopes(recipe), recipe)
    runs.assert_equal(tmp_path / "plain", tmp_path / "launched")
