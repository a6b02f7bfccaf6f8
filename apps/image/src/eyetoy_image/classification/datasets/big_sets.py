"""Sets of picture files whose folders are known: ImageNet-1k and Caltech-256."""

from __future__ import annotations

import hashlib
from pathlib import Path

from eyetoy_image.io.files import EXTENSIONS
from eyetoy_train import ClassFolder, Split, read_class_folder

CALTECH_FOLDER = Path("caltech256", "256_ObjectCategories")
CALTECH_CLUTTER = "257.clutter"
CALTECH_TRAIN, CALTECH_VAL = 60, 10
"""Pictures of each of Caltech-256's classes for training and for validation; the others are for the test."""

FETCH_CALTECH = """Caltech-256 is not in {root}. This fetches it (1.2 GB):
    python -c "from torchvision.datasets import Caltech256; Caltech256('{root}', download=True)\""""
FETCH_IMAGENET = """ImageNet-1k is not in {root}, which should hold train/n01440764/... and val/n01440764/...
Put ILSVRC2012_img_train.tar (138 GB), ILSVRC2012_img_val.tar (6.3 GB) and ILSVRC2012_devkit_t12.tar.gz (2.5 MB), for
which image-net.org asks you to sign in, into {root}. This unpacks them:
    python -c "from torchvision.datasets import ImageNet; [ImageNet('{root}', split) for split in ('train', 'val')]"
Or stream it from Hugging Face's hub: --data.source hub --data.root ILSVRC/imagenet-1k --data.streaming true"""


def read_imagenet(root: Path) -> ClassFolder:
    """List ImageNet-1k as torchvision unpacks it, its 50,000 validation pictures as the validation split.

    Raises:
        FileNotFoundError: it is not there. The message says how to fetch it.
    """
    if not (root / "train").is_dir() or not (root / "val").is_dir():
        raise FileNotFoundError(FETCH_IMAGENET.format(root=root))
    return read_class_folder(root, EXTENSIONS)


def read_caltech256(root: Path) -> ClassFolder:
    """List Caltech-256 (Griffin, Holub and Perona, 2007) without its class of clutter.

    Of every class, the 60 pictures with the smallest SHA-256 sums of their names (`001.ak47/001_0001.jpg`) are for
    training, as many as the authors train on at most; the next 10 are for validation, and all others for the test.

    Raises:
        FileNotFoundError: it is not there. The message says how to fetch it.
    """
    folder = root / CALTECH_FOLDER
    if not folder.is_dir():
        raise FileNotFoundError(FETCH_CALTECH.format(root=root))
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != CALTECH_CLUTTER)
    splits: dict[Split, list[tuple[Path, int]]] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(names):
        members = [(path, label) for path in sorted((folder / name).glob("*.jpg"), key=_draw)]
        splits["train"] += members[:CALTECH_TRAIN]
        splits["val"] += members[CALTECH_TRAIN : CALTECH_TRAIN + CALTECH_VAL]
        splits["test"] += members[CALTECH_TRAIN + CALTECH_VAL :]
    return ClassFolder(tuple(names), {split: tuple(members) for split, members in splits.items()})


def _draw(path: Path) -> str:
    return hashlib.sha256(f"{path.parent.name}/{path.name}".encode()).hexdigest()
