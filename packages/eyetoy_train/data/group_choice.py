"""Choose a split, or a fold, for every group of samples.

Like scikit-learn's StratifiedGroupKFold, a greedy choice by the classes of each group. Not that one: it knows equal
folds alone, one label a sample, and may leave a class without training.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eyetoy_train.types import Split
from eyetoy_train.utils.console import named
from eyetoy_train.utils.seeds import derive_seed

P = TypeVar("P", Split, int)

TRIES = 20
"""Numbers of random orders, of which the best result is taken."""
MOST_PLACED = 20_000
"""Of many groups fewer orders are tried, so that about so many are placed; one order is near the best then."""


def choose_splits(
    keys: Sequence[str], labels: Sequence[Collection[Hashable]], shares: Mapping[Split, float], seed: int
) -> dict[str, Split]:
    """Return the split of every group.

    Every split has a group at least, and train one of every class. As far as that allows, the splits have their shares
    of all samples and of every class.

    Args:
        keys: the group of each sample.
        labels: the classes of each sample: one, several or none.
        shares: the fraction of the samples of each split, `train` among them; their sum is 1.
        seed: decides between equally good choices.

    Raises:
        ValueError: there are fewer groups than splits, or too many must be in training to keep every class there.
    """
    groups = _Groups(keys, labels)
    *others, last = sorted(shares, key=lambda split: -shares[split])
    if len(groups.names) < len(shares):
        raise ValueError(
            f"{' and '.join([', '.join(others), last])} need a group each, and the samples have "
            f"{len(groups.names)} ({named(groups.names)}); take smaller groups, or add samples of others"
        )
    kept = groups.cover()
    if len(groups.names) - len(kept) < len(shares) - 1:
        raise ValueError(
            f"no groups can be held out for {' and '.join(split for split in shares if split != 'train')}: "
            f"{len(kept)} of {len(groups.names)} groups must be in training, or a class would be missing there; take "
            "smaller groups, or add samples of others"
        )
    return groups.place(shares, seed, kept_in="train")


def choose_folds(keys: Sequence[str], labels: Sequence[Collection[Hashable]], count: int, seed: int) -> dict[str, int]:
    """Return the fold of every group, from 1 to `count`; groups that always stay in training are not in it.

    These are the only ones of a class, which could not be trained without them. A class of several groups is in several
    folds, where that can be.

    Args:
        keys: the group of each sample.
        labels: the classes of each sample: one, several or none.
        count: of the folds.
        seed: decides between equally good choices.

    Raises:
        ValueError: fewer groups than folds can be for the test.
    """
    groups = _Groups(keys, labels)
    lone = groups.lone()
    if len(groups.names) - len(lone) < count:
        stay = f", of which {len(lone)} stay in training as the only ones of a class" if lone else ""
        raise ValueError(
            f"data.folds={count} needs as many groups, and the samples have {len(groups.names)}{stay} "
            f"({named(groups.names)}); take fewer folds or smaller groups"
        )
    inner = [place for place, key in enumerate(keys) if key not in lone]
    divided = _Groups([keys[place] for place in inner], [labels[place] for place in inner])
    return divided.place(dict.fromkeys(range(1, count + 1), 1 / count), seed)


class _Groups:
    """The numbers of samples of every group: of all together, and of each class."""

    def __init__(self, keys: Sequence[str], labels: Sequence[Collection[Hashable]]) -> None:
        # Sorted, like the names: the choice must not depend on the order of the samples.
        classes = sorted({label for found in labels for label in found}, key=repr)
        numbers = {label: number for number, label in enumerate(classes, 1)}
        counts: dict[str, Counter[int]] = defaultdict(Counter)
        for key, found in zip(keys, labels, strict=True):
            # Column 0 counts all samples, the others those of a class.
            counts[key].update([0, *(numbers[label] for label in set(found))])
        self.names = sorted(counts)
        self.columns = [np.array(sorted(counts[name])) for name in self.names]
        self.counts = [
            np.array([counts[name][column] for column in columns_of], dtype=np.float64)
            for name, columns_of in zip(self.names, self.columns, strict=True)
        ]
        self.totals = np.zeros(len(classes) + 1)
        self.num_groups = np.zeros(len(classes) + 1, dtype=np.int64)
        for columns_of, counted in zip(self.columns, self.counts, strict=True):
            self.totals[columns_of] += counted
            self.num_groups[columns_of] += 1

    def lone(self) -> set[str]:
        """Return the groups that alone have a class."""
        return {name for place, name in enumerate(self.names) if self._is_lone(place)}

    def _is_lone(self, place: int) -> bool:
        return bool((self.num_groups[self.columns[place][1:]] == 1).any())

    def cover(self, order: Sequence[int] = ()) -> list[int]:
        """Return few groups that have every class together; the first of an order where several do as well."""
        order = order or range(len(self.names))
        found, missing = [], self.num_groups > 0
        missing[0] = False
        # The groups that alone have a class must be in it; then those of many classes, so that few are enough.
        for place in sorted(order, key=lambda place: (not self._is_lone(place), -len(self.columns[place]))):
            if missing[self.columns[place]].any():
                found.append(place)
                missing[self.columns[place]] = False
        return found

    def place(self, shares: Mapping[P, float], seed: int, *, kept_in: P | None = None) -> dict[str, P]:
        """Return where every group belongs: the best of several random orders.

        Args:
            shares: by part, its fraction of the samples.
            seed: of the orders.
            kept_in: the part that must have every class; None if every class is to be in several parts.
        """
        parts = list(shares)
        generator = random.Random(derive_seed(seed, "groups"))
        wanted = np.array([shares[part] for part in parts])[:, None] * self.totals  # [parts, 1 + classes]
        # As chi-squared, of fractions: all classes together weigh as much as the number of samples.
        weights = np.full(len(self.totals), 1 / max(len(self.totals) - 1, 1))
        weights[0] = 1
        weights = weights / (wanted * self.totals)
        best: NDArray[np.int64] | None = None
        least = np.inf
        for _ in range(min(max(MOST_PLACED // len(self.names), 1), TRIES)):
            order = list(range(len(self.names)))
            generator.shuffle(order)
            kept = None if kept_in is None else (parts.index(kept_in), self.cover(order))
            places, cost = self._in_order(order, wanted, weights, kept)
            if best is None or cost < least:
                best, least = places, cost
        assert best is not None
        return {name: parts[place] for name, place in zip(self.names, best, strict=True)}

    def _in_order(
        self,
        order: Sequence[int],
        wanted: NDArray[np.float64],
        weights: NDArray[np.float64],
        kept: tuple[int, list[int]] | None,
    ) -> tuple[NDArray[np.int64], float]:
        """Place one group after the other where it is missing most; return the parts and how far they are from shares.

        Args:
            order: all groups.
            wanted: samples of each part, `[parts, 1 + classes]`.
            weights: of the squared differences from it, likewise.
            kept: a part, and groups that must be in it.
        """
        have = np.zeros_like(wanted)
        places = np.full(len(self.names), -1)

        def put(group: int, part: int) -> None:
            places[group] = part
            have[part, self.columns[group]] += self.counts[group]
            left[self.columns[group]] -= 1

        left = self.num_groups.copy()
        if kept:
            for group in kept[1]:
                put(group, kept[0])
        rest = [group for group in order if places[group] < 0]
        far = 0.0
        for number, group in enumerate(rest):
            columns, counts = self.columns[group], self.counts[group]
            gap = have[:, columns] - wanted[:, columns]
            cost = ((2 * gap + counts) * counts * weights[:, columns]).sum(1)  # what the squared differences grow by
            empty = have[:, 0] == 0
            # Empty parts take what is left; otherwise parts that are not full: so none has more than its share by more
            # than one group.
            allowed = empty if len(rest) - number <= empty.sum() else have[:, 0] < wanted[:, 0]
            if kept is None:
                # A class must not be in one fold alone: the test on it would have nothing to train on.
                present = have[:, columns[1:]] > 0
                last = (left[columns[1:]] == 1) & (present.sum(0) == 1)
                alone = present[:, last].any(1)
                far += float((allowed & ~alone).sum() == 0)
                allowed = allowed & ~alone if (allowed & ~alone).any() else allowed
            put(group, int(np.where(allowed, cost, np.inf).argmin() if allowed.any() else cost.argmin()))
        return places, 1e6 * far + float(((have - wanted) ** 2 * weights).sum())
