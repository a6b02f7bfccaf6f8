"""What an image classification run is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eyetoy_train import ClassificationRecipe


@dataclass(kw_only=True)
class ImageAugmentation:
    """Random changes to training pictures; evaluation sees them as they are."""

    rotation: float = 10.0
    """Rotate by up to this many degrees either way."""
    translation: float = 0.1
    """Shift by up to this share of the picture's width and height."""
    scaling: float = 0.1
    """Grow or shrink by up to this share."""
    crop: float = 0.0
    """Crop a random part that may leave out up to this share of the area, and resize it."""
    flip: float = 0.0
    """Probability of a horizontal flip."""


@dataclass(kw_only=True)
class ImageData:
    """Which pictures, and how they go in."""

    source: Literal["digits", "fashion_mnist", "folder"] = "folder"
    """Scikit-learn's digits, Fashion-MNIST, or any folder of class folders with or without train, val, test."""
    root: str = "data/images"
    """Where the pictures lie; digits and Fashion-MNIST are written there if they are not there yet."""
    image_size: int = 224
    """Height and width of the model's input: the short side is resized to it, and the middle is cropped."""
    grayscale: bool = False
    """One channel in place of three."""
    cache: bool = False
    """Keep decoded pictures in memory."""
    augmentation: ImageAugmentation = field(default_factory=ImageAugmentation)
    """Random changes to training pictures."""


@dataclass(kw_only=True)
class ImageClassificationRecipe(ClassificationRecipe):
    """Train an image classifier on Encoder2D."""

    data: ImageData = field(default_factory=ImageData)
    """The pictures."""
