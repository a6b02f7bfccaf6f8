"""Fashion-MNIST: from a local folder, from Debian's package, or by torchvision's download."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

from torch import Tensor
from torchvision.datasets import FashionMNIST

from eyetoy_train import Split
from eyetoy_train.monitor import say
from eyetoy_train.seeds import derive_seed

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
NUM_VAL = 5_000

Samples = list[tuple[Tensor, int]]


def prepare_fashion_mnist(root: Path, *, debian_folder: Path = DEBIAN_FOLDER) -> None:
    """Make sure that torchvision finds Fashion-MNIST in `root`, and say where it came from.

    Raises:
        RuntimeError: the download failed.
    """
    raw = root / "FashionMNIST" / "raw"
    if len(list(raw.glob("*-ubyte"))) == 4:
        return
    archives = sorted(debian_folder.glob("*-ubyte.gz"))
    if len(archives) == 4:
        say(f"unpacking Fashion-MNIST from {debian_folder} to {raw}")
        raw.mkdir(parents=True, exist_ok=True)
        for archive in archives:
            (raw / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
    else:
        say(f"downloading Fashion-MNIST (30 MB) to {raw}")
        FashionMNIST(str(root), download=True)


def fashion_mnist_samples(root: Path, split: Split, *, seed: int = 0) -> Samples:
    """Return pictures, uint8 `[1, 28, 28]`, and labels; 5,000 of the 60,000 training pictures are for validation."""
    dataset = FashionMNIST(str(root), train=split != "test")
    indices = list(range(len(dataset)))
    if split != "test":
        random.Random(derive_seed(seed, "fashion_mnist")).shuffle(indices)
        indices = indices[:NUM_VAL] if split == "val" else indices[NUM_VAL:]
    return [(dataset.data[index][None], int(dataset.targets[index])) for index in indices]


def fashion_mnist_classes() -> list[str]:
    """Return the names of the ten classes."""
    return list(FashionMNIST.classes)
