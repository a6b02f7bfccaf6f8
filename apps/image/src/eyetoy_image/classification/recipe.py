"""The recipe of an image classification run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eyetoy_image.classification.datasets import DATASETS
from eyetoy_image.io.background import PictureOptions
from eyetoy_train import ClassificationRecipe
from eyetoy_train.concerns import ANYWHERE, DATA, EVALUATION, MODEL, READING, TRAINING, Concerns
from eyetoy_train.data.source import DatasetOptions, RefuseOrSkip
from eyetoy_train.data.tagged import Separator
from eyetoy_train.recipe import check, check_fields


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
        """Refuse what cannot be done to a picture."""
        prefix = "data.augmentation."
        check_fields(self, "from 0 to 1", "flip", "erasing", "translation", prefix=prefix)
        check_fields(self, "at least 0 and below 1", "crop", "scaling", prefix=prefix)
        check_fields(self, "at least 0", "rotation", "mixup", "cutmix", prefix=prefix)
        magnitude, (low, high) = self.rand_augment_magnitude, self.erased_area
        check(0 <= magnitude <= 30, f"{prefix}rand_augment_magnitude", magnitude, "from 0 to 30")
        fractions = "two fractions above 0, the smaller one first"
        check(0 < low <= high <= 1, f"{prefix}erased_area", self.erased_area, fractions)

    @property
    def moves(self) -> bool:
        """Whether pixels are moved on the device."""
        return bool(self.rotation or self.translation or self.scaling or self.flip)


@dataclass(kw_only=True)
@DATASETS.as_choices
class ImageData(DatasetOptions, PictureOptions):
    """The images and their preprocessing."""

    concerns: ClassVar[Concerns] = {
        DATA: ("source", "label_separator"),
        READING: ("missing",),
        EVALUATION: ("image_size", "crop_pct"),
        MODEL: ("grayscale",),
        TRAINING: ("augmentation",),
    }

    source: str = "folder"
    """A folder of class folders, with or without train, val and test; a folder with a table of any number of labels for
    a picture (tagged); a set on Hugging Face's hub; WebDataset's tar files; or a set by its name. Scikit-learn's digits
    are written to `root`. The others must be present; if one is missing, the message has the command that fetches
    it."""
    root: str = "data/images"
    """Folder of the images, or name of a set on the hub."""
    label_separator: Separator | None = None
    """What is between the labels in the column of a table; found in the table if not given, where that is clear."""
    missing: RefuseOrSkip = "refuse"
    """Refuse: pictures that a table names and that are missing stop the run. Skip: they are counted and left out."""
    image_size: int = 224
    """Height and width of the model's input: the short side is resized to it, and the middle is cropped."""
    crop_pct: float = 1.0
    """Evaluation: fraction of the resized image's short side that the crop keeps; 0.875 is usual for ImageNet."""
    grayscale: bool = False
    """Use one channel instead of three."""
    augmentation: ImageAugmentation = field(default_factory=ImageAugmentation)
    """Random changes to training images."""

    def __post_init__(self) -> None:
        """Refuse sizes of nothing."""
        super().__post_init__()
        if self.label_separator is not None and self.source != "tagged":
            raise ValueError(f"data.label_separator is for data.source: tagged; data.source is {self.source}")
        check_fields(self, "at least 1", "image_size", prefix="data.")
        check_fields(self, "above 0 and at most 1", "crop_pct", prefix="data.")


@dataclass(kw_only=True)
class ImageClassificationRecipe(ClassificationRecipe):
    """Train an image classifier on Encoder2D."""

    concerns: ClassVar[Concerns] = {ANYWHERE: ("task",)}

    task: Literal["classification"] = "classification"
    """The task of the image app."""
    data: ImageData = field(default_factory=ImageData)
    """The pictures."""
