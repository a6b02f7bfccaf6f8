"""Lists of clips in the format of SlowFast, pytorchvideo and MMAction2: a path and a label in each line."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from eyetoy_train import ClassFolder, Split
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.splits import find_split_files
from eyetoy_train.media.kinds import VIDEO_SUFFIXES
from eyetoy_train.utils.text import shown
from eyetoy_video.datasets.source import ListedSource, groups_by, hold_out, labelled, read_lines
from eyetoy_video.recipe import VideoData

CLASSES = "classes.txt"
MOST_CLASSES = 1_000_000  # a number in a list is data; a typo must not allocate gigabytes of names

EXPECTED = """{root} has no list of clips for training. It should hold train.csv, val.csv (a tenth of train if missing)
and optionally test.csv, or be such a file itself, with a path and a label in each line, separated by a space or comma:
    train/abseiling/a.mp4 0
{classes} in the same folder may name the classes, one in each line."""

HEADER = (("path", "file", "filename", "video", "video_path", "clip"), ("label", "class", "class_name", "target"))
"""Words of a first line that names the columns, in lower case."""

QUOTED = re.compile(r'^"|[,\s]"[^"]*"$')
NAMED = re.compile(rf"(.*(?:{'|'.join(map(re.escape, sorted(VIDEO_SUFFIXES)))}))\s*,\s*([^,]*[^,\s])", re.IGNORECASE)

Row = tuple[Path, str]


def find_tables(folder: Path) -> dict[Split, Path]:
    """Return the lists of a folder, or of its folder `annotations`."""
    # The folder itself comes last, so that its lists win.
    return find_split_files(folder / "annotations", ".csv") | find_split_files(folder, ".csv")


def read_lists(root: Path, prefix: str = "", seed: int = 0, grouping: Grouping | None = None) -> ClassFolder:
    """List the clips of `root/train.csv`, `val.csv` and `test.csv`, or of a single such file.

    A line is a path and a label, separated by a space or a comma, each perhaps in quotes. A first line such as
    `path,label` is left out. After a comma, a label may have several words. Labels are numbers of classes from 0 on,
    whose names are the lines of `classes.txt`, if it exists; or they are the names. Without a list for validation, a
    tenth of the training clips is held out for it.

    Args:
        root: the folder of the lists, or the list of the training clips.
        prefix: folder of the paths; that of the lists by default.
        seed: decides which clips are held out.
        grouping: which clips are held out together.

    Raises:
        FileNotFoundError: there is no list for training.
        ValueError: a line is not a path and a label, a label is unknown, the names of numbered classes have an empty
            line, a clip has no group, or there are too few groups.
    """
    tables: dict[Split, Path] = {"train": root} if root.is_file() else find_tables(root)
    if "train" not in tables:
        raise FileNotFoundError(EXPECTED.format(root=root, classes=CLASSES))
    folder = tables["train"].parent
    rows = {split: _read(table, Path(prefix) if prefix else folder) for split, table in tables.items()}
    classes, labels = _classes(folder / CLASSES, [label for _, label in rows["train"]])
    splits = {split: labelled(found, labels, tables[split]) for split, found in rows.items()}
    groups = groups_by(grouping, splits, folder)
    if "val" not in splits:
        splits["train"], splits["val"] = hold_out(splits["train"], seed, groups)
    return ClassFolder(classes, splits, groups=groups)


def write_lists(output: Path, clips: ClassFolder, root: Path) -> None:
    """Write lists for `read_lists`, with absolute paths: a folder of lists, or a single one if its name ends in .csv.

    Args:
        output: the folder or file.
        clips: what is listed.
        root: the folder, or the list, that the clips were read from.

    Raises:
        ValueError: `output` is a single list, and there are several splits; or a name has a line break; or a file of
            `root` would be overwritten.
    """
    one = output.suffix == ".csv"
    if one and len(clips.splits) > 1:
        raise ValueError(
            f"{output} is one list, and there are {', '.join(clips.splits)}; name a folder, or choose one of these"
        )
    folder = output.parent if one else output
    folder.mkdir(parents=True, exist_ok=True)
    lines = {folder / CLASSES: list(clips.classes)}
    for split, samples in clips.splits.items():
        table = output if one else folder / f"{split}.csv"
        lines[table] = [f"{path.absolute()} {label}" for path, label in samples]
    for table in lines:
        if table.exists() and table.parent.samefile(root.parent if root.is_file() else root):
            raise ValueError(f"--output would overwrite {table}; give another folder")
    for broken in (line for table in lines.values() for line in table if "\n" in line or "\r" in line):
        raise ValueError(f"{shown(broken)} has a line break, which a list cannot hold; rename it")
    for table, written in lines.items():
        text = "".join(f"{line}\n" for line in written)
        table.write_text(text, encoding="utf-8", errors="surrogateescape")  # as `read_lines` reads it


def _read(table: Path, folder: Path) -> list[Row]:
    lines = enumerate(read_lines(table), 1)
    rows = [_row(line, f"{table}, line {number}") for number, line in lines if line.strip()]
    if rows and rows[0][0].lower() in HEADER[0] and rows[0][1].lower() in HEADER[1]:
        del rows[0]
    return [(folder / path, label) for path, label in rows]


def _row(line: str, place: str) -> tuple[str, str]:
    """Return the path and the label of a line."""
    line = line.strip()
    if QUOTED.search(line):
        # As spreadsheets and csv.writer write them, with a comma or a space between.
        for delimiter in ", ":
            values = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
            if len(values) == 2 and all(values):
                return values[0], values[1]
    # After a comma, the label may have several words: `a.mp4,riding a bike`. Otherwise it is the last word, because a
    # path may have spaces and commas.
    found = NAMED.fullmatch(line) or re.fullmatch(r"(.*[^,\s])[,\s]+([^,\s]+)", line)
    if not found:
        raise ValueError(f"{place} should be a path and a label separated by a space or a comma; it is {line!r}")
    return found[1], found[2]


def _classes(names: Path, labels: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the names of the classes, and the number of each label in the lists."""
    # All or none: with one name among numbers, the numbers are names, too.
    are_numbers = all(label.isdecimal() for label in labels)
    if names.is_file():
        lines = read_lines(names)
        classes = tuple(line for line in lines if line.strip())
        if are_numbers and classes != tuple(lines[: len(classes)]):  # it would shift the names of the classes below it
            raise ValueError(
                f"{names} should name the classes, one in each line from class 0 on; it has an empty line before its "
                "last name"
            )
    elif are_numbers:
        last = max(map(int, labels), default=-1)
        if last >= MOST_CLASSES:
            raise ValueError(f"{names.parent} has a list with the class {last}; there can be {MOST_CLASSES:,} at most")
        classes = tuple(str(number) for number in range(last + 1))
    else:
        classes = tuple(sorted(set(labels)))
    keys = map(str, range(len(classes))) if are_numbers else classes
    return classes, {key: number for number, key in enumerate(keys)}


def open_lists(data: VideoData, seed: int) -> ListedSource:
    """Return the clips that the lists in `data.root` name."""
    return ListedSource(data, partial(read_lists, data.path, data.path_prefix, seed, Grouping.of(data)))
