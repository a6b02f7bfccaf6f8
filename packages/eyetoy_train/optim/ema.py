"""A moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from eyetoy_train.checkpoint.state_dicts import let_go, spread_like
from eyetoy_train.recipe import EmaRecipe


class Ema:
    """The average over steps of everything floating in a model's state, buffers included; the rest is copied.

    The model must be where it is going to be trained: on its device, and spread over processes if it is to be.

    Its warm-up is that of TensorFlow's ExponentialMovingAverage: step t, from 0, weighs the past by
    min(decay, (1 + t) / (10 + t)).
    """

    def __init__(self, model: nn.Module, recipe: EmaRecipe) -> None:
        assert recipe.decay is not None
        self.decay = recipe.decay
        self.warmup = recipe.warmup
        self.model = model
        saved = model.state_dict().keys()
        # The model's own tensors, which training changes in place; one that has two names comes once.
        everything = [*model.named_parameters(), *model.named_buffers()]
        self.live = {name: value.detach() for name, value in everything if name in saved}
        self.average = {name: value.clone() for name, value in self.live.items()}

    def decay_at(self, step: int) -> float:
        """Return the weight of the past in optimizer step `step`, counted from 0."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after optimizer step `step`, counted from 0, into the average."""
        floating = [name for name, value in self.average.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.average[name] for name in floating], [self.live[name] for name in floating], 1 - self.decay_at(step)
        )
        for name in self.average.keys() - set(floating):
            self.average[name].copy_(self.live[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the average for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        let_go(self.model)
        for name, value in self.live.items():
            held = value.clone()
            value.copy_(self.average[name])
            self.average[name].copy_(held)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore an average that was saved."""
        for name, value in self.average.items():
            value.copy_(spread_like(tensors[name], value))
