"""Shared code of data sets that come with lists of clips: missing clips, and held-out ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from eyetoy_train import ClassFolder, Split
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.held_out import Groups, Sample, hold_out_by_class
from eyetoy_train.data.source import FolderSource
from eyetoy_train.data.splits import HELD_OUT
from eyetoy_train.data.unreadable import refuse_or_skip
from eyetoy_train.media.kinds import VIDEO_SUFFIXES
from eyetoy_train.utils.files import list_files
from eyetoy_train.utils.seeds import derive_seed
from eyetoy_video.recipe import VideoData

SHOWN = 5
"""Number of missing clips named in a message."""


def find_clips(folder: Path) -> dict[str, Path]:
    """Return the video files in a folder and below it, if it is there, by their names without suffix."""
    return {path.stem: path for path in list_files(folder, VIDEO_SUFFIXES)[0]} if folder.is_dir() else {}


def read_lines(table: Path) -> list[str]:
    """Return the lines of a list.

    Lists of Windows begin with a byte order mark. Names that are not UTF-8 are read as `os.listdir` gives them.
    """
    text = table.read_text(encoding="utf-8-sig", errors="surrogateescape")
    # Not `splitlines`, which also splits at characters that names may hold, such as the line separator of Unicode.
    return text.split("\n")  # `read_text` makes all ends of lines this one


def missing_files(files: Sequence[Path]) -> list[Path]:
    """Return the files that do not exist."""
    # Each folder is listed once: a call for each file takes minutes for Kinetics on a network file system.
    folders = {path.parent for path in files}
    present = {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    return [path for path in files if path not in present]


class ListedSource(FolderSource):
    """Clips of lists, some of which may be missing.

    Args:
        data: the recipe's part about the data; its `missing` is for missing clips.
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
            FileNotFoundError: clips are missing, and the recipe refuses that.
            ValueError: a split would be empty.
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
        return self.listed.without(lost, "missing clips") if lost else self.listed


def hold_out(
    samples: Sequence[Sample], seed: int, groups: Groups | None = None
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Hold out about a tenth of every class for validation; a class with a single clip stays in training.

    Args:
        samples: all samples.
        seed: decides which are held out.
        groups: the groups of the files, such as the clips of one recording, which stay together.

    Returns:
        the samples for training and for validation.

    Raises:
        ValueError: there are too few groups.
    """
    if groups:
        found = hold_out_by_class(samples, ("val",), seed, groups)
        return found["train"], found["val"]
    held_out: set[Path] = set()
    for label in sorted({label for _, label in samples}):
        paths = sorted({path for path, member in samples if member == label}, key=str)
        random.Random(derive_seed(seed, "split", label)).shuffle(paths)
        held_out.update(paths[1 : 1 + max(round(len(paths) * HELD_OUT["val"]), 1)])  # the first always is for training
    train = tuple(sample for sample in samples if sample[0] not in held_out)
    return train, tuple(sample for sample in samples if sample[0] in held_out)


def groups_by(
    grouping: Grouping | None,
    splits: Mapping[Split, Sequence[Sample]],
    root: Path,
    usual: Callable[[Path], str] | None = None,
) -> Groups:
    """Return the groups of clips: by the recipe's pattern, or for training the set's usual ones, if any.

    Args:
        grouping: the recipe's.
        splits: the clips.
        root: the folder of the data.
        usual: returns the group of a file.
    """
    if grouping is None:
        return {} if usual is None else {path: usual(path) for path, _ in splits["train"]}
    return grouping.by_file((path for samples in splits.values() for path, _ in samples), root)


def labelled(rows: Sequence[tuple[Path, str]], labels: dict[str, int], table: Path) -> tuple[Sample, ...]:
    """Return files with the numbers of their classes.

    Raises:
        ValueError: the training set does not have a class.
    """
    unknown = sorted({name for _, name in rows} - labels.keys())
    if unknown:
        raise ValueError(f"{table} has classes that the training set has not: {', '.join(unknown[:SHOWN])}")
    return tuple((path, labels[name]) for path, name in rows)
