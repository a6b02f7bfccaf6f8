"""UCF-101 (Soomro, Zamir and Shah, arXiv:1212.0402): 13,320 clips of 101 actions, in three divisions."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from eyetoy_train import ClassFolder, Split
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.held_out import Sample
from eyetoy_video.datasets.source import ListedSource, groups_by, hold_out, labelled, read_lines
from eyetoy_video.recipe import VideoData

FOLDER, LISTS = "UCF-101", "ucfTrainTestlist"

FETCH = """UCF-101 is not in {root}: there is no {missing}. This fetches it (6.9 GB):
    mkdir -p {root} && cd {root} && wget https://www.crcv.ucf.edu/data/UCF101/UCF101.rar \
https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip && unrar x UCF101.rar && \
unzip UCF101TrainTestSplits-RecognitionTask.zip"""


def read_ucf101(root: Path, fold: int = 1, seed: int = 0, grouping: Grouping | None = None) -> ClassFolder:
    """List `root/UCF-101/CLASS/v_*.avi` by `root/ucfTrainTestlist/trainlist01.txt` and `testlist01.txt`, or 02 or 03.

    The usual score is the mean over the three divisions. About a tenth of every class's training clips is held out for
    validation, by groups: the clips of one group (`g08` in `v_Archery_g08_c01.avi`) are cuts of one recording, and are
    in one split.

    Args:
        root: the folder of the set.
        fold: the division: 1, 2 or 3.
        seed: decides which groups are held out.
        grouping: other groups for validation.

    Raises:
        FileNotFoundError: the set is missing. The message has the command that fetches it.
        ValueError: the test has a class that training has not.
    """
    train, test = (root / LISTS / f"{name}list{fold:02d}.txt" for name in ("train", "test"))
    for needed in (root / FOLDER, train, test):
        if not needed.exists():
            raise FileNotFoundError(FETCH.format(root=root, missing=needed))
    rows = _rows(root, train)
    classes = tuple(sorted({name for _, name in rows}))
    labels = {name: number for number, name in enumerate(classes)}
    splits: dict[Split, tuple[Sample, ...]] = {
        "train": labelled(rows, labels, train),
        "test": labelled(_rows(root, test), labels, test),
    }
    groups = groups_by(grouping, splits, root, _group)
    splits["train"], splits["val"] = hold_out(splits["train"], seed, groups)
    return ClassFolder(classes, splits, groups=groups)


def _rows(root: Path, table: Path) -> list[tuple[Path, str]]:
    """Read lines such as `Archery/v_Archery_g08_c01.avi 3`, or without the number."""
    # Only the lists for training have numbers; the class is the folder in both. Names may have spaces.
    paths = [Path(re.sub(r"\s+\d+$", "", line.strip())) for line in read_lines(table) if line.strip()]
    return [(root / FOLDER / path, path.parent.name) for path in paths]


def _group(path: Path) -> str:
    return path.stem.rpartition("_")[0]  # v_Archery_g08 of v_Archery_g08_c01


def open_ucf101(data: VideoData, seed: int) -> ListedSource:
    """Return the clips in `data.root` by the official division `data.fold`."""
    return ListedSource(data, partial(read_ucf101, data.path, data.fold, seed, Grouping.of(data)))
