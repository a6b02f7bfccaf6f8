"""What sets of clips that come with lists have in common: clips that are not there, and what is held out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from eyetoy_train import ClassFolder
from eyetoy_train.data.folder import Sample
from eyetoy_train.data.source import FolderSource
from eyetoy_train.data.splits import HELD_OUT
from eyetoy_train.data.unreadable import refuse_or_skip
from eyetoy_train.media.kinds import VIDEO_SUFFIXES
from eyetoy_train.utils.seeds import derive_seed
from eyetoy_video.recipe import VideoData

SHOWN = 5
"""How many missing clips are named."""


def find_clips(folder: Path) -> dict[str, Path]:
    """Return the video files in a folder and all below it by their names without suffix."""
    return {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in VIDEO_SUFFIXES}


def missing_files(files: Sequence[Path]) -> list[Path]:
    """Return those that are not there. Looks into each folder once, which is faster than asking file by file."""
    folders = {path.parent for path in files}
    there = {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    return [path for path in files if path not in there]


class ListedSource(FolderSource):
    """Clips of lists, which may name files that are missing.

    Args:
        data: the recipe's part about the data; `missing` says what to do about these.
        read: lists the clips.
    """

    def __init__(self, data: VideoData, read: Callable[[], ClassFolder]) -> None:
        super().__init__(read)
        self.root = data.root
        self.missing = data.missing

    @cached_property
    def folder(self) -> ClassFolder:
        """The clips that are present.

        Raises:
            FileNotFoundError: some are missing, and the recipe says to refuse that.
            ValueError: nothing is left of a split.
        """
        lost, lines = set(), []
        for split, samples in self.listed.splits.items():
            paths = missing_files([path for path, _ in samples])
            lost.update(paths)
            more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
            if paths:
                lines.append(f"{len(paths)} of {len(samples)} in {split}: {', '.join(map(str, paths[:SHOWN]))}{more}")
        summary = f"clips that the lists of {self.root} name are missing"
        refuse_or_skip(lines, summary, self.missing, "data.missing", error=FileNotFoundError)
        return self.listed.without(lost) if lost else self.listed


def hold_out(
    samples: Sequence[Sample], group: Callable[[Path], str], seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Hold out about a tenth of every class for validation, by whole groups, such as the clips of one recording.

    A class of a single group stays in training.

    Args:
        samples: all of them.
        group: which group of its class a file belongs to.
        seed: decides which groups.

    Returns:
        those for training, and those for validation.
    """
    held: set[Path] = set()
    for label in sorted({label for _, label in samples}):
        held |= _draw([path for path, member in samples if member == label], group, derive_seed(seed, "split", label))
    train = tuple(sample for sample in samples if sample[0] not in held)
    return train, tuple(sample for sample in samples if sample[0] in held)


def _draw(paths: Sequence[Path], group: Callable[[Path], str], seed: int) -> set[Path]:
    """Take groups of a class until they hold its share, and never all."""
    groups = sorted({group(path) for path in paths})
    random.Random(seed).shuffle(groups)
    drawn: set[Path] = set()
    for name in groups[1:]:
        if len(drawn) >= round(len(paths) * HELD_OUT["val"]) and drawn:
            break
        drawn |= {path for path in paths if group(path) == name}
    return drawn


def labelled(rows: Sequence[tuple[Path, str]], labels: dict[str, int], table: Path) -> tuple[Sample, ...]:
    """Return files with the numbers of their classes.

    Raises:
        ValueError: a class is none of those of the training set.
    """
    unknown = sorted({name for _, name in rows} - labels.keys())
    if unknown:
        raise ValueError(f"{table} has classes that the training set has not: {', '.join(unknown[:SHOWN])}")
    return tuple((path, labels[name]) for path, name in rows)
