"""The image classification task: its data, and how a picture goes in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, get_args

from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import rgb_to_grayscale

from eyetoy_image.classification.augmentation import BatchAugmentation, mixing
from eyetoy_image.classification.big_sets import read_caltech256, read_imagenet
from eyetoy_image.classification.digits import write_digits
from eyetoy_image.classification.hub_set import HubPicture, HubSet, read_stored
from eyetoy_image.classification.recipe import ImageClassificationRecipe, ImageData
from eyetoy_image.classification.tar_set import TarSet, read_tarred
from eyetoy_image.classification.torchvision_sets import TorchvisionSet
from eyetoy_image.classification.transforms import BLACK, evaluation_transform, normalized, training_transform
from eyetoy_image.files import EXTENSIONS, read_image
from eyetoy_train import Batch, ClassFolder, FolderClassification, SampleStream, Split
from eyetoy_train.class_folder import write_once
from eyetoy_train.readable import say_skipped, why_unreadable

TORCHVISION = {"fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
FOLDERS = {"imagenet": read_imagenet, "caltech256": read_caltech256}

PictureSet = TorchvisionSet | HubSet | TarSet


def open_set(data: ImageData, seed: int) -> PictureSet | None:
    """Return the set that a recipe names, or None if it is a folder of files."""
    if data.source in TORCHVISION:
        return TorchvisionSet(TORCHVISION[data.source], Path(data.root), seed)
    if data.source == "hub":
        return HubSet(data.root, data.streaming, data.splits, seed)
    return TarSet(Path(data.root)) if data.source == "webdataset" else None


class ImageClassification(FolderClassification):
    """Classify pictures, through Encoder2D."""

    def __init__(self, recipe: ImageClassificationRecipe) -> None:
        self.data = data = recipe.data
        super().__init__(recipe, data, EXTENSIONS)
        self.set = open_set(data, recipe.seed)
        self.evaluation_transform = evaluation_transform(data.image_size, data.crop_pct)
        self.resize = evaluation_transform(data.image_size)
        self.training_transform = training_transform(data.image_size, data.augmentation)
        self.readable: dict[Split, Sequence[tuple[Any, int]] | None] = {}
        self.batch_augmentation = BatchAugmentation(data.augmentation, black=BLACK)

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        return super().classes if self.set is None else self.set.classes

    @property
    def streamed(self) -> HubSet | TarSet | None:
        """The set, if it is read as a stream."""
        if isinstance(self.set, HubSet):
            return self.set if self.set.streaming else None
        return self.set if isinstance(self.set, TarSet) else None

    @property
    def draws(self) -> bool:
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

    def prepare(self) -> None:
        """Write the digits if need be, and make sure that all is there."""
        if self.set is not None:
            self.set.prepare()
            if isinstance(self.set, HubSet) and self.skip_unreadable and self.streamed is None:
                for split in get_args(Split):
                    self.samples(split)
            return
        if self.data.source == "digits":
            write_once(self.root, write_digits)
        super().prepare()

    def read_folder(self) -> ClassFolder:
        """List the files."""
        read = FOLDERS.get(self.data.source)
        return super().read_folder() if read is None else read(self.root)

    def samples(self, split: Split) -> Sequence[tuple[Any, int]] | None:
        """Return pictures, as paths, pixels or rows of a set, and labels."""
        if isinstance(self.set, HubSet) and self.skip_unreadable:
            if split not in self.readable:
                self.readable[split] = self._readable(self.set.samples(split))
            return self.readable[split]
        return self.set.samples(split) if isinstance(self.set, TorchvisionSet | HubSet) else super().samples(split)

    def _readable(self, samples: Sequence[tuple[Any, int]] | None) -> Sequence[tuple[Any, int]] | None:
        """Leave out what cannot be read, and name it."""
        if samples is None:
            return None
        reasons = why_unreadable([source for source, _ in samples], self._pixels)
        say_skipped([reason for reason in reasons if reason], len(samples))
        return [sample for sample, reason in zip(samples, reasons, strict=True) if reason is None]

    def dataset(self, split: Split) -> Dataset[Batch] | SampleStream | None:
        """Return a split, or a stream of it, as dicts with `input` and `label`."""
        if self.streamed is None:
            return super().dataset(split)
        stream = self.streamed.stream(split, partial(self._decode, training=split == "train"))
        if stream is not None:
            stream.skip_unreadable = self.skip_unreadable
        return stream

    def _decode(self, stored: dict[str, Any], label: int, *, training: bool) -> Batch:
        return self.example(self.load_sample(stored, training=training), training=training) | {"label": label}

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

    def _pixels(self, source: Path | Tensor | HubPicture | dict[str, Any]) -> Tensor:
        grayscale = self.data.grayscale
        if isinstance(source, Path):
            return read_image(source, grayscale=grayscale)
        if isinstance(source, HubPicture):
            return source.read(grayscale=grayscale)
        if isinstance(source, Tensor):
            return _with_channels(source, grayscale=grayscale)
        if "__key__" in source:
            return read_tarred(source, grayscale=grayscale)
        return read_stored(source, "a picture of the stream", grayscale)

    def transform(self, raw: Tensor, *, training: bool) -> Tensor:
        """Return uint8 pixels `[channels, image_size, image_size]`."""
        if not training or self.training_transform is None:
            return raw
        x: Tensor = self.training_transform(raw)
        return x

    def to_input(self, x: Tensor) -> Tensor:
        """Return float pixels of the same shape, normalised."""
        return normalized(x)

    def augment(self, x: Tensor, target: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Move, mirror, erase and mix pictures, as the recipe says."""
        x = self.batch_augmentation(x, seeds)
        return (x, target) if self.mixing is None else self.mixing(x, target)

    def draw(self, axes: Axes, x: Tensor) -> None:
        """Draw a picture."""
        axes.imshow(x.movedim(0, -1).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255)


def _with_channels(pixels: Tensor, *, grayscale: bool) -> Tensor:
    if grayscale:
        return rgb_to_grayscale(pixels) if len(pixels) == 3 else pixels
    return pixels.expand(3, -1, -1)
