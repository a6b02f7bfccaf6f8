"""What was read of a data set, in one wording for all of them: lines at the start of a run, and warnings."""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from eyetoy_train.data.suspected import find_suspected
from eyetoy_train.types import Split
from eyetoy_train.utils.console import log, named
from eyetoy_train.utils.files import reasons
from eyetoy_train.utils.text import shown

MOST_CLASSES_LISTED = 20
"""Up to so many classes are listed with their numbers of samples."""
FEW_LISTED = 3
"""Of more classes, so many of the smallest and of the largest."""


@dataclass(frozen=True)
class Inventory:
    """The classes and samples of a data set, and what is none.

    Args:
        classes: names of the classes.
        sizes: by split, the number of samples, or words for a stream.
        labels: by split, the numbers of the classes that have a sample there, where known with the numbers of these;
            without splits of which that is unknown.
        places: by split, where the samples were found, such as the name of a folder, or `held out`.
        left_out: numbers of files and others that are no samples, by the reason.
        files: by split, the files of the samples with their labels, where there are any; a label of None is unknown.
        notes: what else there is to say, such as the format.
        groups: by split, the numbers of samples of every group, where samples are held out by groups.
    """

    classes: Sequence[str]
    sizes: Mapping[Split, int | str]
    labels: Mapping[Split, Collection[int]] = field(default_factory=dict)
    places: Mapping[Split, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[Split, Sequence[tuple[Path, Any]]] = field(default_factory=dict, repr=False)
    notes: Sequence[str] = ()
    groups: Mapping[Split, Mapping[str, int]] = field(default_factory=dict, repr=False)

    def describe(self) -> str:
        """Return a line with the numbers of classes, of the samples of each split, and of what was left out."""
        sizes = {split: self.sizes[split] for split in get_args(Split) if split in self.sizes}
        parts = [
            f"{split} {size if isinstance(size, str) else f'{size:,}'}"
            + (f" of {_groups(len(self.groups[split]))}" if split in self.groups else "")
            + (f" ({self.places[split]})" if split in self.places else "")
            for split, size in sizes.items()
        ]
        left_out = reasons(self.left_out)
        noun = "class" if len(self.classes) == 1 else "classes"
        endings = [f"left out: {left_out}"] * bool(left_out)
        return "; ".join([f"{len(self.classes):,} {noun}", f"samples: {', '.join(parts)}", *self.notes, *endings])

    def describe_classes(self) -> str:
        """Return a line with the samples of each class by split; of many classes, of the smallest and largest alone.

        Nothing where the numbers are unknown.
        """
        counts = {split: found for split, found in self.labels.items() if isinstance(found, Mapping)}
        if not counts:
            return ""
        ordered = [split for split in get_args(Split) if split in counts]

        def told(label: int) -> str:
            return f"{shown(self.classes[label])} {' / '.join(f'{counts[split].get(label, 0):,}' for split in ordered)}"

        title = f"samples of each class, {' / '.join(ordered)}"
        labels = range(len(self.classes))
        if len(self.classes) <= MOST_CLASSES_LISTED:
            return f"{title}: {'; '.join(map(told, labels))}"
        by_size = sorted(labels, key=lambda label: counts[ordered[0]].get(label, 0))
        few, many = ("; ".join(map(told, some)) for some in (by_size[:FEW_LISTED], by_size[-FEW_LISTED:]))
        return f"{title}, of the smallest: {few}; of the largest: {many}"

    def warnings(self) -> Iterator[str]:
        """Yield a line for each thing that is allowed, and may not be meant."""
        if "train" in self.labels:
            trained = set(self.labels["train"])
            untrained = [label for label in range(len(self.classes)) if label not in trained]
            if untrained:
                held_out = set[int]().union(*self.labels.values())
                seen = [self.classes[label] for label in untrained if label in held_out]
                more = f"; val or test have some of {named(seen)}" if seen else ""
                names = named([self.classes[label] for label in untrained])
                yield f"classes without a sample for training, which no model can learn: {names}{more}"
            for split in ("val", "test"):
                present = self.labels.get(split)
                lost = [] if present is None else [self.classes[label] for label in sorted(trained - set(present))]
                if lost:
                    yield f"classes without a sample in {split}, whose score there says nothing of them: {named(lost)}"
        for one, other in itertools.combinations(self.files, 2):
            shared = sorted({path for path, _ in self.files[one]}.intersection(path for path, _ in self.files[other]))
            if shared:
                names = named([str(path) for path in shared], 3)
                yield f"{len(shared):,} files are in {one} and in {other}, whose score is then too good: {names}"
        yield from self.group_warnings()
        alike: dict[str, list[str]] = defaultdict(list)
        for name in self.classes:
            alike[name.casefold()].append(name)
        for names_alike in alike.values():
            if len(names_alike) > 1:
                yield f"classes whose names differ in upper and lower case alone: {named(names_alike)}"

    def group_warnings(self) -> Iterator[str]:
        """Yield a line for groups that are in two splits, and for files that look like such groups."""
        for one, other in itertools.combinations(self.groups, 2):
            shared = sorted(self.groups[one].keys() & self.groups[other].keys())
            if shared:
                most = min(len(self.groups[one]), len(self.groups[other]))
                yield (
                    f"{len(shared):,} of {_groups(most)} are in {one} and in {other}, as the set divides them, "
                    f"whose score is then too good: {named(shared, 3)}"
                )
        if not self.groups and (suspected := find_suspected(self.files, self.classes)):
            *_, place = (self.places.get(split, "") for split in suspected.files)
            yield suspected.describe(are_given=not place.startswith(("held out", "fold")))

    def tell(self) -> None:
        """Log the line and the warnings, on the main process."""
        from accelerate import PartialState

        if PartialState().is_main_process:
            # On stderr, also in commands whose stdout is JSON.
            for line in filter(None, (self.describe(), self.describe_classes())):
                log(f"data: {line}", file=sys.stderr)
            for warning in self.warnings():
                log(f"warning: {warning}", file=sys.stderr)


def _groups(count: int) -> str:
    return "1 group" if count == 1 else f"{count:,} groups"
