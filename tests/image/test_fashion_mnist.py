"""Fashion-MNIST from files in its own format, as Debian's package holds them."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from eyetoy_image.classification import fashion_mnist
from eyetoy_image.classification.fashion_mnist import fashion_mnist_samples, prepare_fashion_mnist


@pytest.fixture
def package(tmp_path):
    """Five training and four test pictures in idx files; picture i is filled with the shade i."""
    folder = tmp_path / "package"
    folder.mkdir()
    for prefix, count in (("train", 5), ("t10k", 4)):
        pixels = np.repeat(np.arange(count, dtype=np.uint8), 28 * 28)
        images = struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes()
        labels = struct.pack(">II", 2049, count) + bytes(9 - i for i in range(count))
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return folder


def test_the_package_is_unpacked_and_read_by_torchvision(package, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "NUM_VAL", 2)
    root = tmp_path / "data"
    prepare_fashion_mnist(root, debian_folder=package)
    splits = {split: fashion_mnist_samples(root, split) for split in ("train", "val", "test")}
    assert {split: len(samples) for split, samples in splits.items()} == {"train": 3, "val": 2, "test": 4}
    for samples in splits.values():
        for picture, label in samples:
            assert picture.shape == (1, 28, 28)
            assert label == 9 - int(picture[0, 0, 0])
    shades = [int(picture[0, 0, 0]) for split in ("train", "val") for picture, _ in splits[split]]
    assert sorted(shades) == [0, 1, 2, 3, 4]


def test_what_is_there_is_not_fetched_again(package, tmp_path):
    root = tmp_path / "data"
    prepare_fashion_mnist(root, debian_folder=package)
    prepare_fashion_mnist(root, debian_folder=tmp_path / "nowhere")
