"""Hold samples out for validation, a test or a fold, in every app: single samples, or whole groups."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from eyetoy_train.data.group_choice import choose_folds, choose_splits
from eyetoy_train.data.splits import HELD_OUT
from eyetoy_train.types import Split
from eyetoy_train.utils.seeds import derive_seed

S = TypeVar("S")

Sample = tuple[Path, Any]
"""A file and its label: the number of a class, or the numbers of several."""
Groups = Mapping[Path, str]
"""The group of every file."""


@dataclass(frozen=True)
class Fold:
    """One of several equal parts of a data set, which is for the test.

    Args:
        number: from 1 to `count`.
        count: of all parts, at least 2.

    Raises:
        ValueError: a number is out of its range.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        """Refuse numbers that no division has."""
        if self.count < 2:
            raise ValueError(f"data.folds must be at least 2; got {self.count}")
        if not 1 <= self.number <= self.count:
            raise ValueError(f"data.fold must be from 1 to data.folds={self.count}; got {self.number}")


def missing_splits(present: Collection[Split]) -> tuple[Split, ...]:
    """Return the splits to hold out: validation if it is missing, and of a set without splits a test as well."""
    if "val" in present:
        return ()
    return ("val",) if present else ("test", "val")


def hold_out_by_class(
    samples: Sequence[Sample], names: Sequence[Split], seed: int, groups: Groups | None = None
) -> dict[Split, tuple[Sample, ...]]:
    """Move a fraction of every class, at least one file, to each split of `names`; the rest is for training.

    For example a class of 10 files has 2 for the test, 1 for validation and 7 for training. A class with too few files
    to have one in each split stays in training.

    Args:
        samples: all of them, with one label each.
        names: the splits, such as test and val; `HELD_OUT` has their fractions.
        seed: the recipe's.
        groups: the groups of the files, which stay together; see `hold_out_groups`.

    Raises:
        ValueError: all classes are so small, or there are too few groups.
    """
    if groups:
        return hold_out_groups(samples, *_keys_and_labels(samples, groups), names, seed)
    splits: dict[Split, list[Sample]] = {name: [] for name in ("train", *names)}
    for label in sorted({label for _, label in samples}):
        members = [sample for sample in samples if sample[1] == label]
        # A seed for each class: files added to one class do not change the split of the others.
        random.Random(derive_seed(seed, "split", label)).shuffle(members)
        if len(members) <= len(names):
            splits["train"] += members
            continue
        total = len(members)  # fractions are of the whole class, not of the files left by the split before
        for name in names:
            count = max(round(total * HELD_OUT[name]), 1)  # at least one, or a rare class would have no score
            splits[name] += members[:count]
            members = members[count:]
        splits["train"] += members
    if not splits[names[0]]:
        raise ValueError(
            f"no class has enough files to hold some out for {' and '.join(names)}: it takes {len(names) + 1} or more"
        )
    return {name: tuple(sorted(members)) for name, members in splits.items()}


def hold_out_together(
    samples: Sequence[Sample], names: Sequence[Split], seed: int, groups: Groups | None = None
) -> dict[Split, tuple[Sample, ...]]:
    """Move a fraction of the samples to each split of `names`, at least one as far as there are some.

    Drawn from all of them together, not class by class as in `hold_out_by_class`: a sample has several classes.
    """
    if groups and names:
        return hold_out_groups(samples, *_keys_and_labels(samples, groups), names, seed)
    rest, splits = list(samples), dict[Split, tuple[Sample, ...]]()
    for name in names:
        # Fractions are of all samples, not of what is left by the split before.
        count = min(max(round(len(samples) * HELD_OUT[name]), 1), len(rest))
        chosen = set(random.Random(derive_seed(seed, "split")).sample(range(len(rest)), count))
        splits[name] = tuple(rest[place] for place in sorted(chosen))
        rest = [sample for place, sample in enumerate(rest) if place not in chosen]
    return {"train": tuple(rest), **splits}


def hold_out_by_name(
    samples: Sequence[S],
    names: Sequence[Split],
    seed: int,
    name_of: Callable[[S], str],
    *,
    keys: Sequence[str] = (),
    labels: Sequence[Collection[Hashable]] = (),
) -> dict[Split, tuple[S, ...]]:
    """Move a fraction of the samples, at least one, to each split of `names`; the rest is for training.

    A hash of a sample's name decides, so that others that are added later change little. Of too few samples to leave
    one for training, none is held out.

    Args:
        samples: all of them.
        names: the splits, such as test and val; `HELD_OUT` has their fractions.
        seed: the recipe's.
        name_of: the name of a sample, the same on every machine.
        keys: the group of each sample, if there are groups, which stay together; see `hold_out_groups`.
        labels: for groups, the classes of each sample; none if they are not known.

    Raises:
        ValueError: there are too few groups.
    """
    if keys:
        return hold_out_groups(samples, keys, labels or [()] * len(samples), names, seed)
    if len(samples) <= len(names):
        return {"train": tuple(samples)}
    order = sorted(range(len(samples)), key=lambda place: derive_seed(seed, "split", name_of(samples[place])))
    chosen: dict[Split, list[int]] = {}
    for name in names:
        count = max(round(len(samples) * HELD_OUT[name]), 1)
        chosen[name], order = order[:count], order[count:]
    chosen["train"] = order
    return {name: tuple(samples[place] for place in sorted(places)) for name, places in chosen.items()}


def hold_out_groups(
    samples: Sequence[S],
    keys: Sequence[str],
    labels: Sequence[Collection[Hashable]],
    names: Sequence[Split],
    seed: int,
) -> dict[Split, tuple[S, ...]]:
    """Move whole groups to each split of `names`, about as many samples as its fraction; the rest is for training.

    Args:
        samples: all of them.
        keys: the group of each.
        labels: the classes of each: one, several or none. Every class stays in training, and is held out where that
            can be.
        names: the splits, such as test and val; `HELD_OUT` has their fractions.
        seed: the recipe's.

    Raises:
        ValueError: there are too few groups.
    """
    shares: dict[Split, float] = {name: HELD_OUT[name] for name in names}
    chosen = choose_splits(keys, labels, {"train": 1 - sum(shares.values()), **shares}, seed)
    divided: dict[Split, list[S]] = {name: [] for name in ("train", *names)}
    for sample, key in zip(samples, keys, strict=True):
        divided[chosen[key]].append(sample)
    return {name: tuple(found) for name, found in divided.items()}


def divide_by_class(
    samples: Sequence[Sample], fold: Fold, seed: int, groups: Groups | None = None
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Return the samples of the other folds, and of one fold: an equal part of every class.

    For example a class of 12 files in 5 folds has 2 or 3 in each. A class of one file is in none of them. Groups are
    in one fold each, see `choose_folds`.

    Raises:
        ValueError: the fold is empty, or there are too few groups.
    """
    chosen: set[Sample] = set()
    if groups:
        folds = choose_folds(*_keys_and_labels(samples, groups), fold.count, seed)
        chosen = {sample for sample in samples if folds.get(groups[sample[0]]) == fold.number}
        return _apart(samples, chosen)
    for label in sorted({label for _, label in samples}):
        members = [sample for sample in samples if sample[1] == label]
        generator = random.Random(derive_seed(seed, "fold", label))  # as in `hold_out_by_class`
        generator.shuffle(members)
        # The larger folds are others in each class: or small classes would all be missing from the same folds.
        first = (fold.number - 1 + generator.randrange(fold.count)) % fold.count
        if len(members) > 1:
            chosen.update(members[first :: fold.count])
    if not chosen:
        raise ValueError(f"fold {fold.number} of {fold.count} is empty: no class has so many files; take fewer folds")
    return _apart(samples, chosen)


def _apart(samples: Iterable[Sample], chosen: set[Sample]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    for sample in samples:
        parts[sample in chosen].append(sample)
    return tuple(parts[0]), tuple(parts[1])


def _keys_and_labels(samples: Sequence[Sample], groups: Groups) -> tuple[list[str], list[tuple[Hashable, ...]]]:
    labels = [tuple(label) if isinstance(label, Sequence) else (label,) for _, label in samples]
    return [groups[path] for path, _ in samples], labels
