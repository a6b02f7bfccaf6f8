"""Names of the splits: one table for folders, lists, archives and the hub."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from eyetoy_train.types import Split

SPLIT_NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing"),
}
"""Usual names of the splits, the commonest first."""

HELD_OUT: Mapping[Split, float] = {"test": 0.2, "val": 0.1}
"""Fraction of the samples that is held out where the data have no such split."""


def find_split(split: Split, present: Collection[str]) -> str | None:
    """Return the name by which a split is present, or None if it is not."""
    # The commonest name wins where several are present, such as `val` and `dev`.
    return next((name for name in SPLIT_NAMES[split] if name in present), None)
