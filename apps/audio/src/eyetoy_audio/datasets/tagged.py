"""Sounds with any number of labels: listed in tables, or AudioSet (Gemmeke et al., ICASSP 2017) in its own format."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eyetoy_audio.io.files import EXTENSIONS
from eyetoy_audio.recipe import AudioData
from eyetoy_train import ClassFolder, Split
from eyetoy_train.data.source import FolderSource, RefuseOrSkip
from eyetoy_train.data.splits import HELD_OUT, find_split_files
from eyetoy_train.data.unreadable import refuse_or_skip
from eyetoy_train.utils.files import is_clutter
from eyetoy_train.utils.seeds import derive_seed
from eyetoy_train.utils.untrusted import read_table

AUDIOSET_CLASSES = "class_labels_indices.csv"
AUDIOSET_TABLES: dict[Split, tuple[str, ...]] = {
    "train": ("balanced_train_segments.csv", "unbalanced_train_segments.csv"),
    "test": ("eval_segments.csv",),
}

EXPECTED = """{root} has no table of clips for training. It should hold either
- train.csv, val.csv and perhaps test.csv with the columns file and labels (a.wav,dog;bark), and perhaps classes.txt; or
- AudioSet's class_labels_indices.csv, balanced_train_segments.csv or unbalanced_train_segments.csv or both, and
  eval_segments.csv, from https://research.google.com/audioset/download.html. That page has no sounds: cut them from
  YouTube's videos, and put them in any folder of {root} as YTID.wav, YYTID.wav, YTID_SECOND.wav or YTID_MILLISECOND.wav
"""

TaggedClip = tuple[Path, tuple[int, ...]]


@dataclass(frozen=True)
class _Row:
    """A clip in a table; the path is None if the file is missing."""

    name: str
    path: Path | None
    labels: tuple[str, ...]


_Tables = tuple[dict[str, str], dict[Split, list[_Row]]]
"""Names of the classes by their keys in the tables, in order; and the tables."""


def read_tagged(root: Path, *, missing: RefuseOrSkip = "refuse", seed: int = 0) -> ClassFolder:
    """List clips with any number of labels each.

    Either by `root/train.csv`, `val.csv` and optionally `test.csv`, with the columns `file`, a path from `root`, and
    `labels`, separated by semicolons, because names may have commas: `Dog;Cattle, bovinae`. The classes are the lines
    of `classes.txt`, if it exists, or all labels of train.csv, sorted.

    Or by AudioSet's own tables, if `root/class_labels_indices.csv` exists; its evaluation set is for the test. Clips
    are found in all folders of `root` by the name of the video, `YTID.wav` or `YYTID.wav`, or with the second or
    millisecond of their start, `YTID_30.wav` or `YTID_30000.wav`. Any suffix of sound files will do.

    Without a table for validation, a tenth of the training clips is held out for it.

    Args:
        root: the folder of the tables.
        missing: whether to refuse the set if clips are missing, as many of AudioSet's are, or to leave them out and log
            their number.
        seed: decides which clips are held out.

    Raises:
        FileNotFoundError: there are no such tables, or clips are missing.
        ValueError: a table has other columns or an unknown label, or a split would be empty.
    """
    classes, tables = (_read_audioset if (root / AUDIOSET_CLASSES).is_file() else _read_tables)(root)
    numbers = {key: number for number, key in enumerate(classes)}
    splits: dict[Split, list[TaggedClip]] = {}
    num_lost = 0
    for split, rows in tables.items():
        _check_labels(split, rows, numbers)
        lost = [row.name for row in rows if row.path is None]
        summary = f"{len(lost)} of {len(rows)} clips of the {split} split are not in {root}"
        refuse_or_skip(lost, summary, missing, "data.missing", error=FileNotFoundError)
        num_lost += len(lost)
        splits[split] = [
            # A set: a row may name a label twice, which would count it twice in the target.
            (row.path, tuple(sorted({numbers[label] for label in row.labels})))
            for row in rows
            if row.path is not None
        ]
    if "val" not in splits:
        splits["train"], splits["val"] = _hold_out(splits["train"], seed)
    empty = [split for split, clips in splits.items() if not clips]
    if empty:
        raise ValueError(f"no clip is left for the {empty[0]} split of {root}; there should be at least one")
    kept: dict[Split, tuple[TaggedClip, ...]] = {split: tuple(clips) for split, clips in splits.items()}
    return ClassFolder(tuple(classes.values()), kept, left_out={"missing clips": num_lost})


def _read_tables(root: Path) -> _Tables:
    paths = find_split_files(root, ".csv")
    if "train" not in paths:
        raise FileNotFoundError(EXPECTED.format(root=root))
    tables = {split: list(_table_rows(path)) for split, path in paths.items()}
    listed = root / "classes.txt"
    if listed.is_file():
        names = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    else:
        names = sorted({label for row in tables["train"] for label in row.labels})
    return {name: name for name in names}, tables


def _table_rows(table: Path) -> Iterator[_Row]:
    for row in read_table(table, ("file", "labels")):
        path = table.parent / row["file"]
        labels = (label.strip() for label in row["labels"].split(";"))
        yield _Row(row["file"], path if path.is_file() else None, tuple(label for label in labels if label))


def _read_audioset(root: Path) -> _Tables:
    paths = {split: [root / name for name in names] for split, names in AUDIOSET_TABLES.items()}
    found = {split: [path for path in named if path.is_file()] for split, named in paths.items()}
    if not found["train"]:
        raise FileNotFoundError(EXPECTED.format(root=root))
    clips = _clips_by_stem(root)
    rows = read_table(root / AUDIOSET_CLASSES, ("index", "mid", "display_name"))
    about = sorted(rows, key=lambda row: int(row["index"]))
    tables = {split: [row for path in named for row in _segments(path, clips)] for split, named in found.items()}
    # Without eval_segments.csv there is no test split; an empty one would be an error.
    kept = {split: rows for split, rows in tables.items() if rows or split == "train"}
    return {row["mid"]: row["display_name"] for row in about}, kept


def _clips_by_stem(root: Path) -> dict[str, Path]:
    clips = {}
    for folder, folders, names in os.walk(root, followlinks=True):  # pathlib takes minutes for AudioSet's millions
        # In place, which os.walk follows. Sorted: of two files with one stem the same one is always used.
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        for name in sorted(name for name in names if not is_clutter(name)):
            stem, _, suffix = name.rpartition(".")
            if f".{suffix.lower()}" in EXTENSIONS:
                clips[stem] = Path(folder, name)
    return clips


def _segments(table: Path, clips: dict[str, Path]) -> Iterator[_Row]:
    """Read lines such as `-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j"`."""
    with table.open(encoding="utf-8", newline="") as file:
        # The header is a comment of three lines, which csv.DictReader would take for the columns.
        lines = (line for line in file if line.strip() and not line.startswith("#"))
        for values in _csv_rows(lines, table):
            video, start, _, labels = values
            seconds = float(start)
            # Downloaders often put a Y before the id, which may begin with a dash and be taken for an option.
            stems = (video, f"Y{video}", f"{video}_{seconds:g}", f"{video}_{seconds * 1000:.0f}")
            path = next((clips[stem] for stem in stems if stem in clips), None)
            yield _Row(video, path, tuple(labels.split(",")))


def _csv_rows(lines: Iterator[str], table: Path) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, skipinitialspace=True)
    except csv.Error as error:
        raise ValueError(f"cannot read {table}: {error}") from error


def _check_labels(split: Split, rows: Sequence[_Row], numbers: dict[str, int]) -> None:
    for row in rows:
        unknown = [label for label in row.labels if label not in numbers]
        if unknown:
            known = f"the {len(numbers)} classes, such as {next(iter(numbers), None)!r}"
            raise ValueError(
                f"{row.name} of the {split} split has the label {unknown[0]!r}, which is not one of {known}"
            )


def _hold_out(clips: Sequence[TaggedClip], seed: int) -> tuple[list[TaggedClip], list[TaggedClip]]:
    """Return clips for training and for validation.

    Drawn from all clips together, not class by class as in `read_class_folder`: a clip has several classes.
    """
    count = min(max(round(len(clips) * HELD_OUT["val"]), 1), len(clips))
    held_out = set(random.Random(derive_seed(seed, "split")).sample(range(len(clips)), count))
    training = [clip for index, clip in enumerate(clips) if index not in held_out]
    return training, [clips[index] for index in sorted(held_out)]


def open_tagged(data: AudioData, seed: int) -> FolderSource:
    """Return the clips that the tables in `data.root` list."""
    read = partial(read_tagged, data.path, missing=data.missing, seed=seed)
    return FolderSource(read, multi_label=True)
