"""What is wrong or odd about the files of a data set: content that comes twice, empty classes, odd sizes."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from eyetoy_train.data.folder import ClassFolder
from eyetoy_train.types import Split
from eyetoy_train.utils.console import named

LEAST_LOST: Sequence[Split] = ("train", "val", "test")
"""Of two copies in two splits, the one to leave out: the split that can spare a sample comes first."""


@dataclass(frozen=True)
class Finding:
    """A fault of a file, or of a class."""

    kind: str
    """In a word, such as `unreadable`."""
    what: Path | str
    """The file, or the name of the class."""
    why: str
    split: Split | None = None
    """Where the file is too much, if it is right in another split."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}: {self.why}"


def find_copies(folder: ClassFolder) -> Iterator[Finding]:
    """Yield a finding for files of the same content: in two classes, or in two splits of one class.

    The former is `contradictory`, once for each file: a label must be wrong. The latter is a `duplicate`, for the copy
    in training, or in validation if the other one is for the test: the score of the held-out split would be too good.
    Copies in one class and split are no finding. A file that is listed twice counts as its own copy.
    """
    for copies in _equal_files(folder):
        labels = {_label(label) for _, _, label in copies}
        told: set[Path] = set()
        for split, path, label in copies:
            others = [other for other in copies if other[1] != path or other[0] != split]
            if len(labels) > 1:
                if path in told:
                    continue
                told.add(path)
                # Of all copies: a file may be listed twice in one split.
                place, other, theirs = next(copy for copy in copies if _label(copy[2]) != _label(label))
                here, there = (_names(folder, one) for one in (label, theirs))
                too = f"listed once more in {place}," if other == path else f"its copy {other} ({place}) is"
                yield Finding("contradictory", path, f"it is of {here}, and {too} of {there}")
                continue
            held_out = [one for one in others if LEAST_LOST.index(one[0]) > LEAST_LOST.index(split)]
            if held_out:
                place, other, _ = held_out[0]
                same = "is in" if other == path else f"has a copy, {other}, in"
                why = f"it is in {split}, and {same} {place}, whose score is then too good"
                yield Finding("duplicate", path, why, split)


def _label(label: Any) -> Any:
    return tuple(sorted(label)) if isinstance(label, Sequence) else label


def _names(folder: ClassFolder, label: Any) -> str:
    labels = label if isinstance(label, Sequence) else [label]
    return named([folder.classes[number] for number in labels]) or "no class"


def _equal_files(folder: ClassFolder) -> Iterator[list[tuple[Split, Path, Any]]]:
    """Yield groups of samples whose files have the same content."""
    sizes: dict[int, list[tuple[Split, Path, Any]]] = defaultdict(list)
    for split, samples in folder.splits.items():
        for path, label in samples:
            with suppress(OSError):  # a missing file is another finding
                sizes[path.stat().st_size].append((split, path, label))
    # Only files of the same size are read. An empty one has no content that could be the same.
    for alike in (members for size, members in sizes.items() if size and len(members) > 1):
        contents: dict[bytes, list[tuple[Split, Path, Any]]] = defaultdict(list)
        for sample in alike:
            with suppress(OSError), sample[1].open("rb") as file:
                contents[hashlib.file_digest(file, "sha256").digest()].append(sample)
        yield from (copies for copies in contents.values() if len(copies) > 1)


def without(folder: ClassFolder, findings: Sequence[Finding]) -> ClassFolder:
    """Return the files of a data set without those of findings; without a duplicate only in the split of its finding.

    Raises:
        ValueError: a split would be empty.
    """
    copies = {(finding.split, finding.what) for finding in findings}
    splits = {
        split: tuple(sample for sample in samples if (split, sample[0]) not in copies)
        for split, samples in folder.splits.items()
    }
    bad = {finding.what for finding in findings if isinstance(finding.what, Path) and finding.split is None}
    return replace(folder, splits=splits).without(bad)


def find_empty(folder: ClassFolder) -> Iterator[Finding]:
    """Yield a finding for each class without a sample in a split."""
    for split, samples in folder.splits.items():
        present = {number for _, label in samples for number in (label if isinstance(label, Sequence) else (label,))}
        for number, name in enumerate(folder.classes):
            if number not in present:
                yield Finding("empty", name, f"the class has no sample in {split}")


def find_odd(measures: Mapping[Path, Mapping[str, float]], factor: float) -> Iterator[Finding]:
    """Yield a finding for each file one of whose measures is more than `factor` times the median, or less than a part.

    Args:
        measures: of every file, such as its `width`, the same for all files.
        factor: above 1.
    """
    names = dict.fromkeys(name for measured in measures.values() for name in measured)
    medians = {name: median(measured[name] for measured in measures.values()) for name in names}
    for path, measured in measures.items():
        far = [name for name in names if not medians[name] / factor <= measured[name] <= medians[name] * factor]
        if far:
            why = ", ".join(f"{name} {measured[name]:.4g}, where the median is {medians[name]:.4g}" for name in far)
            yield Finding("odd", path, why)


def summary(findings: Sequence[Finding], total: int) -> str:
    """Return a line with the number of files that are right, and of the findings of each kind."""
    faulty = len({finding.what for finding in findings if isinstance(finding.what, Path)})
    counts = Counter(finding.kind for finding in findings)
    return ", ".join([f"{total:,} files: {total - faulty:,} right", *(f"{n:,} {kind}" for kind, n in counts.items())])
