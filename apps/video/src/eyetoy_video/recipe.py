"""What a video classification run is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eyetoy_train import ClassificationRecipe
from eyetoy_video.transforms import ClipTransformParams


@dataclass(kw_only=True)
class VideoData:
    """Which videos, and how they go in."""

    source: Literal["moving_digits", "folder"] = "folder"
    """Digits moving over photographs, made on this machine, or any folder of class folders with video files."""
    root: str = "data/videos"
    """Where the videos lie; moving digits are written there if they are not there yet."""
    num_frames: int = 16
    """Frames of a clip, spread evenly over the file."""
    temporal_jitter: bool = True
    """Training: take each frame at a random moment of its share of the file, not in its middle."""
    unreadable: Literal["refuse", "skip"] = "refuse"
    """Files that cannot be read stop the run; or all are read once before it, as an evaluation reads them, and these
    are named and left out. Damage between the frames that it takes is found in training, and stops the run."""
    cache: bool = False
    """Keep decoded clips in memory; with temporal jitter every epoch then sees the same moments."""
    transform: ClipTransformParams = field(default_factory=ClipTransformParams)
    """Size, augmentation and normalisation of the frames."""


@dataclass(kw_only=True)
class VideoClassificationRecipe(ClassificationRecipe):
    """Train a video classifier on Encoder3D."""

    data: VideoData = field(default_factory=VideoData)
    """The videos."""
