"""Hold pictures out where a data set has no split for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from eyetoy_train import Split
from eyetoy_train.data.splits import HELD_OUT
from eyetoy_train.utils.seeds import derive_seed

P = TypeVar("P")


def hold_out(
    pictures: Sequence[P], names: Sequence[Split], seed: int, name_of: Callable[[P], str]
) -> dict[Split, tuple[P, ...]]:
    """Move a fraction of the pictures, at least one, to each split of `names`; the rest is for training.

    A hash of a picture's name decides, so that others that are added later change little. Of too few pictures to leave
    one for training, none is held out.

    Args:
        pictures: all of them.
        names: the splits, such as test and val; `HELD_OUT` has their fractions.
        seed: the recipe's.
        name_of: the name of a picture, the same on every machine.
    """
    if len(pictures) <= len(names):
        return {"train": tuple(pictures)}
    order = sorted(range(len(pictures)), key=lambda place: derive_seed(seed, "split", name_of(pictures[place])))
    chosen: dict[Split, list[int]] = {}
    for name in names:
        count = max(round(len(pictures) * HELD_OUT[name]), 1)
        chosen[name], order = order[:count], order[count:]
    chosen["train"] = order
    return {name: tuple(pictures[place] for place in sorted(places)) for name, places in chosen.items()}


def missing_splits(present: Sequence[Split]) -> tuple[Split, ...]:
    """Return the splits to hold out: validation if it is missing, and of a set without splits a test as well."""
    if "val" in present:
        return ()
    return ("val",) if present else ("test", "val")
