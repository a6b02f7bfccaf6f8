"""The image classification task: its data, and how a picture goes in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from torch import Tensor, nn
from torchvision.transforms.v2.functional import rgb_to_grayscale

from eyetoy_image.classification.augmentation import BatchAugmentation, mixing
from eyetoy_image.classification.datasets.big_sets import read_caltech256, read_imagenet
from eyetoy_image.classification.datasets.digits import write_digits
from eyetoy_image.classification.datasets.torchvision_sets import TorchvisionSet
from eyetoy_image.classification.datasets.webdataset import TarSet, read_tarred
from eyetoy_image.classification.portable import plain_pixels
from eyetoy_image.classification.recipe import ImageClassificationRecipe, ImageData
from eyetoy_image.classification.transforms import (
    BLACK,
    evaluation_transform,
    normalized,
    resized_side,
    training_transform,
)
from eyetoy_image.io.files import EXTENSIONS, read_image
from eyetoy_image.io.hub import read_stored_image
from eyetoy_train import Batch, ClassFolder
from eyetoy_train.classification.datasets import SetClassification
from eyetoy_train.classification.task import FORCED_CHOICE
from eyetoy_train.data.folder import write_once
from eyetoy_train.data.hub import HubSample, HubSet
from eyetoy_train.export.portable import PlainInput
from eyetoy_train.types import About

TORCHVISION = {"fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
FOLDERS = {"imagenet": read_imagenet, "caltech256": read_caltech256}


def open_set(data: ImageData, seed: int) -> TorchvisionSet | HubSet | TarSet | None:
    """Return the set that a recipe names, or None if it is a folder of files."""
    if data.source in TORCHVISION:
        return TorchvisionSet(TORCHVISION[data.source], Path(data.root), seed)
    if data.source == "hub":
        return HubSet(data.root, "Image", data.streaming, data.splits, seed)
    return TarSet(Path(data.root)) if data.source == "webdataset" else None


class ImageClassification(SetClassification):
    """Classify pictures, through Encoder2D."""

    def __init__(self, recipe: ImageClassificationRecipe) -> None:
        self.data = data = recipe.data
        super().__init__(recipe, data, EXTENSIONS, open_set(data, recipe.seed))
        self.evaluation_transform = evaluation_transform(data.image_size, data.crop_pct)
        self.resize = evaluation_transform(data.image_size)
        self.training_transform = training_transform(data.image_size, data.augmentation)
        self.batch_augmentation = BatchAugmentation(data.augmentation, black=BLACK)

    @property
    def uses_randomness(self) -> bool:
        """Whether pictures are changed one by one; batches draw by the seeds of their samples."""
        return self.training_transform is not None

    @property
    def in_channels(self) -> int:
        """One for grayscale pictures, or three."""
        return 1 if self.data.grayscale else 3

    @property
    def grid(self) -> Sequence[int]:
        """Height and width of the model's input."""
        return (self.data.image_size, self.data.image_size)

    @property
    def about(self) -> About:
        """What a card says of the data and the task."""
        said = {"pipeline_tag": "image-classification", "predict": "apps/image/predict.py", "limits": (FORCED_CHOICE,)}
        return About.of_data("pictures", self.data.source, self.data.root, **said)

    def prepare(self) -> None:
        """Write the digits if need be, and make sure that all is there."""
        if self.data.source == "digits":
            write_once(self.root, write_digits)
        super().prepare()

    def read_folder(self) -> ClassFolder:
        """List the files."""
        read = FOLDERS.get(self.data.source)
        return super().read_folder() if read is None else read(self.root)

    @cached_property
    def mixing(self) -> nn.Module | None:
        """What mixes the pictures of a training batch."""
        return mixing(self.data.augmentation, len(self.classes))

    def load_sample(self, source: Any, *, training: bool) -> Tensor:
        """Return uint8 pixels `[channels, height, width]`, of the model's size if no random crop is to come."""
        pixels = self._pixels(source)
        if training and self.training_transform is not None:
            return pixels
        resized: Tensor = self.resize(pixels) if training else self.evaluation_transform(pixels)
        return resized

    def _pixels(self, source: Path | Tensor | HubSample | dict[str, Any]) -> Tensor:
        grayscale = self.data.grayscale
        if isinstance(source, Path):
            return read_image(source, grayscale=grayscale)
        if isinstance(source, HubSample):
            return read_stored_image(source.stored, f"picture {source.place}", grayscale)
        if isinstance(source, Tensor):
            return _with_channels(source, grayscale=grayscale)
        if "__key__" in source:
            return read_tarred(source, grayscale=grayscale)
        return read_stored_image(source, "a picture of the stream", grayscale)

    def transform(self, raw: Tensor, *, training: bool) -> Tensor:
        """Return uint8 pixels `[channels, image_size, image_size]`."""
        if not training or self.training_transform is None:
            return raw
        x: Tensor = self.training_transform(raw)
        return x

    def to_input(self, batch: Batch) -> Batch:
        """Make pixels floating point numbers, and normalise them."""
        return batch | {"input": normalized(batch["input"])}

    def augment(self, batch: Batch) -> Batch:
        """Move, mirror, erase and mix pictures, as the recipe says."""
        x, target = self.batch_augmentation(batch["input"], batch["seed"]), batch["label"]
        x, target = (x, target) if self.mixing is None else self.mixing(x, target)
        return batch | {"input": x, "label": target}

    def plain_input(self) -> PlainInput:
        """Return that an exported model takes uint8 pixels, resized and cropped."""
        size, mode = self.data.image_size, "L" if self.data.grayscale else "RGB"
        return plain_pixels(
            (size, size),
            self.in_channels,
            {"mode": mode, "short_side": resized_side(size, self.data.crop_pct), "size": size, "crop": "centre"},
        )

    def draw(self, axes: Axes, x: Tensor) -> None:
        """Draw a picture."""
        axes.imshow(x.movedim(0, -1).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255)


def _with_channels(pixels: Tensor, *, grayscale: bool) -> Tensor:
    if grayscale:
        return rgb_to_grayscale(pixels) if len(pixels) == 3 else pixels
    return pixels.expand(3, -1, -1)
