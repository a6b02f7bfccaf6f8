"""The average of the weights against a plain sum, and what is said of losses and gradients."""

from __future__ import annotations

import json

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from eyetoy_train import EmaRecipe, train
from eyetoy_train.checkpoint.train_state import EpochStats, TrainState
from eyetoy_train.engine.step_recorder import NotFiniteError, StepRecorder
from eyetoy_train.engine.trainer import total_norm
from eyetoy_train.optim.ema import Ema


@pytest.mark.parametrize("warmup", [False, True])
def test_the_average_equals_a_plain_one(warmup):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ema = Ema(model, EmaRecipe(decay=0.6, warmup=warmup))
    expected = {name: value.double().clone() for name, value in model.state_dict().items()}
    for step in range(9):
        model(torch.randn(5, 3))  # moves the running statistics
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ema.update(step)
        decay = min(0.6, (1 + step) / (10 + step)) if warmup else 0.6
        for name, value in model.state_dict().items():
            moved = decay * expected[name] + (1 - decay) * value.double()
            expected[name] = moved if value.is_floating_point() else value.double()
    assert ema.average.keys() == expected.keys()
    for name, value in ema.average.items():
        torch.testing.assert_close(value.double(), expected[name], atol=1e-5, rtol=1e-5)


def test_the_average_is_in_the_model_for_a_while():
    model = nn.Linear(2, 2)
    ema = Ema(model, EmaRecipe(decay=0.5, warmup=False))
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1)
    ema.update(0)
    with ema.in_place():
        torch.testing.assert_close(model.weight.detach(), start + 0.5)
    torch.testing.assert_close(model.weight.detach(), start + 1)
    torch.testing.assert_close(ema.average["weight"], start + 0.5)


def test_weights_with_two_names_are_averaged_and_swapped_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.second = nn.Linear(2, 2)

    model = Tied()
    ema = Ema(model, EmaRecipe(decay=0.5, warmup=False))
    start = model.first.weight.detach().clone()
    with torch.no_grad():
        model.first.weight.add_(1)
    ema.update(0)
    with ema.in_place():
        torch.testing.assert_close(model.second.weight.detach(), start + 0.5)
    torch.testing.assert_close(model.second.weight.detach(), start + 1)


def test_the_best_checkpoint_holds_the_average_that_was_scored(toy, toy_recipe, tmp_path, runs):
    recipe = toy_recipe(epochs=2, ema={"decay": 0.9})
    results = train(toy.Slopes(recipe), recipe)
    run = tmp_path / "run"
    scored = json.loads((run / "metrics.jsonl").read_text().splitlines()[results["best_epoch"] - 1])["val"]
    assert results["val"] == pytest.approx(scored, rel=1e-5)
    best, latest = runs.weights(run / "checkpoints" / "best"), runs.weights(runs.latest(run))
    assert not torch.equal(best["head.weight"], latest["head.weight"])


def test_a_spike_is_a_loss_far_above_those_before_it():
    stats = EpochStats()
    losses = [1 + 0.01 * (i % 5) for i in range(60)]
    losses[40], losses[50] = 3.0, 1.05
    for loss in losses:
        stats.add(loss, norm=2.0)
    assert stats.spikes == 1
    assert stats.scores()["train_loss"] == pytest.approx(sum(losses) / 60)
    assert stats.scores()["grad_norm"] == stats.scores()["grad_norm_max"] == 2.0
    again = EpochStats.from_json(json.loads(json.dumps(stats.to_json())))
    assert again == stats
    following = stats.next_epoch()
    following.add(5.0, 1.0)
    assert (following.spikes, following.losses) == (1, 1)


def test_steps_are_summed_up_and_the_first_that_is_not_finite_is_named():
    recorder = StepRecorder(Accelerator(), TrainState())
    assert recorder.flush() is None
    for step, (loss, norm) in enumerate([(1.0, 3.0), (2.0, 1.0)]):
        recorder.add(step, torch.tensor(loss), torch.tensor(norm))
    summary = recorder.flush()
    assert (summary.step, summary.loss, summary.grad_norm) == (1, 1.5, 3.0)
    for step, loss in enumerate([1.0, float("inf"), float("nan")], start=2):
        recorder.add(step, torch.tensor(loss), torch.tensor(1.0))
    with pytest.raises(NotFiniteError, match="inf") as caught:
        recorder.flush()
    assert caught.value.step == 3


@pytest.mark.parametrize("shapes", [[(3,)], [(2, 3)], [(4,), (1,), (5,)], [(4,), (2, 3), (), (7,), (1, 2, 2)]])
def test_the_norm_is_over_all_gradients(shapes):
    torch.manual_seed(0)
    gradients = [torch.randn(shape) for shape in shapes]
    expected = torch.cat([gradient.flatten() for gradient in gradients]).double().norm()
    torch.testing.assert_close(total_norm(gradients).double(), expected)


def test_parts_of_the_loss_are_recorded_beside_it(toy, toy_recipe, tmp_path, runs):
    class InParts(toy.Sparse):
        """Micro batches of different weights, whose loss is a third and two thirds of itself."""

        def loss(self, model, batch):
            loss = super().loss(model, batch)
            self.loss_parts = {"loss_third": loss.detach() / 3, "loss_rest": loss.detach() * 2 / 3}
            return loss

    lines = {}
    for task in (toy.Sparse, InParts):
        recipe = toy_recipe(
            output_dir=str(tmp_path / task.__name__), epochs=2, gradient_accumulation_steps=4, log_steps=2
        )
        train(task(recipe), recipe)
        lines[task] = [runs.lines(tmp_path / task.__name__ / f"{name}.jsonl") for name in ("steps", "metrics")]
    for before, after, prefix in zip(lines[toy.Sparse], lines[InParts], ("", "train_"), strict=True):
        for plain, line in zip(before, after, strict=True):
            assert plain == {key: line[key] for key in plain}, "what was recorded before must not change"
            assert set(line) - set(plain) == {f"{prefix}loss_third", f"{prefix}loss_rest"}
            assert line[f"{prefix}loss_third"] == pytest.approx(line[f"{prefix}loss"] / 3, rel=1e-5)
            assert line[f"{prefix}loss_rest"] == pytest.approx(line[f"{prefix}loss"] * 2 / 3, rel=1e-5)
