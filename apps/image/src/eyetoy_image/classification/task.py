"""The image classification task: data, preprocessing and samples."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from torch import Tensor, nn
from torchvision.transforms.v2.functional import rgb_to_grayscale

from eyetoy_image.classification.augmentation import BatchAugmentation, mixing
from eyetoy_image.classification.datasets import DATASETS
from eyetoy_image.classification.datasets.webdataset import read_tarred
from eyetoy_image.classification.portable import export_pixels
from eyetoy_image.classification.recipe import ImageClassificationRecipe
from eyetoy_image.classification.transforms import (
    BLACK,
    MEAN,
    STD,
    evaluation_transform,
    normalized,
    resized_side,
    shown,
    training_transform,
)
from eyetoy_image.io.background import described
from eyetoy_image.io.files import read_array, read_image
from eyetoy_image.io.hub import read_stored_image
from eyetoy_train import Batch
from eyetoy_train.classification.task import FORCED_CHOICE, ClassificationTask
from eyetoy_train.data.hub import HubSample
from eyetoy_train.data.loading import repeats_apart
from eyetoy_train.export.portable import ExportInput
from eyetoy_train.models.external import TIMM, Families, Family
from eyetoy_train.types import About

FAMILIES: Families = {**TIMM, "baseline": Family("eyetoy_baselines.image:build_baseline")}
"""Families of models by other projects, for `model.name`."""


class ImageClassification(ClassificationTask):
    """Classify images with Encoder2D."""

    families = FAMILIES
    batched_axes: int | None = 4

    def __init__(self, recipe: ImageClassificationRecipe) -> None:
        self.data = data = recipe.data
        super().__init__(recipe, DATASETS.open(data, recipe.seed), data)
        self.reader = f"pictures, {'grey' if data.grayscale else 'colour'} on {data.background}"
        self.evaluation_transform = evaluation_transform(data.image_size, data.crop_pct)
        self.resize = evaluation_transform(data.image_size)
        self.training_transform = training_transform(data.image_size, data.augmentation)
        self.batch_augmentation = BatchAugmentation(data.augmentation, black=BLACK)
        # Without a crop or a policy, no random numbers are drawn in the workers; `BatchAugmentation` uses the seeds.
        self.uses_randomness = self.training_transform is not None
        self.in_channels = 1 if data.grayscale else 3
        self.grid = (data.image_size, data.image_size)
        self.mixes = bool(data.augmentation.mixup or data.augmentation.cutmix)
        self.about = About.of_data(
            "pictures",
            data,
            pipeline_tag="image-classification",
            predict="eyetoy predict",
            limits=() if self.multi_label else (FORCED_CHOICE,),
        )

    @cached_property
    def mixing(self) -> nn.Module | None:
        """The mixing of a training batch; made at first use, since it needs the classes."""
        return mixing(self.data.augmentation, len(self.classes))

    def load_sample(self, source: Any, *, training: bool) -> Tensor:
        """Return uint8 pixels `[channels, height, width]`, of the model's size unless a random crop follows."""
        pixels = self._pixels(source)
        if training and self.training_transform is not None:
            return pixels
        resized: Tensor = self.resize(pixels) if training else self.evaluation_transform(pixels)
        return resized

    def _pixels(self, source: Path | Tensor | HubSample | dict[str, Any]) -> Tensor:
        grayscale, background = self.data.grayscale, self.data.background
        if isinstance(source, Path):
            return read_image(source, grayscale=grayscale, background=background)
        if isinstance(source, HubSample):
            return read_stored_image(source.stored, f"picture {source.place}", grayscale, background)
        if isinstance(source, Tensor):  # of a set that torchvision reads into memory
            if grayscale:
                return rgb_to_grayscale(source) if len(source) == 3 else source
            return source.expand(3, -1, -1)  # [1, H, W] to [3, H, W], without a copy
        if "__key__" in source:
            return read_tarred(source, grayscale=grayscale, background=background)
        return read_stored_image(source, "a picture of the stream", grayscale, background)

    def load_array(self, given: Any, rate: float | None) -> Tensor:
        """Return the pixels of a picture in memory, uint8 `[channels, size, size]`; see `read_array`."""
        if rate is not None:
            raise ValueError(f"rate is for sounds and clips, and a picture has none; got {rate:g}")
        pixels = read_array(given, grayscale=self.data.grayscale, background=self.data.background)
        prepared: Tensor = self.evaluation_transform(pixels)
        return prepared

    def example(self, raw: Tensor, *, training: bool) -> Batch:
        """Return uint8 pixels `[channels, image_size, image_size]`."""
        if not training or self.training_transform is None:
            return {"input": raw}
        return {"input": self.training_transform(raw)}

    def to_input(self, batch: Batch) -> Batch:
        """Turn pixels into floating point numbers, and normalize them."""
        # Here and not in the workers: bytes are a quarter of the traffic from workers to the device.
        return batch | {"input": normalized(batch["input"])}

    def augment(self, batch: Batch) -> Batch:
        """Move, mirror, erase and mix images, as the recipe says."""
        # Mixed last: CutMix would otherwise be moved with the image that it was pasted into.
        x, target = self.batch_augmentation(batch["input"], batch["seed"]), batch["label"]
        if self.mixing is not None:
            x, target = self.mixing(*repeats_apart(self.recipe.augmentation_repeats, x, target))
        return batch | {"input": x, "label": target}

    def preprocessing(self) -> dict[str, Any]:
        """Return how pictures become the model's input."""
        size = self.data.image_size
        return {
            "modality": "image",
            "channels": self.in_channels,
            "background": described(self.data.background),
            "short_side": resized_side(size, self.data.crop_pct),
            "size": [size, size],
            "crop": "centre",
            "interpolation": "bilinear, antialiased",
            "mean": MEAN,
            "std": STD,
        }

    def export_input(self) -> ExportInput:
        """Return the input of an exported model: uint8 pixels, resized and cropped."""
        size, mode = self.data.image_size, "L" if self.data.grayscale else "RGB"
        left = {"short_side": resized_side(size, self.data.crop_pct), "size": size, "crop": "centre"}
        return export_pixels(
            (size, size),
            1 if self.data.grayscale else 3,
            {"mode": mode, "background": described(self.data.background), **left},
        )

    def plot(self, axes: Axes, x: Tensor) -> None:
        """Plot an image."""
        axes.imshow(x.movedim(0, -1).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255)

    def plot_input(self, axes: Axes, x: Tensor) -> None:
        """Plot a normalized image."""
        self.plot(axes, shown(x))
