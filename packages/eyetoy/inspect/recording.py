"""Reading modules' outputs while a model runs as it always does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, TypeVar

from torch import Tensor, nn

from eyetoy.encoder import Encoder

T = TypeVar("T")


class _EnoughError(Exception):
    """Everything was seen; what comes after it is not computed."""


def recorded(
    encoder: Encoder, x: Tensor, lengths: Tensor | None, modules: Sequence[nn.Module], keep: Callable[[int, Tensor], T]
) -> list[T]:
    """Run an encoder as far as need be, and return what `keep` takes of the outputs of modules.

    Args:
        encoder: of any number of dimensions.
        x: its input, `[batch, in_channels, *grid]`.
        lengths: in one dimension, how many samples are real.
        modules: parts of the encoder, each of which runs once.
        keep: takes a module's place in `modules` and its output as it comes; nothing else is held on to.
    """
    kept: dict[int, T] = {}

    def hook(place: int, module: nn.Module, inputs: Any, output: Tensor) -> None:
        kept[place] = keep(place, output)
        if len(kept) == len(modules):
            raise _EnoughError

    with ExitStack() as hooks, suppress(_EnoughError):
        for place, module in enumerate(modules):
            hooks.callback(module.register_forward_hook(partial(hook, place)).remove)
        encoder(x, lengths)
    return [kept[place] for place in range(len(modules))]
