"""The image classification task: its data, and how a picture goes in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from torch import Tensor

from eyetoy_image.classification.digits import write_digits
from eyetoy_image.classification.fashion_mnist import (
    fashion_mnist_classes,
    fashion_mnist_samples,
    prepare_fashion_mnist,
)
from eyetoy_image.classification.recipe import ImageClassificationRecipe
from eyetoy_image.files import EXTENSIONS, read_image
from eyetoy_image.transforms import MEAN, STD, evaluation_transform, training_transform
from eyetoy_train import FolderClassification, Split


class ImageClassification(FolderClassification):
    """Classify pictures, through Encoder2D."""

    def __init__(self, recipe: ImageClassificationRecipe) -> None:
        super().__init__(recipe, root=Path(recipe.data.root), extensions=EXTENSIONS, cache=recipe.data.cache)
        self.data = recipe.data
        self.evaluation_transform = evaluation_transform(recipe.data.image_size)
        self.training_transform = training_transform(recipe.data.image_size, recipe.data.augmentation)

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        return fashion_mnist_classes() if self.data.source == "fashion_mnist" else super().classes

    @property
    def in_channels(self) -> int:
        """One for grayscale pictures, or three."""
        return 1 if self.data.grayscale else 3

    @property
    def grid(self) -> Sequence[int]:
        """Height and width of the model's input."""
        return (self.data.image_size, self.data.image_size)

    def prepare(self) -> None:
        """Write digits or fetch Fashion-MNIST if need be."""
        if self.data.source == "fashion_mnist":
            prepare_fashion_mnist(self.root)
        elif self.data.source == "digits" and not self.root.exists():
            write_digits(self.root)

    def samples(self, split: Split) -> Sequence[tuple[Any, int]] | None:
        """Return paths or pixels, and labels."""
        if self.data.source == "fashion_mnist":
            return fashion_mnist_samples(self.root, split, seed=self.recipe.seed)
        return super().samples(split)

    def load_sample(self, source: Path | Tensor, *, training: bool) -> Tensor:
        """Return uint8 pixels `[channels, height, width]`."""
        if isinstance(source, Path):
            return read_image(source, grayscale=self.data.grayscale)
        return source if self.data.grayscale else source.expand(3, -1, -1)

    def transform(self, raw: Tensor, *, training: bool) -> Tensor:
        """Return a float picture `[channels, image_size, image_size]`."""
        x: Tensor = self.training_transform(raw) if training else self.evaluation_transform(raw)
        return x

    def draw(self, axes: Axes, x: Tensor) -> None:
        """Draw a picture."""
        axes.imshow((x * STD + MEAN).clamp(0, 1).movedim(0, -1).squeeze(-1), cmap="gray", vmin=0, vmax=1)
