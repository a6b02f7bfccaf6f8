"""The recipe of a segmentation run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eyetoy_image.io.background import PictureOptions
from eyetoy_image.segmentation.datasets import DATASETS
from eyetoy_train import Recipe
from eyetoy_train.concerns import ANYWHERE, DATA, EVALUATION, EXPORTED_SIZE, MODEL, READING, SIZES, TRAINING, Concerns
from eyetoy_train.data.groups import GroupOptions
from eyetoy_train.data.source import RefuseOrSkip
from eyetoy_train.recipe import check, check_fields


@dataclass(kw_only=True)
class SegmenterRecipe:
    """The head over the encoder's pyramid. The defaults are those of UperNet in other papers on ADE20K."""

    concerns: ClassVar[Concerns] = {
        MODEL: ("kind", "out_indices", "channels", "pool_scales", "norm", "auxiliary_channels"),
        TRAINING: ("dropout", "auxiliary_weight", "dice_weight"),
    }

    kind: Literal["upernet", "linear"] = "upernet"
    """UperNet (Xiao et al., ECCV 2018): pyramid pooling over the last map and a feature pyramid network, fused; or a
    linear layer over all stages."""
    out_indices: list[int] | None = None
    """Stages of the encoder to use, counted from the finest; all if not given. The first one of timm's ResNets has a
    stride of 2 and takes long; papers use the other four, [1, 2, 3, 4]."""
    channels: int = 512
    """Width of UperNet."""
    pool_scales: list[int] = field(default_factory=lambda: [1, 2, 3, 6])
    """Sides of the grids to which pyramid pooling shrinks the last map (Zhao et al., CVPR 2017)."""
    norm: Literal["batch", "group"] = "batch"
    """Batch norm, over the images of one process's micro-batch; or group norm, over each image alone."""
    dropout: float = 0.1
    """Fraction of the channels that are dropped before the last layer of a head."""
    auxiliary_weight: float = 0.4
    """Weight of the loss of an auxiliary FCN head (Long et al., CVPR 2015), on the last stage but one; 0 for none."""
    auxiliary_channels: int = 256
    """Width of the auxiliary head."""
    dice_weight: float = 0.0
    """Weight of a Dice loss of the head, added to its cross-entropy: it weighs all classes equally, like mIoU."""

    def __post_init__(self) -> None:
        """Refuse what no head can be built of."""
        check_fields(self, "at least 1", "channels", "auxiliary_channels", prefix="segmenter.")
        check_fields(self, "numbers above 0, at least one", "pool_scales", prefix="segmenter.")
        check_fields(self, "at least 0 and below 1", "dropout", prefix="segmenter.")
        check_fields(self, "at least 0", "auxiliary_weight", "dice_weight", prefix="segmenter.")


@dataclass(kw_only=True)
class SegmentationAugmentation:
    """Random changes to training images together with their label maps."""

    concerns: ClassVar[Concerns] = {
        EXPORTED_SIZE: ("crop_size",),
        TRAINING: ("scale", "cat_max_ratio", "flip", "color"),
    }

    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the factor by which an image is resized."""
    crop_size: int | None = None
    """Side of the random square that is cropped; smaller images are padded, and the padding is ignored. If not given,
    `data.short_side`, or 512 without it."""
    cat_max_ratio: float = 0.75
    """Crop again, up to ten times, while one class has this fraction of the labelled pixels or more; 1 for never."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    color: float = 0.5
    """Probability of each of a random brightness, contrast, saturation and hue (Liu et al., SSD, 2016)."""

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range."""
        prefix, scale = "data.augmentation.", self.scale
        check(0 < scale[0] <= scale[1], f"{prefix}scale", scale, "two numbers above 0, the smaller one first")
        check_fields(self, "at least 1", "crop_size", prefix=prefix)
        check_fields(self, "above 0 and at most 1", "cat_max_ratio", prefix=prefix)
        check_fields(self, "from 0 to 1", "flip", "color", prefix=prefix)


@dataclass(kw_only=True)
@DATASETS.as_choices
class SegmentationData(PictureOptions, GroupOptions):
    """The images, their label maps and preprocessing."""

    concerns: ClassVar[Concerns] = {
        DATA: (
            *("source", "ignored", "values", "classes", "image_column", "label_column", "splits", "config"),
            "revision",
        ),
        READING: ("bad_annotations",),
        SIZES: ("short_side", "long_side"),
        ANYWHERE: ("root",),
    }

    source: str = "folder"
    """Any folder of pictures and label maps; a set of Hugging Face's hub, or a folder that `datasets` reads; ADE20K,
    Cityscapes or PASCAL VOC 2012 as their archives unpack; or digits on photographs, which are composed and written to
    `root`. What is missing is told with what fetches it."""
    root: str = "data/pictures"
    """The folder, or a name on the hub. `folder` reads images in images/SPLIT (train, val, test), label maps as PNG
    files of the same names in maps/SPLIT, and names of the classes in classes.txt, one in each line. The folder maps
    may be called annotations, labels or masks. Without val, a tenth of train is held out."""
    ignored: list[int] = field(default_factory=lambda: [255])
    """`folder` and `hub`: values of label maps without a class; the others are the classes, in order."""
    values: list[int] | None = None
    """`folder` and `hub`: values of the classes, in order, where they are not consecutive, such as [0, 255] of binary
    masks. A value named here is not ignored."""
    classes: str | None = None
    """`hub`: a text file with the names of the classes, one in each line; numbers are their names if not given."""
    image_column: str | None = None
    """`hub`: the column with the images, where it is not called image or pixel_values."""
    label_column: str | None = None
    """`hub`: the column with the label maps, where there are more than two columns of images."""
    splits: dict[str, str] = field(default_factory=dict)
    """`hub`: names of train, val and test, where they are not the usual ones, such as {val: test}."""
    config: str | None = None
    """`hub`: configuration of the set, if it has several."""
    revision: str | None = None
    """`hub`: a branch, tag or commit."""
    bad_annotations: RefuseOrSkip = "refuse"
    """Refuse: bad label maps, such as one of another size than its image, stop the run before its first step. Skip:
    they are counted and left out. `check.py` lists them."""
    short_side: int | None = None
    """Resize images to this short side, in training before `augmentation.scale`; not resized if not given. Training
    crops squares of this side, if `augmentation.crop_size` says no other. An evaluation scores the pixels of the
    original label map."""
    long_side: int | None = None
    """Largest long side of a resized image."""
    augmentation: SegmentationAugmentation = field(default_factory=SegmentationAugmentation)
    """Random changes to training images."""

    def __post_init__(self) -> None:
        """Refuse sizes of nothing, and values that no label map has."""
        super().__post_init__()
        check_fields(self, "at least 1", "short_side", "long_side", prefix="data.")
        if self.long_side is not None:
            check(self.short_side is not None, "data.short_side", None, "given where data.long_side is")
        wrong = [value for value in self.ignored if not 0 <= value <= 255]
        check(not wrong, "data.ignored", wrong, "values from 0 to 255")
        if self.values is not None:
            distinct = len(set(self.values)) == len(self.values) > 0
            valid = distinct and all(0 <= value <= 255 for value in self.values)
            check(valid, "data.values", self.values, "distinct values from 0 to 255, at least one")

    @property
    def crop_side(self) -> int:
        """Side of the squares of training."""
        return self.augmentation.crop_size or self.short_side or 512


@dataclass(kw_only=True)
class SegmentationEvaluation:
    """Windows, sizes and mirroring of images in an evaluation."""

    window: int | None = None
    """Apply the model to square windows of this side, and average the logits where they overlap; to the whole image if
    not given."""
    stride: int | None = None
    """Pixels from one window to the next; two thirds of a window if not given."""
    scales: list[float] = field(default_factory=lambda: [1.0])
    """Resize the image by each of these factors, and average the probabilities."""
    flip: bool = False
    """Average the probabilities of the image and its mirror image."""

    def __post_init__(self) -> None:
        """Refuse windows that leave something out."""
        check_fields(self, "at least 1", "window", prefix="evaluation.")
        if self.stride is not None:
            check(self.window is not None, "evaluation.window", None, "given where evaluation.stride is")
            allowed = f"from 1 to the window's {self.window}, so that nothing is left out"
            check(1 <= self.stride <= (self.window or 0), "evaluation.stride", self.stride, allowed)
        check_fields(self, "numbers above 0, at least one", "scales", prefix="evaluation.")

    @property
    def steps(self) -> tuple[int, int] | None:
        """Side of a window, and pixels from one to the next; None without windows."""
        if self.window is None:
            return None
        return self.window, self.stride or max(self.window * 2 // 3, 1)


@dataclass(kw_only=True)
class SegmentationRecipe(Recipe):
    """Train a segmenter, which predicts the class of every pixel, on Encoder2D."""

    concerns: ClassVar[Concerns] = {ANYWHERE: ("task",), EVALUATION: ("evaluation",)}

    task: Literal["segmentation"] = "segmentation"
    """The task of the image app."""
    segmenter: SegmenterRecipe = field(default_factory=SegmenterRecipe)
    """The head."""
    data: SegmentationData = field(default_factory=SegmentationData)
    """The images."""
    evaluation: SegmentationEvaluation = field(default_factory=SegmentationEvaluation)
    """Windows, sizes and mirroring in an evaluation and in `predict.py`."""

    def __post_init__(self) -> None:
        """Refuse batch norm with a micro-batch of one image."""
        super().__post_init__()
        if self.has_batch_norm:
            self.micro_batch_size(1)

    @property
    def has_batch_norm(self) -> bool:
        """Whether a batch norm follows pyramid pooling, which shrinks a map to a grid of 1 x 1."""
        return self.segmenter.norm == "batch" and self.segmenter.kind == "upernet"

    def micro_batch_size(self, num_processes: int) -> int:
        """Return the number of samples of a pass, as `Recipe.micro_batch_size`.

        Raises:
            ValueError: as there; or it is one, of which a batch norm would have one value to normalize.
        """
        size = super().micro_batch_size(num_processes)
        if self.has_batch_norm and size == 1:
            raise ValueError(
                f"segmenter.norm: batch needs two pictures in a pass of a process; batch_size={self.batch_size} gives "
                "one: raise it, or take segmenter.norm: group"
            )
        return size
