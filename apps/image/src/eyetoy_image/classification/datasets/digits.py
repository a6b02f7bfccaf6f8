"""Scikit-learn's handwritten digits as PNG files in class folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from eyetoy_image.classification.recipe import ImageData
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_train.data.folder import written_aside
from eyetoy_train.data.source import FolderSource

TEST_FRACTION, VAL_FRACTION = 0.2, 0.1


def write_digits(root: Path, *, seed: int = 0) -> None:
    """Write the 1,797 real 8 × 8 digits (Alpaydin and Kaynak, 1998) to `root/{train,val,test}/{0..9}/NNNN.png`.

    A fifth is held out for the test and a tenth for validation, the same fraction of every class. The files are written
    to a temporary folder, which is renamed at the end: `root` is complete or does not exist.

    Raises:
        FileExistsError: `root` exists; it is left unchanged.
    """
    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    with written_aside(root) as tree:
        for split, indices in _split(labels, seed).items():
            for index in indices:
                path = tree / split / str(labels[index]) / f"{index:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[index]).save(path)


def _split(labels: np.ndarray, seed: int) -> dict[str, list[int]]:
    everything = np.arange(len(labels))
    rest, test = train_test_split(everything, test_size=TEST_FRACTION, stratify=labels, random_state=seed)
    fraction = VAL_FRACTION / (1 - TEST_FRACTION)  # of the rest: 0.125 of 80 % is a tenth of all
    train, val = train_test_split(rest, test_size=fraction, stratify=labels[rest], random_state=seed)
    return {"train": train.tolist(), "val": val.tolist(), "test": test.tolist()}


def open_digits(data: ImageData, seed: int) -> FolderSource:
    """Return the digits in `data.root`, written there if it is missing."""
    return FolderSource.of_classes(data.root, EXTENSIONS, seed, write=write_digits)
