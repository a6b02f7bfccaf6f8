"""An exponential moving average of a model's weights.

Ours instead of `torch.optim.swa_utils.AveragedModel`, which keeps a copy of the module: this one averages shards where
they are, follows buffers, and swaps its weights into the model in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from eyetoy_train.recipe import EmaRecipe
from eyetoy_train.utils.sharding import reshard, shard_like


class Ema:
    """The average over steps of everything floating in a model's state, buffers included; integers are copied.

    Its warm-up is that of TensorFlow's ExponentialMovingAverage: step t, from 0, weighs the past by
    min(decay, (1 + t) / (10 + t)).

    Args:
        model: the model in training, already on its device and sharded if it is going to be.
        recipe: its `decay` must be given.
    """

    def __init__(self, model: nn.Module, recipe: EmaRecipe) -> None:
        assert recipe.decay is not None
        self.decay = recipe.decay
        self.warmup = recipe.warmup
        self.model = model
        saved = model.state_dict().keys()
        # The model's own tensors, which training changes in place. These iterators give a tensor with two names once,
        # where `state_dict` gives it twice: swapping it twice would leave it where it was.
        everything = [*model.named_parameters(), *model.named_buffers()]
        self.live = {name: value.detach() for name, value in everything if name in saved}
        self.average = {name: value.clone() for name, value in self.live.items()}

    def decay_at(self, step: int) -> float:
        """Return the weight of the past in optimizer step `step`, counted from 0."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after optimizer step `step`, counted from 0, to the average."""
        floating = [name for name, value in self.average.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.average[name] for name in floating], [self.live[name] for name in floating], 1 - self.decay_at(step)
        )
        for name in self.average.keys() - set(floating):
            self.average[name].copy_(self.live[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Swap the average into the model for the duration of a `with` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        reshard(self.model)  # otherwise the next forward pass would still use the full weights it gathered before
        for name, value in self.live.items():
            current = value.clone()
            value.copy_(self.average[name])
            self.average[name].copy_(current)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore an average that was saved; `tensors` are full."""
        for name, value in self.average.items():
            value.copy_(shard_like(tensors[name], value))
