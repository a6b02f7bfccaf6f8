"""Data sets of small images that torchvision reads into memory: Fashion-MNIST, CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import gzip
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import datasets

from eyetoy_image.classification.recipe import ImageData
from eyetoy_train import Split
from eyetoy_train.data.source import ClassificationSource
from eyetoy_train.utils.console import log
from eyetoy_train.utils.seeds import derive_seed

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
NUM_VAL = 5_000
MEGABYTES = {"FashionMNIST": 31, "CIFAR10": 171, "CIFAR100": 169}

Samples = list[tuple[Tensor, int]]


@dataclass(frozen=True)
class TorchvisionSet(ClassificationSource):
    """A data set with a training and a test part; 5,000 of the training images are held out for validation.

    torchvision compares the MD5 sums of CIFAR's files before it reads them.

    Args:
        name: name of torchvision's class.
        root: the folder of the set in torchvision's layout.
        seed: decides which images are held out.
    """

    name: str
    root: Path
    seed: int = 0

    def prepare(self) -> None:
        """Check that the set exists; unpack Fashion-MNIST from Debian's package if that is installed.

        Raises:
            FileNotFoundError: the set is missing or damaged. The message has the command that fetches it.
        """
        if self.name == "FashionMNIST":
            unpack_fashion_mnist(self.root, DEBIAN_FOLDER)
        _open(self.name, self.root, train=True)

    @cached_property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        return list(_open(self.name, self.root, train=False).classes)

    def split(self, split: Split) -> Samples:
        """Return images, uint8 `[channels, height, width]`, and labels."""
        dataset = _open(self.name, self.root, train=split != "test")
        pixels = torch.as_tensor(dataset.data)  # [N, H, W] of Fashion-MNIST, [N, H, W, 3] of CIFAR
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels.movedim(-1, 1)  # [N, C, H, W]
        indices = list(range(len(pixels)))
        if split != "test":
            random.Random(derive_seed(self.seed, self.name)).shuffle(indices)
            indices = indices[:NUM_VAL] if split == "val" else indices[NUM_VAL:]
        return [(pixels[index], int(dataset.targets[index])) for index in indices]


@lru_cache(maxsize=2)  # train and val are parts of the same file, and reading it takes seconds
def _open(name: str, root: Path, *, train: bool) -> Any:
    try:
        return getattr(datasets, name)(str(root), train=train)
    except RuntimeError as error:
        fetch = f"from torchvision.datasets import {name}; {name}('{root}', download=True)"
        raise FileNotFoundError(
            f'{name} is not in {root}, or damaged. This fetches it ({MEGABYTES[name]} MB):\n    python -c "{fetch}"'
        ) from error


def unpack_fashion_mnist(root: Path, debian_folder: Path) -> None:
    """Unpack Fashion-MNIST from Debian's package dataset-fashion-mnist, if it is needed and installed."""
    raw = root / "FashionMNIST" / "raw"
    archives = sorted(debian_folder.glob("*-ubyte.gz"))
    if len(list(raw.glob("*-ubyte"))) == len(archives) or not archives:
        return
    log(f"unpacking Fashion-MNIST from {debian_folder} to {raw}")
    raw.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=raw) as temporary:  # several runs may start at once
        for archive in archives:
            partial = Path(temporary) / archive.stem
            partial.write_bytes(gzip.decompress(archive.read_bytes()))
            partial.replace(raw / archive.stem)


def open_fashion_mnist(data: ImageData, seed: int) -> TorchvisionSet:
    """Return Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017) in `data.root`."""
    return TorchvisionSet("FashionMNIST", data.path, seed)


def open_cifar10(data: ImageData, seed: int) -> TorchvisionSet:
    """Return CIFAR-10 (Krizhevsky, 2009) in `data.root`."""
    return TorchvisionSet("CIFAR10", data.path, seed)


def open_cifar100(data: ImageData, seed: int) -> TorchvisionSet:
    """Return CIFAR-100 (Krizhevsky, 2009) in `data.root`."""
    return TorchvisionSet("CIFAR100", data.path, seed)
