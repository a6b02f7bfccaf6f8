"""Kinetics-400, -600 and -700 (Kay et al., arXiv:1705.06950): clips of ten seconds, of 400, 600 or 700 actions."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from eyetoy_train import ClassFolder, Split, read_class_folder
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.splits import find_only_split
from eyetoy_train.media.kinds import VIDEO_SUFFIXES
from eyetoy_train.utils.untrusted import read_table
from eyetoy_video.datasets.lists import find_tables, read_lists
from eyetoy_video.datasets.source import ListedSource, find_clips, groups_by, hold_out, labelled
from eyetoy_video.recipe import VideoData

REPLACEMENT = "replacement"
COLUMNS = ("label", "youtube_id", "time_start", "time_end")

FETCH = """Kinetics is not in {root}. It should hold one of
- train, val and optionally test with a folder for every class, as in torchvision;
- the official train.csv, val.csv and optionally test.csv, or annotations with these, and the clips in any folders, as
  YTID_000010_000020.mp4;
- train.csv, val.csv and optionally test.csv with a path and a label in each line, as in SlowFast and pytorchvideo.
This fetches Kinetics-400 with its lists to kinetics-dataset/k400 (456 GB; k600 has 779 GB, k700_2020 710 GB):
    git clone https://github.com/cvdfoundation/kinetics-dataset
    cd kinetics-dataset && bash k400_downloader.sh && bash k400_extractor.sh"""


def read_kinetics(root: Path, prefix: str = "", seed: int = 0, grouping: Grouping | None = None) -> ClassFolder:
    """List Kinetics, of any size and in one of three layouts.

    With the official lists in `root` or `root/annotations`, which have the columns label, youtube_id, time_start and
    time_end, clips are `root/SPLIT/**/YTID_000010_000020.mp4`, or of another suffix; some may be missing. Clips in
    `root/replacement`, CVDF's replacements of broken ones, come first, and clips elsewhere in `root` last. A list
    without labels, as in some editions for the test, is ignored. For lists of paths and labels, see `read_lists`.
    Without lists, clips are `root/SPLIT/CLASS/**/*.mp4`, see `read_class_folder`.

    Args:
        root: the folder of the set.
        prefix: folder of the paths in lists of paths and labels.
        seed: decides which clips are held out, if there is no validation split.
        grouping: which clips are held out together.

    Raises:
        FileNotFoundError: the set is missing. The message has the command that fetches it.
        ValueError: a list has a class that the training set has not.
    """
    tables = find_tables(root)
    if "train" in tables:
        official = "youtube_id" in _header(tables["train"])
        if official:
            return _by_official_lists(root, tables, seed, grouping)
        return read_lists(root, prefix, seed, grouping)
    if not (root / "train").is_dir():
        raise FileNotFoundError(FETCH.format(root=root))
    return read_class_folder(root, VIDEO_SUFFIXES, seed=seed, grouping=grouping)


def _header(table: Path) -> Sequence[str]:
    with table.open(encoding="utf-8-sig", newline="") as file:  # some editions begin with a byte order mark
        try:
            return next(csv.reader(file, skipinitialspace=True), [])
        except csv.Error as error:
            raise ValueError(f"cannot read {table}: {error}") from error


def _by_official_lists(root: Path, tables: dict[Split, Path], seed: int, grouping: Grouping | None) -> ClassFolder:
    tables = {split: table for split, table in tables.items() if split == "train" or "label" in _header(table)}
    clips = find_clips(root)
    rows = {split: _rows(root, clips, split, table) for split, table in tables.items()}
    classes = tuple(sorted({label for _, label in rows["train"]}))
    labels = {name: number for number, name in enumerate(classes)}
    splits = {split: labelled(found, labels, tables[split]) for split, found in rows.items()}
    groups = groups_by(grouping, splits, root)
    if "val" not in splits:  # without groups, since every clip is from another video
        splits["train"], splits["val"] = hold_out(splits["train"], seed, groups)
    return ClassFolder(classes, splits, groups=groups)


def _rows(root: Path, anywhere: dict[str, Path], split: Split, table: Path) -> list[tuple[Path, str]]:
    """Return the clips of a list, with their labels: replacements first, then those of the split's folder, then others.

    Args:
        root: the folder of the set.
        anywhere: all clips in it, by their names; some tools put those of all splits into one folder.
        split: the split of the list.
        table: the list.
    """
    folder = root / (find_only_split(split, [path.name for path in root.iterdir() if path.is_dir()], root) or split)
    present = anywhere | find_clips(folder) | find_clips(root / REPLACEMENT)  # the right side wins: replacements
    clips = []
    for row in read_table(table, COLUMNS):
        try:  # pandas writes whole seconds as 10.0 where a column has a gap
            start, end = (int(float(row[column])) for column in ("time_start", "time_end"))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{table} has a clip whose times are not seconds: {', '.join(row.values())}") from error
        name = f"{row['youtube_id']}_{start:06d}_{end:06d}"
        unpadded = f"{row['youtube_id']}_{start}_{end}"
        # A missing clip is listed as well: `ListedSource` refuses or skips it.
        clips.append((present.get(name) or present.get(unpadded) or folder / f"{name}.mp4", row["label"]))
    return clips


def open_kinetics(data: VideoData, seed: int) -> ListedSource:
    """Return the clips in `data.root` by Kinetics' tables."""
    return ListedSource(data, partial(read_kinetics, data.path, data.path_prefix, seed, Grouping.of(data)))
