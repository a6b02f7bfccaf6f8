"""The recipe of a detection run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eyetoy_image.detection.datasets import DATASETS
from eyetoy_image.io.background import PictureOptions
from eyetoy_train import Recipe
from eyetoy_train.concerns import ANYWHERE, CHECKED_MODEL, DATA, EVALUATION, MODEL, READING, TRAINING, Concerns
from eyetoy_train.data.groups import GroupOptions
from eyetoy_train.data.source import RefuseOrSkip
from eyetoy_train.recipe import check, check_fields


@dataclass(kw_only=True)
class DetectorRecipe:
    """The detector over the encoder's pyramid: Faster R-CNN or Mask R-CNN, with a feature pyramid network.

    The defaults are those of the papers (Ren et al., 2015; Lin et al., 2017; He et al., 2017), for COCO.
    """

    concerns: ClassVar[Concerns] = {
        CHECKED_MODEL: ("kind",),
        EVALUATION: ("proposals_eval", "score_threshold", "nms_threshold", "max_detections"),
        MODEL: (
            *("out_indices", "fpn_channels", "anchor_sizes", "anchor_ratios", "box_head_channels"),
            "mask_head_channels",
        ),
        TRAINING: ("proposals_train", "rpn_samples", "roi_samples"),
    }

    kind: Literal["mask_rcnn", "faster_rcnn", "auto"] = "mask_rcnn"
    """Boxes and masks, or boxes only. Auto: masks if annotations of the training set have some."""
    out_indices: list[int] | None = None
    """Stages of the encoder to use, counted from the finest; all if not given. The first one of timm's ResNets has a
    stride of 2 and takes long; papers use the other four, [1, 2, 3, 4]."""
    fpn_channels: int = 256
    """Channels of the feature pyramid network and of the layers after it."""
    anchor_sizes: list[int] | Literal["auto"] = field(default_factory=lambda: [32, 64, 128, 256, 512])
    """Side of the anchors in pixels, for every stage used and one more, which is half as fine as the last. Auto: fitted
    to the boxes of the training set at the sizes of training."""
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
    """Evaluation: largest number of boxes of an image. Average precision counts the 100 best of each class, as COCO's
    does."""

    def __post_init__(self) -> None:
        """Refuse what no detector can be built of."""
        numbers = ("fpn_channels", "proposals_train", "proposals_eval", "rpn_samples", "roi_samples")
        check_fields(self, "at least 1", *numbers, "box_head_channels", "max_detections", prefix="detector.")
        given = ("anchor_sizes",) if self.anchor_sizes != "auto" else ()
        lists = (*given, "anchor_ratios", "mask_head_channels")
        check_fields(self, "numbers above 0, at least one", *lists, prefix="detector.")
        check_fields(self, "from 0 to 1", "score_threshold", "nms_threshold", prefix="detector.")

    @property
    def has_masks(self) -> bool:
        """Whether the detector has a head for masks; of one whose kind is no longer `auto`."""
        return self.kind == "mask_rcnn"


@dataclass(kw_only=True)
class DetectionAugmentation:
    """Random changes to training images, and their size; an evaluation uses one size."""

    short_ratios: list[float] = field(default_factory=lambda: [side / 800 for side in range(480, 801, 32)])
    """The short side is resized to `data.short_side` times one of these, chosen at random."""
    short_sides: list[int] | None = None
    """Short sides in pixels, in place of `short_ratios`; they do not follow `data.short_side`."""
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
        """Refuse what cannot be done to a picture."""
        prefix, scale = "data.augmentation.", self.jitter_scale
        check_fields(self, "numbers above 0, at least one", "short_ratios", "short_sides", prefix=prefix)
        check_fields(self, "above 0", "jitter_size", prefix=prefix)
        check(0 < scale[0] <= scale[1], f"{prefix}jitter_scale", scale, "two numbers above 0, the smaller one first")
        check_fields(self, "from 0 to 1", "flip", "color", prefix=prefix)

    def sides(self, short_side: int) -> list[int]:
        """Return the short sides of training images in pixels, where `short_side` is `data.short_side`."""
        return self.short_sides or [max(round(ratio * short_side), 1) for ratio in self.short_ratios]


@dataclass(kw_only=True)
@DATASETS.as_choices
class DetectionData(PictureOptions, GroupOptions):
    """The images, their annotations and preprocessing."""

    concerns: ClassVar[Concerns] = {
        ANYWHERE: ("root",),
        DATA: ("source", "format", "annotations", "pictures"),
        EVALUATION: ("short_side", "long_side"),
        READING: ("bad_annotations",),
        TRAINING: ("keep_empty", "augmentation"),
    }

    source: str = "folder"
    """Any pictures with annotations in COCO's, PASCAL VOC's or YOLO's format; COCO 2017 as its archives unpack; or
    digits on photographs, which are composed and written to `root`."""
    root: str = "data/pictures"
    """Folder of the data. `folder` reads annotations/instances_SPLIT.json, or Roboflow's SPLIT/_annotations.coco.json,
    and the images in SPLIT: train, val, test; or an XML file (PASCAL VOC) or a text file (YOLO) of each image. Without
    val, a tenth of train is held out."""
    format: Literal["auto", "coco", "voc", "yolo"] = "auto"
    """`folder`: the format of the annotations; auto finds it by the files."""
    annotations: dict[str, str] = field(default_factory=dict)
    """Annotation files of COCO's format with other names, by split, relative to `root` or absolute, such as {train:
    mine.json}."""
    pictures: dict[str, str] = field(default_factory=dict)
    """Folders of images with other names, likewise."""
    bad_annotations: RefuseOrSkip = "refuse"
    """Refuse: bad annotations, such as a box outside of its image, stop the run before its first step. Skip: they are
    counted and left out. `check.py` lists them."""
    keep_empty: bool = False
    """Train on images without objects as well."""
    short_side: int = 800
    """Short side of a resized image. Training varies it, see `augmentation.short_ratios`."""
    long_side: int = 1333
    """Largest long side of a resized image; an image with a longer one is resized to a smaller short side."""
    augmentation: DetectionAugmentation = field(default_factory=DetectionAugmentation)
    """Random changes to training images."""

    def __post_init__(self) -> None:
        """Refuse sizes of nothing, and splits that there are not."""
        super().__post_init__()
        check_fields(self, "at least 1", "short_side", prefix="data.")
        check(self.long_side >= self.short_side, "data.long_side", self.long_side, "at least data.short_side")
        for name in ("annotations", "pictures"):
            unknown = sorted(set(getattr(self, name)) - {"train", "val", "test"})
            check(not unknown, f"data.{name}", unknown, "named by train, val or test")


@dataclass(kw_only=True)
class DetectionRecipe(Recipe):
    """Train a detector, with or without masks, on Encoder2D."""

    concerns: ClassVar[Concerns] = {ANYWHERE: ("task",)}

    task: Literal["detection"] = "detection"
    """The task of the image app."""
    detector: DetectorRecipe = field(default_factory=DetectorRecipe)
    """The detector."""
    data: DetectionData = field(default_factory=DetectionData)
    """The pictures."""
