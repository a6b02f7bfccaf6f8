"""The learning rate of every step, and stochastic depth while it warms up.

Ours instead of `torch.optim.lr_scheduler`, whose schedulers count their own calls: a function of the step needs no
state in a checkpoint, and a run can be continued at any step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from eyetoy_train.recipe import Recipe

ONE_CYCLE_START = 25.0
"""One cycle starts at the highest learning rate divided by this, as PyTorch's does."""

FEWEST_STEPS = 50
"""A run of fewer optimizer steps hardly learns."""

STEP_FACTOR = 0.1
"""Factor of each fall of the learning rate in the schedule of steps."""


@dataclass(frozen=True)
class Lengths:
    """How long a run is, in optimizer steps."""

    steps_per_epoch: int
    num_steps: int

    @property
    def num_epochs(self) -> int:
        """Epochs of the whole run; the last may be cut short."""
        return math.ceil(self.num_steps / self.steps_per_epoch)


def run_lengths(recipe: Recipe, steps_per_epoch: int | None) -> Lengths:
    """Return the lengths of a run.

    Args:
        recipe: what it says of epochs and steps comes first.
        steps_per_epoch: steps that go once through the training set; None for a stream.

    Raises:
        ValueError: the set is of unknown size and the recipe does not say what counts as an epoch.
    """
    steps_per_epoch = recipe.steps_per_epoch or steps_per_epoch
    if steps_per_epoch is None:
        raise ValueError("the training set is a stream of unknown size: steps_per_epoch must say how long an epoch is")
    steps = recipe.epochs * steps_per_epoch
    return Lengths(steps_per_epoch, steps if recipe.max_steps is None else min(steps, recipe.max_steps))


def short_run_warnings(recipe: Recipe, lengths: Lengths) -> Iterator[str]:
    """Yield a sentence for what makes a run too short to learn, unless `max_steps` cuts it short on purpose."""
    steps = lengths.num_steps
    if recipe.max_steps is not None and steps == recipe.max_steps:
        return
    warmup = round(recipe.warmup_epochs * lengths.steps_per_epoch)
    if warmup >= steps:
        yield (
            f"the learning rate rises over warmup_epochs={recipe.warmup_epochs:g}, and the run ends after "
            f"epochs={recipe.epochs}, before it is reached; raise epochs, or lower warmup_epochs"
        )
    late = [epochs for epochs in recipe.decay_epochs if round(epochs * lengths.steps_per_epoch) >= steps]
    if late:
        yield f"the run ends before the learning rate falls at decay_epochs={late}; it has epochs={recipe.epochs}"
    if steps < FEWEST_STEPS:
        yield (
            f"the run takes {steps} optimizer steps in all, of {recipe.batch_size} samples each; that is too few to "
            "learn much: raise epochs, or lower batch_size"
        )


def learning_rate(step: int, recipe: Recipe, lengths: Lengths) -> float:
    """Return the learning rate of optimizer step `step`, counted from 0."""
    # A run that is cut short by max_steps still takes its last step at the full rate.
    warmup = min(round(recipe.warmup_epochs * lengths.steps_per_epoch), lengths.num_steps - 1)
    if recipe.schedule == "one_cycle":
        return _one_cycle(step, recipe, warmup, lengths.num_steps)
    if step < warmup:
        return recipe.lr * (step + 1) / (warmup + 1)  # with a warm-up of 4 steps: 1/5, 2/5, 3/5, 4/5, then 1
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "steps":
        falls = sum(step >= round(epochs * lengths.steps_per_epoch) for epochs in recipe.decay_epochs)
        return recipe.lr * STEP_FACTOR**falls
    return _cosine(recipe.lr, recipe.min_lr, (step - warmup) / max(lengths.num_steps - warmup, 1))


def _one_cycle(step: int, recipe: Recipe, warmup: int, num_steps: int) -> float:
    """Two half cosines that meet at the end of the warm-up; the last step has `min_lr`."""
    if step < warmup:
        return _cosine(recipe.lr / ONE_CYCLE_START, recipe.lr, step / warmup)
    return _cosine(recipe.lr, recipe.min_lr, (step - warmup) / max(num_steps - 1 - warmup, 1))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(groups: Iterable[dict[str, Any]], lr: float) -> None:
    """Set the learning rate of all parameter groups, times their `lr_scale`."""
    for group in groups:
        group["lr"] = lr * group["lr_scale"]


class DropPathWarmup:
    """Raises the stochastic depth of a model's blocks from 0 to the value each was built with, over the first `steps`.

    Known by three names: `drop_path` of this project's branches, `drop_prob` of timm's `DropPath`, and `p` of
    torchvision's `StochasticDepth`.
    """

    def __init__(self, model: nn.Module, steps: float) -> None:
        self.steps = steps
        self.rates = [
            (module, name, getattr(module, name))
            for module in model.modules()
            for name in ("drop_path", "drop_prob", *(["p"] if type(module).__name__ == "StochasticDepth" else []))
            if steps and isinstance(getattr(module, name, None), float)
        ]

    def warnings(self) -> Iterator[str]:
        """Yield a sentence if there is nothing to raise."""
        if self.steps and not any(rate for *_, rate in self.rates):
            yield "drop_path_warmup_epochs changes nothing: no layer of the model has stochastic depth"

    def set(self, step: int) -> None:
        """Set the rates of optimizer step `step`, counted from 0."""
        for module, name, rate in self.rates:
            setattr(module, name, rate * min(step / self.steps, 1.0))
