"""The recipe of an image classification run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from eyetoy_image.classification.datasets import DATASETS
from eyetoy_train import ClassificationRecipe
from eyetoy_train.data.source import DatasetOptions

# The choices of `data.source` come from the registry; mypy accepts no computed Literal.
if TYPE_CHECKING:
    Source = str
else:
    Source = Literal[tuple(DATASETS.entries)]


@dataclass(kw_only=True)
class ImageAugmentation:
    """Random changes to training images; an evaluation uses the images unchanged.

    `crop` and `policy` are applied in the loading workers, all others to whole batches on the model's device.
    """

    crop: float = 0.0
    """Crop a random part that leaves out up to this fraction of the area, and resize it."""
    policy: Literal["none", "rand_augment", "trivial_augment"] = "none"
    """RandAugment (Cubuk et al., 2020) or TrivialAugment (Müller and Hutter, 2021)."""
    rand_augment_magnitude: int = 9
    """Strength of RandAugment's two operations, from 0 to 30."""
    rotation: float = 10.0
    """Rotate by up to this many degrees either way."""
    translation: float = 0.1
    """Shift by up to this fraction of the image's width and height."""
    scaling: float = 0.1
    """Enlarge or shrink by up to this fraction."""
    flip: float = 0.0
    """Probability of a horizontal flip."""
    erasing: float = 0.0
    """Probability that a rectangle is erased (Zhong et al., 2020)."""
    erased_area: tuple[float, float] = (0.02, 0.33)
    """Smallest and largest fraction of the image that is erased."""
    mixup: float = 0.0
    """Parameter of the beta distribution by which pairs of images and their labels are mixed; 0 for no mixing."""
    cutmix: float = 0.0
    """Likewise for CutMix, which pastes a part of an image into another. With mixup as well, one of them is chosen at
    random for each batch."""

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range."""
        for name in ("flip", "erasing", "translation"):
            _check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        for name in ("crop", "scaling"):
            _check(0 <= getattr(self, name) < 1, name, getattr(self, name), "at least 0 and below 1")
        for name in ("rotation", "mixup", "cutmix"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        _check(
            0 <= self.rand_augment_magnitude <= 30,
            "rand_augment_magnitude",
            self.rand_augment_magnitude,
            "from 0 to 30",
        )
        low, high = self.erased_area
        _check(0 < low <= high <= 1, "erased_area", self.erased_area, "two fractions above 0, the smaller one first")

    @property
    def moves(self) -> bool:
        """Whether pixels are moved on the device."""
        return bool(self.rotation or self.translation or self.scaling or self.flip)


@dataclass(kw_only=True)
class ImageData(DatasetOptions):
    """The images and their preprocessing."""

    source: Source = "folder"
    """A folder of class folders, with or without train, val and test; a set on Hugging Face's hub; WebDataset's tar
    files; or a set by its name. Scikit-learn's digits are written to `root`. The others must be present; if one is
    missing, the message has the command that fetches it."""
    root: str = "data/images"
    """Folder of the images, or name of a set on the hub."""
    image_size: int = 224
    """Height and width of the model's input: the short side is resized to it, and the middle is cropped."""
    crop_pct: float = 1.0
    """Evaluation: fraction of the resized image's short side that the crop keeps; 0.875 is usual for ImageNet."""
    grayscale: bool = False
    """Use one channel instead of three."""
    augmentation: ImageAugmentation = field(default_factory=ImageAugmentation)
    """Random changes to training images."""

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range."""
        if self.image_size < 1:
            raise ValueError(f"data.image_size must be at least 1; got {self.image_size}")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"data.crop_pct must be above 0 and at most 1; got {self.crop_pct}")


@dataclass(kw_only=True)
class ImageClassificationRecipe(ClassificationRecipe):
    """Train an image classifier on Encoder2D."""

    task: Literal["classification"] = "classification"
    """The task of the image app."""
    data: ImageData = field(default_factory=ImageData)
    """The images."""


def _check(right: bool, name: str, value: object, should_be: str) -> None:
    if not right:
        raise ValueError(f"data.augmentation.{name} must be {should_be}; got {value}")
