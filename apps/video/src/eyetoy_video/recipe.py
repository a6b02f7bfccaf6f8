"""What a video classification run is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eyetoy_train import ClassificationRecipe
from eyetoy_train.data.source import DatasetOptions, RefuseOrSkip
from eyetoy_train.recipe import check, check_fields
from eyetoy_video.datasets import DATASETS
from eyetoy_video.transforms.clips import ClipTransformParams

FOLDS = (1, 2, 3)
CROPS = (1, 3)


@dataclass(kw_only=True)
@DATASETS.as_choices
class VideoData(DatasetOptions):
    """Which videos, and how they go in."""

    source: str = "folder"
    """A folder of class folders, with or without train, val and test; lists of files and their labels; a set on Hugging
    Face's hub; or a set by its name. Moving digits are written to `root`. The others must be present; if one is
    missing, the message gives the command that fetches it, or the page that has it."""
    root: str = "data/videos"
    """Folder of the videos; for lists, the folder of train.csv, val.csv and test.csv, or one such file; for the hub, a
    set's name."""
    path_prefix: str = ""
    """What stands before the paths in lists; their own folder if not given."""
    fold: int = 1
    """Which of the three official divisions of UCF-101 and HMDB-51."""
    missing: RefuseOrSkip = "refuse"
    """Clips that lists name and that are not there, as some of Kinetics are not: stop with their number and names, or
    leave them out and say so."""
    num_frames: int = 16
    """Frames of a clip."""
    frame_stride: int | None = None
    """Take every n-th frame, of a random run of frames in training; spread them evenly over the file if not given."""
    frame_rate: float | None = None
    """Frames per second that `frame_stride` counts in, whatever the file has; the file's own if not given."""
    temporal_jitter: bool = True
    """Training: take each frame at a random moment of its share of the file, not in its middle; or, with a stride,
    begin anywhere, not in the middle."""
    clips: int = 1
    """Evaluation: clips of a file, spread evenly over it, whose probabilities are averaged."""
    crops: int = 1
    """Evaluation: squares of each clip, likewise: 1 in the middle, or 3 at the start, middle and end of its longer
    side."""
    decoder: Literal["auto", "torchcodec", "pyav"] = "auto"
    """Library that decodes; what `auto` chooses is said once."""
    unreadable: RefuseOrSkip = "refuse"
    """Stop at a file that cannot be read; or read all files once before the run, as an evaluation reads them, name
    these and leave them out. Damage between the frames that it takes is found in training, and stops the run."""
    cache: bool = False
    """Keep decoded clips in memory; with temporal jitter every epoch then sees the same moments."""
    transform: ClipTransformParams = field(default_factory=ClipTransformParams)
    """Size, augmentation and normalisation of the frames."""

    def __post_init__(self) -> None:
        """Refuse numbers that no clip or division has."""
        check_fields(self, "at least 1", "num_frames", "clips", "frame_stride", prefix="data.")
        check_fields(self, "above 0", "frame_rate", prefix="data.")
        check(self.crops in CROPS, "data.crops", self.crops, "1 or 3")
        check(self.fold in FOLDS, "data.fold", self.fold, "1, 2 or 3")


@dataclass(kw_only=True)
class VideoClassificationRecipe(ClassificationRecipe):
    """Train a video classifier on Encoder3D."""

    data: VideoData = field(default_factory=VideoData)
    """The videos."""
