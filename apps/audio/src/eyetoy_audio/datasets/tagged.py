"""Sounds with any number of labels: listed in tables, or AudioSet (Gemmeke et al., ICASSP 2017) in its own form."""

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
from eyetoy_train.data.splits import HELD_OUT, SPLIT_NAMES
from eyetoy_train.data.unreadable import refuse_or_skip
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
  eval_segments.csv, from https://research.google.com/audioset/download.html. That page has no sounds: they are cut from
  YouTube's videos, and lie in any folder of {root} as YTID.wav, YYTID.wav, YTID_SECOND.wav or YTID_MILLISECOND.wav"""

TaggedClip = tuple[Path, tuple[int, ...]]


@dataclass(frozen=True)
class _Row:
    """A clip in a table; the path is None if it is not there."""

    name: str
    path: Path | None
    labels: tuple[str, ...]


_Tables = tuple[dict[str, str], dict[Split, list[_Row]]]
"""The classes in order, their names by what stands for them in the tables; and the tables."""


def read_tagged(root: Path, *, missing: RefuseOrSkip = "refuse", seed: int = 0) -> ClassFolder:
    """List clips that have any number of labels.

    Either by `root/train.csv`, `val.csv` and perhaps `test.csv`, with the columns `file`, a path from `root`, and
    `labels`, with semicolons between them, because names may have commas: `Dog;Cattle, bovinae`. The classes are the
    lines of `classes.txt`, if it is there, or all that train.csv names, sorted.

    Or by AudioSet's own tables, if `root/class_labels_indices.csv` is there; its evaluation set is for the test. Clips
    are looked for in all folders of `root`, by their video, `YTID.wav` or `YYTID.wav`, or with the second or
    millisecond where they start, `YTID_30.wav` or `YTID_30000.wav`; other kinds of sound files will do.

    Where there is no table for validation, a tenth of the training clips is held out for it.

    Args:
        root: the folder of the tables.
        missing: what to do about clips that are not there, as many of AudioSet's are not: refuse the set, or leave
            them out and say so.
        seed: decides what is held out.

    Raises:
        FileNotFoundError: there are no such tables, or clips are missing.
        ValueError: a table has other columns or a label that is no class, or nothing is left of a split.
    """
    classes, tables = (_read_audioset if (root / AUDIOSET_CLASSES).is_file() else _read_tables)(root)
    numbers = {key: number for number, key in enumerate(classes)}
    splits: dict[Split, list[TaggedClip]] = {}
    for split, rows in tables.items():
        _check_labels(split, rows, numbers)
        lost = [row.name for row in rows if row.path is None]
        summary = f"{len(lost)} of {len(rows)} clips of the {split} split are not in {root}"
        refuse_or_skip(lost, summary, missing, "data.missing", error=FileNotFoundError)
        splits[split] = [(row.path, _numbered(row, numbers)) for row in rows if row.path is not None]
    if "val" not in splits:
        splits["train"], splits["val"] = _hold_out(splits["train"], seed)
    _check_filled(root, splits)
    return ClassFolder(tuple(classes.values()), {split: tuple(clips) for split, clips in splits.items()})


def _read_tables(root: Path) -> _Tables:
    paths = {split: _first_file(root, names) for split, names in SPLIT_NAMES.items()}
    if not paths["train"]:
        raise FileNotFoundError(EXPECTED.format(root=root))
    tables = {split: list(_table_rows(path)) for split, path in paths.items() if path}
    listed = root / "classes.txt"
    if listed.is_file():
        names = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    else:
        names = sorted({label for row in tables["train"] for label in row.labels})
    return {name: name for name in names}, tables


def _first_file(root: Path, names: Sequence[str]) -> Path | None:
    return next((path for name in names if (path := root / f"{name}.csv").is_file()), None)


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
    kept = {split: rows for split, rows in tables.items() if rows or split == "train"}
    return {row["mid"]: row["display_name"] for row in about}, kept


def _clips_by_stem(root: Path) -> dict[str, Path]:
    clips = {}
    for folder, folders, names in os.walk(root, followlinks=True):  # pathlib takes minutes for AudioSet's millions
        folders.sort()
        for name in sorted(names):
            stem, _, suffix = name.rpartition(".")
            if f".{suffix.lower()}" in EXTENSIONS:
                clips[stem] = Path(folder, name)
    return clips


def _segments(table: Path, clips: dict[str, Path]) -> Iterator[_Row]:
    """Read lines such as `-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j"`."""
    with table.open(encoding="utf-8", newline="") as file:
        lines = (line for line in file if line.strip() and not line.startswith("#"))
        for values in _csv_rows(lines, table):
            video, start, _, labels = values
            seconds = float(start)
            stems = (video, f"Y{video}", f"{video}_{seconds:g}", f"{video}_{seconds * 1000:.0f}")
            path = next((clips[stem] for stem in stems if stem in clips), None)
            yield _Row(video, path, tuple(labels.split(",")))


def _csv_rows(lines: Iterator[str], table: Path) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, skipinitialspace=True)
    except csv.Error as error:
        raise ValueError(f"cannot read {table}: {error}") from error


def _numbered(row: _Row, numbers: dict[str, int]) -> tuple[int, ...]:
    return tuple(sorted({numbers[label] for label in row.labels}))


def _check_labels(split: Split, rows: Sequence[_Row], numbers: dict[str, int]) -> None:
    for row in rows:
        unknown = [label for label in row.labels if label not in numbers]
        if unknown:
            known = f"the {len(numbers)} classes, such as {next(iter(numbers), None)!r}"
            raise ValueError(f"{row.name} of the {split} split has the label {unknown[0]!r}, which is none of {known}")


def _hold_out(clips: Sequence[TaggedClip], seed: int) -> tuple[list[TaggedClip], list[TaggedClip]]:
    """Return clips for training, and those for validation."""
    count = min(max(round(len(clips) * HELD_OUT["val"]), 1), len(clips))
    held_out = set(random.Random(derive_seed(seed, "split")).sample(range(len(clips)), count))
    training = [clip for index, clip in enumerate(clips) if index not in held_out]
    return training, [clips[index] for index in sorted(held_out)]


def _check_filled(root: Path, splits: dict[Split, list[TaggedClip]]) -> None:
    empty = [split for split, clips in splits.items() if not clips]
    if empty:
        raise ValueError(f"no clip is left for the {empty[0]} split of {root}; there should be at least one")


def open_tagged(data: AudioData, seed: int) -> FolderSource:
    """Return the clips that the tables in `data.root` list."""
    read = partial(read_tagged, data.path, missing=data.missing, seed=seed)
    return FolderSource(read, multi_label=True)
