"""The recipe of a video classification run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eyetoy_train import ClassificationRecipe
from eyetoy_train.concerns import ANYWHERE, DATA, EVALUATION, READING, TRAINING, Concerns
from eyetoy_train.data.source import DatasetOptions, RefuseOrSkip
from eyetoy_train.recipe import check, check_fields
from eyetoy_video.datasets import DATASETS
from eyetoy_video.transforms.params import ClipTransformParams

FOLDS = (1, 2, 3)
CROPS = (1, 3)


@dataclass(kw_only=True)
@DATASETS.as_choices
class VideoData(DatasetOptions):
    """The videos and their preprocessing."""

    concerns: ClassVar[Concerns] = {
        ANYWHERE: ("num_frames", "frame_stride", "frame_rate", "clips", "decoder"),
        DATA: ("source", "path_prefix"),
        EVALUATION: ("crops",),
        READING: ("missing",),
        TRAINING: ("temporal_jitter",),
    }

    source: str = "folder"
    """A folder of class folders, with or without train, val and test; lists of files and their labels; a set on Hugging
    Face's hub; or a set by its name. Moving digits are written to `root`. The others must be present; if one is
    missing, the message has the command that fetches it, or the page with the download."""
    root: str = "data/videos"
    """Folder of the videos; for lists, the folder of train.csv, val.csv and test.csv, or one such file; for the hub, a
    set's name."""
    path_prefix: str = ""
    """Folder of the paths in lists; the folder of the lists if not given."""
    fold: int = 1
    """The part for the test, from 1 to `folds`; the official division of UCF-101 and HMDB-51: 1, 2 or 3."""
    missing: RefuseOrSkip = "refuse"
    """Refuse: listed clips that are missing, as some of Kinetics are, stop the run. Skip: they are logged and left
    out."""
    num_frames: int = 16
    """Number of frames of a clip."""
    frame_stride: int | None = None
    """Take every n-th frame, of a random run of frames in training; spread them evenly over the file if not given."""
    frame_rate: float | None = None
    """Frames per second that `frame_stride` counts in, whatever the file has; the file's rate if not given."""
    temporal_jitter: bool = True
    """Training: take each frame at a random moment of its part of the file instead of the middle; with a stride, start
    at a random frame."""
    clips: int = 1
    """Evaluation: number of clips of a file, evenly spaced, whose probabilities are averaged."""
    crops: int = 1
    """Evaluation: number of square crops of each clip, averaged likewise: 1 in the middle, or 3 at the start, middle
    and end of its longer side."""
    decoder: Literal["auto", "torchcodec", "pyav"] = "auto"
    """Library that decodes; the choice of `auto` is logged once."""
    unreadable: RefuseOrSkip = "refuse"
    """Refuse: stop at a file that cannot be read. Skip: read all files once before the run, with the frames of an
    evaluation, and log and leave out those that cannot be read. Damage to other frames still stops the training."""
    cache: bool = False
    """Keep decoded clips in memory; with temporal jitter every epoch then has the same moments."""
    transform: ClipTransformParams = field(default_factory=ClipTransformParams)
    """Size, augmentation and normalization of the frames."""

    def __post_init__(self) -> None:
        """Refuse numbers that no clip or division has."""
        check_fields(self, "at least 1", "num_frames", "clips", "frame_stride", prefix="data.")
        check_fields(self, "above 0", "frame_rate", prefix="data.")
        if self.frame_rate is not None and self.frame_stride is None:
            raise ValueError(
                f"data.frame_rate={self.frame_rate:g} is what data.frame_stride counts in, and there is no stride; "
                "frames are spread evenly over the file: give data.frame_stride, too, or leave both out"
            )
        check(self.crops in CROPS, "data.crops", self.crops, "1 or 3")
        check(self.folds is not None or self.fold in FOLDS, "data.fold", self.fold, "1, 2 or 3")


@dataclass(kw_only=True)
class VideoClassificationRecipe(ClassificationRecipe):
    """Train a video classifier on Encoder3D."""

    data: VideoData = field(default_factory=VideoData)
    """The videos."""
