"""Photographs of scikit-image and digits of scikit-learn for composed images, different ones for each split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from eyetoy_train import Split

PHOTOGRAPHS: Mapping[Split, tuple[str, ...]] = {
    "train": (
        *("astronaut", "brick", "cell", "coffee", "coins", "grass", "hubble_deep_field", "immunohistochemistry"),
        *("retina", "china.jpg", "flower.jpg"),
    ),
    "val": ("camera", "rocket"),
    "test": ("chelsea", "clock", "gravel"),
}
"""Functions of `skimage.data`, or sample images of scikit-learn; all are included in the packages."""

DIGITS: Mapping[Split, slice] = {"train": slice(0, 1200), "val": slice(1200, 1380), "test": slice(1380, 1797)}
"""Positions in `sklearn.datasets.load_digits`, which is ordered by writers."""

LICENCES = """The digits are scikit-learn's: the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin
and C. Kaynak, UCI Machine Learning Repository); scikit-learn states no licence. The photographs are scikit-image's,
which states: CC0 for brick, camera, cell, chelsea, coffee, grass, gravel and retina; public domain for astronaut,
clock, hubble_deep_field (NASA) and rocket (SpaceX); no known copyright restrictions for coins (Brooklyn Museum) and
immunohistochemistry (CMMI); and scikit-learn's, Creative Commons Attribution 2.0: china.jpg by danielbuechele and
flower.jpg by vultilion.
"""

ENLARGED = 64
"""Side to which the digits of 8 x 8 pixels are enlarged, so that they can be rotated smoothly."""


@dataclass(frozen=True)
class Digit:
    """A handwritten digit."""

    label: int
    picture: Image.Image
    """Grey, ink is white."""


def read_photographs(split: Split) -> list[Image.Image]:
    """Return the photographs of a split, in colour."""
    # Both are slow to import, and needed only to write the images.
    from skimage import data
    from sklearn.datasets import load_sample_image

    read = [load_sample_image(name) if "." in name else getattr(data, name)() for name in PHOTOGRAPHS[split]]
    return [Image.fromarray(pixels).convert("RGB") for pixels in read]


def read_digits(split: Split) -> list[Digit]:
    """Return the digits of a split, with a margin that keeps strokes off the border."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    padded = np.pad(images.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1))) * (255 / 16)
    return [
        Digit(int(label), Image.fromarray(image.astype(np.uint8)).resize((ENLARGED, ENLARGED), Resampling.BICUBIC))
        for image, label in zip(padded[DIGITS[split]], labels[DIGITS[split]], strict=True)
    ]
