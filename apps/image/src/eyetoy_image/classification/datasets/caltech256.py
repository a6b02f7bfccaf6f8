"""Caltech-256 (Griffin, Holub and Perona, 2007) in torchvision's layout."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

from eyetoy_image.classification.recipe import ImageData
from eyetoy_train import ClassFolder, Split
from eyetoy_train.data.source import FolderSource
from eyetoy_train.utils.files import is_clutter, list_folders

FOLDER = Path("caltech256", "256_ObjectCategories")
CLUTTER = "257.clutter"
TRAIN, VAL = 60, 10
"""Images of each class for training and for validation; the others are for the test."""

FETCH = """Caltech-256 is not in {root}. This fetches it (1.2 GB):
    python -c "from torchvision.datasets import Caltech256; Caltech256('{root}', download=True)\""""


def read_caltech256(root: Path) -> ClassFolder:
    """List Caltech-256 without its class of clutter.

    Of every class, the 60 images with the smallest SHA-256 sums of their names (`001.ak47/001_0001.jpg`) are for
    training, the authors' largest number; the next 10 are for validation, and all others for the test.

    Raises:
        FileNotFoundError: the set is missing. The message has the command that fetches it.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        raise FileNotFoundError(FETCH.format(root=root))
    names = [path.name for path in list_folders(folder) if path.name != CLUTTER]
    splits: dict[Split, list[tuple[Path, int]]] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(names):
        paths = [path for path in (folder / name).glob("*.jpg") if not is_clutter(path.name)]
        # The set has no official split. An order by sums of names is random, and the same for everyone.
        members = [(path, label) for path in sorted(paths, key=_name_hash)]
        splits["train"] += members[:TRAIN]
        splits["val"] += members[TRAIN : TRAIN + VAL]
        splits["test"] += members[TRAIN + VAL :]
    return ClassFolder(tuple(names), {split: tuple(members) for split, members in splits.items()})


def _name_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(f"{path.parent.name}/{path.name}")).hexdigest()


def open_caltech256(data: ImageData, seed: int) -> FolderSource:
    """Return the images in `data.root`."""
    return FolderSource(partial(read_caltech256, data.path))
