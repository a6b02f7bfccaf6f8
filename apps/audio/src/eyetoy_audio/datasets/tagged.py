"""Sounds with any number of labels: listed in tables, or AudioSet (Gemmeke et al., ICASSP 2017) in its own format."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from eyetoy_audio.io.files import EXTENSIONS
from eyetoy_audio.recipe import AudioData
from eyetoy_train import ClassFolder, Split
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.source import FolderSource, RefuseOrSkip
from eyetoy_train.data.splits import find_split_files
from eyetoy_train.data.tagged import Separator, Tables, TaggedRow, read_tables, tagged_folder
from eyetoy_train.utils.files import is_clutter
from eyetoy_train.utils.untrusted import read_table

AUDIOSET_CLASSES = "class_labels_indices.csv"
AUDIOSET_TABLES: dict[Split, tuple[str, ...]] = {
    "train": ("balanced_train_segments.csv", "unbalanced_train_segments.csv"),
    "test": ("eval_segments.csv",),
}

EXPECTED = """{root} has no table of clips for training. It should hold either
- train.csv, and perhaps val.csv and test.csv, or one table of any other name, with the columns file and labels
  (a.wav,dog;bark), and perhaps classes.txt; or
- AudioSet's class_labels_indices.csv, balanced_train_segments.csv or unbalanced_train_segments.csv or both, and
  eval_segments.csv, from https://research.google.com/audioset/download.html. That page has no sounds: cut them from
  YouTube's videos, and put them in any folder of {root} as YTID.wav, YYTID.wav, YTID_SECOND.wav or YTID_MILLISECOND.wav
"""

_Tables = tuple[dict[str, str], Tables]
"""Names of the classes by their keys in the tables, in order; and the tables."""


def read_tagged(
    root: Path,
    *,
    separator: Separator | None = None,
    missing: RefuseOrSkip = "refuse",
    seed: int = 0,
    grouping: Grouping | None = None,
    hold_out: bool = True,
) -> ClassFolder:
    """List clips with any number of labels each.

    Either by tables in any usual form, see `read_tables`. Names with commas, as in `Dog;Cattle, bovinae`, need another
    separator between them, such as the semicolon.

    Or by AudioSet's own tables, if `root/class_labels_indices.csv` exists; its evaluation set is for the test. Clips
    are found in all folders of `root` by the name of the video, `YTID.wav` or `YYTID.wav`, or with the second or
    millisecond of their start, `YTID_30.wav` or `YTID_30000.wav`. Any suffix of sound files will do.

    Without a table for validation, a tenth of the training clips is held out for it. With `hold_out=False`, for clips
    to be scored, none is, and no table for training need be there.

    Args:
        root: the folder of the tables, or a table.
        separator: between labels; found in the tables if not given.
        missing: whether to refuse the set if clips are missing, as many of AudioSet's are, or to leave them out and log
            their number.
        seed: decides which clips are held out.
        grouping: which clips are held out together; AudioSet's tables have no column for it.
        hold_out: whether to hold clips out where the tables have no split for them.

    Raises:
        FileNotFoundError: there are no such tables, or clips are missing.
        ValueError: a table can be understood in two ways or in none, names a clip twice or has an unknown label; an
            option is for other tables; or a split would be empty.
    """
    if not (root / AUDIOSET_CLASSES).is_file():
        if "train" not in find_split_files(root, ".csv") and any(map(Path.is_file, _audioset_tables(root))):
            raise FileNotFoundError(EXPECTED.format(root=root))
        return read_tables(
            root,
            EXTENSIONS,
            separator=separator,
            noun="clip",
            missing=missing,
            seed=seed,
            grouping=grouping,
            hold_out=hold_out,
            expected=EXPECTED,
        )
    column = grouping.column if grouping else None
    for option, value in {"group_column": column, "label_separator": separator}.items():
        if value is not None:
            raise ValueError(
                f"data.{option}={value} is for tables of your own, and {root} has AudioSet's; leave it out"
            )
    classes, tables = _read_audioset(root, needs_training=hold_out)
    return tagged_folder(
        classes,
        tables,
        root,
        noun="clip",
        missing=missing,
        held_out=("val",) if hold_out else (),
        seed=seed,
        grouping=grouping if hold_out else None,
    )


def _audioset_tables(root: Path) -> list[Path]:
    return [root / name for names in AUDIOSET_TABLES.values() for name in names]


def _read_audioset(root: Path, *, needs_training: bool) -> _Tables:
    paths = {split: [root / name for name in names] for split, names in AUDIOSET_TABLES.items()}
    found = {split: [path for path in named if path.is_file()] for split, named in paths.items()}
    if not found["train"] and (needs_training or not found["test"]):
        raise FileNotFoundError(EXPECTED.format(root=root))
    clips = _clips_by_stem(root)
    rows = read_table(root / AUDIOSET_CLASSES, ("index", "mid", "display_name"))
    about = sorted(rows, key=lambda row: int(row["index"]))
    tables = {split: [row for path in named for row in _segments(path, clips)] for split, named in found.items()}
    # Without eval_segments.csv there is no test split; an empty one would be an error.
    kept = {split: rows for split, rows in tables.items() if rows or (split == "train" and found["train"])}
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


def _segments(table: Path, clips: dict[str, Path]) -> Iterator[TaggedRow]:
    """Read lines such as `-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j"`."""
    with table.open(encoding="utf-8-sig", newline="") as file:  # -sig: editors may put a byte order mark before it
        # The header is a comment of three lines, which csv.DictReader would take for the columns.
        lines = (line for line in file if line.strip() and not line.startswith("#"))
        for values in _csv_rows(lines, table):
            video, start, _, labels = values
            seconds = float(start)
            # Downloaders often put a Y before the id, which may begin with a dash and be taken for an option.
            stems = (video, f"Y{video}", f"{video}_{seconds:g}", f"{video}_{seconds * 1000:.0f}")
            path = next((clips[stem] for stem in stems if stem in clips), None)
            yield TaggedRow(video, path, tuple(labels.split(",")))


def _csv_rows(lines: Iterator[str], table: Path) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, skipinitialspace=True)
    except csv.Error as error:
        raise ValueError(f"cannot read {table}: {error}") from error


def open_tagged(data: AudioData, seed: int) -> FolderSource:
    """Return the clips that the tables in `data.root` list."""
    read = partial(
        read_tagged,
        data.path,
        separator=data.label_separator,
        missing=data.missing,
        seed=seed,
        grouping=Grouping.of(data),
    )
    return FolderSource(read, multi_label=True, read_unsplit=partial(read, hold_out=False))
