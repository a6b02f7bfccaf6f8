"""The learning rate at every step, and stochastic depth while it warms up."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from timm.layers import DropPath
from torchvision.ops import StochasticDepth

from eyetoy import create_model
from eyetoy_train import Recipe
from eyetoy_train.optim.schedule import DropPathWarmup, Lengths, learning_rate, run_lengths, short_run_warnings


def rates(recipe: Recipe, *, steps_per_epoch: int = 5, num_steps: int = 50) -> list[float]:
    lengths = Lengths(steps_per_epoch, num_steps)
    return [learning_rate(step, recipe, lengths) for step in range(num_steps)]


def test_the_cosine_warms_up_linearly_and_ends_at_the_minimum():
    found = rates(Recipe(lr=1.0, min_lr=0.01, warmup_epochs=2))
    rises = [b - a for a, b in pairwise(found[:11])]
    assert rises == pytest.approx([rises[0]] * 10)
    assert found[10] == max(found) == 1.0
    assert all(a > b for a, b in pairwise(found[10:]))
    assert found[-1] == pytest.approx(0.01, abs=5e-3)
    assert found[30] == pytest.approx((1 + 0.01) / 2, rel=1e-6)


def test_a_constant_rate_warms_up_and_stays():
    found = rates(Recipe(lr=1.0, schedule="constant", warmup_epochs=2))
    assert found[:10] == sorted(found[:10])
    assert set(found[10:]) == {1.0}


def test_steps_fall_to_a_tenth_after_their_epochs():
    found = rates(Recipe(lr=1.0, schedule="steps", decay_epochs=[6, 8.4], warmup_epochs=2))
    assert found[:10] == sorted(found[:10])
    assert found[10:30] == [1.0] * 20
    assert found[30:42] == pytest.approx([0.1] * 12)
    assert found[42:] == pytest.approx([0.01] * 8)


@pytest.mark.parametrize("epochs", [0, -1])
def test_steps_after_no_epoch_are_refused(epochs):
    with pytest.raises(ValueError, match="decay_epochs must be numbers above 0"):
        Recipe(schedule="steps", decay_epochs=[3, epochs])


@pytest.mark.parametrize("changes", [{"schedule": "steps"}, {"decay_epochs": [3]}])
def test_steps_need_their_epochs_and_no_other_schedule_takes_them(changes):
    with pytest.raises(ValueError, match="both must be given or neither"):
        Recipe(**changes)


@pytest.mark.parametrize("warmup_epochs", [0.4, 3, 6])
def test_one_cycle_is_pytorchs(warmup_epochs):
    recipe = Recipe(lr=0.8, min_lr=0.8 / 25 / 100, schedule="one_cycle", warmup_epochs=warmup_epochs)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.8,
        total_steps=50,
        pct_start=(warmup_epochs * 5 + 1) / 50,  # PyTorch's last step of the rise is at pct_start * total_steps - 1
        div_factor=25,
        final_div_factor=100,
        cycle_momentum=False,
    )
    expected = []
    for _ in range(50):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(expected) < 50 else None
    assert rates(recipe) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "constant"])
@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_a_run_shorter_than_its_warm_up_still_has_rates(num_steps, schedule):
    recipe = Recipe(lr=1.0, warmup_epochs=10, schedule=schedule)
    assert all(0 < rate <= 1 for rate in rates(recipe, num_steps=num_steps))


def test_lengths_of_a_run():
    assert run_lengths(Recipe(epochs=3), 7) == Lengths(7, 21)
    assert run_lengths(Recipe(epochs=3, steps_per_epoch=4), 7) == Lengths(4, 12)
    assert run_lengths(Recipe(epochs=3, max_steps=8), 7).num_epochs == 2
    with pytest.raises(ValueError, match="unknown size"):
        run_lengths(Recipe(), None)


def test_stochastic_depth_rises_to_what_the_model_was_built_with():
    model = create_model("eyetoy1d_pico", num_classes=2, drop_path=0.3)
    model.add_module("timms", DropPath(0.2))
    model.add_module("torchvisions", StochasticDepth(0.1, "row"))
    built = [rate for _, _, rate in DropPathWarmup(model, 1).rates]
    assert max(built) == 0.3
    assert 0.2 in built
    warmup = DropPathWarmup(model, 10)
    for step, share in ((0, 0.0), (5, 0.5), (10, 1.0), (30, 1.0)):
        warmup.set(step)
        assert model.timms.drop_prob == pytest.approx(0.2 * share)
        assert model.torchvisions.p == pytest.approx(0.1 * share)
        assert max(module.drop_path for module in model.modules() if hasattr(module, "drop_path")) == pytest.approx(
            0.3 * share
        )


@pytest.mark.parametrize(("rate", "steps", "warns"), [(0.0, 10, True), (0.3, 10, False), (0.0, 0, False)])
def test_a_warm_up_of_no_stochastic_depth_is_told(rate, steps, warns):
    model = create_model("eyetoy1d_pico", num_classes=2, drop_path=rate)
    assert bool(list(DropPathWarmup(model, steps).warnings())) is warns


def test_without_a_warm_up_stochastic_depth_is_left_alone():
    model = create_model("eyetoy1d_pico", num_classes=2, drop_path=0.3)
    assert DropPathWarmup(model, 0).rates == []


@pytest.mark.parametrize(
    ("options", "steps_per_epoch", "found"),
    [
        ({"epochs": 10, "warmup_epochs": 3}, 5, []),
        ({"epochs": 3, "warmup_epochs": 3}, 20, ["the learning rate rises over warmup_epochs=3"]),
        ({"epochs": 7, "warmup_epochs": 1}, 7, ["the run takes 49 optimizer steps in all, of 64 samples"]),
        ({"epochs": 1, "warmup_epochs": 2}, 1, ["the learning rate rises", "the run takes 1 optimizer steps"]),
        (
            {"epochs": 10, "schedule": "steps", "decay_epochs": [4, 10]},
            9,
            ["the run ends before the learning rate falls at"],
        ),
        ({"epochs": 9, "max_steps": 2}, 20, []),  # cut short on purpose
        ({"epochs": 1, "warmup_epochs": 0, "max_steps": 99}, 20, ["the run takes 20"]),  # not by max_steps
    ],
)
def test_a_run_that_is_too_short_to_learn_is_told(options, steps_per_epoch, found):
    recipe = Recipe(batch_size=64, **options)
    warnings = list(short_run_warnings(recipe, run_lengths(recipe, steps_per_epoch)))
    assert len(warnings) == len(found)
    assert all(said.startswith(text) for said, text in zip(warnings, found, strict=True))
