"""ADE20K's scene parsing benchmark (Zhou et al., 2017) in the layout of its archive."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from eyetoy_image.segmentation.datasets.label_set import (
    SegmentationSet,
    SegmentationSource,
    label_table,
    pair_pictures,
    without_empty,
)
from eyetoy_image.segmentation.recipe import SegmentationData
from eyetoy_train import Split

FOLDER = "ADEChallengeData2016"
FOLDERS: Mapping[Split, str] = {"train": "training", "val": "validation"}
NUM_CLASSES = 150
FETCH = """ADE20K's scene parsing benchmark is not in {root}, which should hold ADEChallengeData2016.
This fetches it (0.9 GB):
    wget -P {root} http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip
    unzip -d {root} {root}/ADEChallengeData2016.zip"""


def read_ade20k(data: SegmentationData) -> SegmentationSet:
    """List the images.

    Raises:
        FileNotFoundError: the set is missing. The message has the command that fetches it.
    """
    root = Path(data.root) / FOLDER
    if not (root / "images" / "training").is_dir():
        raise FileNotFoundError(FETCH.format(root=data.root))
    left_out: Counter[str] = Counter()
    splits = {
        split: pair_pictures(root / "images" / name, root / "annotations" / name, left_out)
        for split, name in FOLDERS.items()
    }
    names = _read_names(root / "objectInfo150.txt") or tuple(map(str, range(1, NUM_CLASSES + 1)))
    # The maps' 0 is "other", which the benchmark does not score; classes are from 1 on.
    return SegmentationSet(names, label_table(range(1, NUM_CLASSES + 1), [0]), without_empty(splits), left_out)


def _read_names(path: Path) -> tuple[str, ...]:
    """Return the first name of each class from the benchmark's list, whose last column has several synonyms."""
    if not path.is_file():
        return ()
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()][1:]
    names = tuple(re.split("[,;]", row[-1])[0].strip() for row in rows)
    if len(names) != NUM_CLASSES:
        raise ValueError(f"{path} must list {NUM_CLASSES} classes below its header; got {len(names)}")
    return names


def open_ade20k(data: SegmentationData, seed: int) -> SegmentationSource:
    """Return the images in `data.root`."""
    return SegmentationSource(data.root, partial(read_ade20k, data))
