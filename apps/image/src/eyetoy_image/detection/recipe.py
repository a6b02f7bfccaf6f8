"""The recipe of a detection run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from eyetoy_image.detection.datasets import DATASETS
from eyetoy_train import Recipe
from eyetoy_train.data.source import RefuseOrSkip

# The choices of `data.source` come from the registry; mypy accepts no computed Literal.
if TYPE_CHECKING:
    Source = str
else:
    Source = Literal[tuple(DATASETS.entries)]


@dataclass(kw_only=True)
class DetectorRecipe:
    """The detector over the encoder's pyramid: Faster R-CNN or Mask R-CNN, with a feature pyramid network.

    The defaults are those of the papers (Ren et al., 2015; Lin et al., 2017; He et al., 2017), for COCO.
    """

    kind: Literal["mask_rcnn", "faster_rcnn"] = "mask_rcnn"
    """Boxes and masks, or boxes only."""
    out_indices: list[int] | None = None
    """Stages of the encoder to use, counted from the finest; all if not given."""
    fpn_channels: int = 256
    """Channels of the feature pyramid network and of the layers after it."""
    anchor_sizes: list[int] = field(default_factory=lambda: [32, 64, 128, 256, 512])
    """Side of the anchors in pixels, for every stage used and one more, which is half as fine as the last."""
    anchor_ratios: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    """Height of the anchors, divided by their width."""
    proposals_train: int = 2000
    """Training: number of proposals for an image, and of the best ones kept from each level before."""
    proposals_eval: int = 1000
    """Evaluation: the same."""
    rpn_samples: int = 256
    """Number of an image's anchors in the proposal network's loss, at most half of them on objects."""
    roi_samples: int = 512
    """Number of an image's proposals in the losses of the heads, at most a quarter of them on objects."""
    box_head_channels: int = 1024
    """Width of the two layers of the box head."""
    mask_head_channels: list[int] = field(default_factory=lambda: [256, 256, 256, 256])
    """Widths of the convolutions of the mask head."""
    score_threshold: float = 0.05
    """Evaluation: least score of a box."""
    nms_threshold: float = 0.5
    """Evaluation: of boxes of a class that overlap by more (intersection over union), only the best is kept."""
    max_detections: int = 100
    """Evaluation: largest number of boxes of an image."""

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range."""
        for name in ("fpn_channels", "proposals_train", "proposals_eval", "rpn_samples", "roi_samples"):
            _check(getattr(self, name) >= 1, f"detector.{name}", getattr(self, name), "at least 1")
        for name in ("box_head_channels", "max_detections"):
            _check(getattr(self, name) >= 1, f"detector.{name}", getattr(self, name), "at least 1")
        for name in ("anchor_sizes", "anchor_ratios", "mask_head_channels"):
            values = getattr(self, name)
            _check(len(values) > 0 and min(values) > 0, f"detector.{name}", values, "numbers above 0, at least one")
        for name in ("score_threshold", "nms_threshold"):
            _check(0 <= getattr(self, name) <= 1, f"detector.{name}", getattr(self, name), "from 0 to 1")

    @property
    def has_masks(self) -> bool:
        """Whether the detector has a head for masks."""
        return self.kind == "mask_rcnn"


@dataclass(kw_only=True)
class DetectionAugmentation:
    """Random changes to training images, and their size; an evaluation uses one size."""

    short_sides: list[int] = field(default_factory=lambda: [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800])
    """The short side is resized to one of these, chosen at random."""
    jitter_size: int | None = None
    """Large-scale jitter (Ghiasi et al., 2021) instead of `short_sides`: an image is resized by a random factor, and
    cropped or padded to a square of this side."""
    jitter_scale: tuple[float, float] = (0.1, 2.0)
    """Range of the factor of large-scale jitter; 1 fits the image into the square."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    color: float = 0.0
    """Probability of each of a random brightness, contrast, saturation and hue (Liu et al., SSD, 2016)."""

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range."""
        prefix, sides, scale = "data.augmentation.", self.short_sides, self.jitter_scale
        _check(len(sides) > 0 and min(sides) > 0, f"{prefix}short_sides", sides, "numbers above 0, at least one")
        _check(self.jitter_size is None or self.jitter_size > 0, f"{prefix}jitter_size", self.jitter_size, "above 0")
        _check(0 < scale[0] <= scale[1], f"{prefix}jitter_scale", scale, "two numbers above 0, the smaller one first")
        for name in ("flip", "color"):
            _check(0 <= getattr(self, name) <= 1, f"{prefix}{name}", getattr(self, name), "from 0 to 1")


@dataclass(kw_only=True)
class DetectionData:
    """The images, their annotations and preprocessing."""

    source: Source = "folder"
    """Images with annotations in COCO's format; COCO 2017 in the layout of its archives; or digits on photographs,
    which are composed and written to `root`."""
    root: str = "data/pictures"
    """Folder of the data. `folder` reads annotations/instances_SPLIT.json and the images in SPLIT: train, val, test."""
    annotations: dict[str, str] = field(default_factory=dict)
    """Annotation files with other names, by split, relative to `root` or absolute, such as {train: mine.json}."""
    pictures: dict[str, str] = field(default_factory=dict)
    """Folders of images with other names, likewise."""
    bad_annotations: RefuseOrSkip = "refuse"
    """Refuse: bad annotations, such as a box outside of its image, stop the run before its first step. Skip: they are
    counted and left out. `check.py` lists them."""
    keep_empty: bool = False
    """Train on images without objects as well."""
    short_side: int = 800
    """Evaluation: short side of a resized image."""
    long_side: int = 1333
    """Largest long side of a resized image; an image with a longer one is resized to a smaller short side."""
    augmentation: DetectionAugmentation = field(default_factory=DetectionAugmentation)
    """Random changes to training images."""

    def __post_init__(self) -> None:
        """Refuse sizes that are out of range, and unknown splits."""
        _check(self.short_side >= 1, "data.short_side", self.short_side, "at least 1")
        _check(self.long_side >= self.short_side, "data.long_side", self.long_side, "at least data.short_side")
        for name in ("annotations", "pictures"):
            unknown = sorted(set(getattr(self, name)) - {"train", "val", "test"})
            _check(not unknown, f"data.{name}", unknown, "named by train, val or test")


@dataclass(kw_only=True)
class DetectionRecipe(Recipe):
    """Train a detector, with or without masks, on Encoder2D."""

    task: Literal["detection"] = "detection"
    """The task of the image app."""
    detector: DetectorRecipe = field(default_factory=DetectorRecipe)
    """The detector."""
    data: DetectionData = field(default_factory=DetectionData)
    """The images."""


def _check(right: bool, name: str, value: object, should_be: str) -> None:
    if not right:
        raise ValueError(f"{name} must be {should_be}; got {value}")
