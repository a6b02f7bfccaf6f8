"""Kinetics-400, -600 and -700 (Kay et al., arXiv:1705.06950): clips of ten seconds, of 400, 600 or 700 actions."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from eyetoy_train import ClassFolder, Split, read_class_folder
from eyetoy_train.data.splits import SPLIT_NAMES
from eyetoy_train.media.kinds import VIDEO_SUFFIXES
from eyetoy_train.utils.untrusted import read_table
from eyetoy_video.datasets.listing import ListedSource, find_clips, hold_out, labelled
from eyetoy_video.datasets.lists import find_tables, read_lists
from eyetoy_video.recipe import VideoData

REPLACEMENT = "replacement"
COLUMNS = ("label", "youtube_id", "time_start", "time_end")

FETCH = """Kinetics is not in {root}. It should hold one of
- train, val and perhaps test with a folder for every class, as torchvision arranges it;
- the official train.csv, val.csv and perhaps test.csv, or annotations with these, and train, val and test with the
  clips in any folders, as YTID_000010_000020.mp4;
- train.csv, val.csv and perhaps test.csv with a path and a label in each line, as SlowFast and pytorchvideo read it.
This fetches Kinetics-400 with its lists to kinetics-dataset/k400 (456 GB; k600 has 779 GB, k700_2020 710 GB):
    git clone https://github.com/cvdfoundation/kinetics-dataset
    cd kinetics-dataset && bash k400_downloader.sh && bash k400_extractor.sh"""


def read_kinetics(root: Path, prefix: str = "", seed: int = 0) -> ClassFolder:
    """List Kinetics, of any of its sizes and in any of three layouts.

    By the official lists in `root` or `root/annotations`, with the columns label, youtube_id, time_start and time_end,
    clips are `root/SPLIT/**/YTID_000010_000020.mp4`, or of another kind; they may not be there. What CVDF found broken
    and replaced, in `root/replacement`, comes first. A list without labels, as some editions have for the test, is left
    out. By lists of paths and labels, see `read_lists`. Without lists, clips
    are `root/SPLIT/CLASS/**/*.mp4`, see `read_class_folder`.

    Args:
        root: the folder of the set.
        prefix: what stands before the paths in lists of paths and labels.
        seed: decides what is held out, where there is nothing for validation.

    Raises:
        FileNotFoundError: it is not there. The message says how to fetch it.
        ValueError: a list has a class that the training set has not.
    """
    tables = find_tables(root)
    if "train" in tables:
        official = "youtube_id" in _header(tables["train"])
        return _by_official_lists(root, tables, seed) if official else read_lists(root, prefix, seed)
    if not (root / "train").is_dir():
        raise FileNotFoundError(FETCH.format(root=root))
    return read_class_folder(root, VIDEO_SUFFIXES, seed=seed)


def _header(table: Path) -> Sequence[str]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        try:
            return next(csv.reader(file), [])
        except csv.Error as error:
            raise ValueError(f"cannot read {table}: {error}") from error


def _by_official_lists(root: Path, tables: dict[Split, Path], seed: int) -> ClassFolder:
    tables = {split: table for split, table in tables.items() if split == "train" or "label" in _header(table)}
    rows = {split: _rows(root, split, table) for split, table in tables.items()}
    classes = tuple(sorted({label for _, label in rows["train"]}))
    labels = {name: number for number, name in enumerate(classes)}
    splits = {split: labelled(found, labels, tables[split]) for split, found in rows.items()}
    if "val" not in splits:
        splits["train"], splits["val"] = hold_out(splits["train"], str, seed)
    return ClassFolder(classes, splits)


def _rows(root: Path, split: Split, table: Path) -> list[tuple[Path, str]]:
    folder = next((root / name for name in SPLIT_NAMES[split] if (root / name).is_dir()), root / split)
    there = find_clips(folder) | find_clips(root / REPLACEMENT)
    names = [(_name(row), row["label"]) for row in read_table(table, COLUMNS)]
    return [(there.get(name, folder / f"{name}.mp4"), label) for name, label in names]


def _name(row: dict[str, str]) -> str:
    return f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"


def open_kinetics(data: VideoData, seed: int) -> ListedSource:
    """Return the clips in `data.root` by Kinetics' tables."""
    return ListedSource(data, partial(read_kinetics, data.path, data.path_prefix, seed))
