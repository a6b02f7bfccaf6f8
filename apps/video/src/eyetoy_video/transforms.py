"""Turn a clip as read from its file into what `Encoder3D` takes: for training with random changes, else without.

Whatever is drawn at random is drawn once per clip: all its frames are cropped, flipped and tinted alike, so what moves
in a transformed clip moved in the file.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2


@dataclass(frozen=True)
class ClipTransformParams:
    """What is done to a clip. Raises ValueError if a value is out of range."""

    size: int = 64
    """Height and width of the result, in pixels."""

    crop_area: tuple[float, float] = (0.6, 1.0)
    """Training: the smallest and largest area of the random crop, as fractions of the frame's area."""

    crop_ratio: tuple[float, float] = (0.9, 1.1)
    """Training: the smallest and largest width of the random crop, divided by its height."""

    brightness: float = 0.3
    """Training: pixels are multiplied by a factor between 1 - brightness and 1 + brightness. 0 changes nothing."""

    contrast: float = 0.3
    """Training: as brightness, for the distance of a pixel from its frame's mean grey."""

    flip: float = 0.0
    """Training: the probability of a left-right mirror image. Keep 0 where left and right are different classes."""

    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    """Subtracted from red, green and blue, which run from 0 to 1. The default is customary for Kinetics."""

    std: tuple[float, float, float] = (0.225, 0.225, 0.225)
    """What red, green and blue are divided by afterwards."""

    def __post_init__(self) -> None:
        if self.size < 2:  # torch cannot resize uint8 to a single pixel
            raise ValueError(f"size must be 2 pixels or more, not {self.size}")
        for name, low, high in (("crop_area", *self.crop_area), ("crop_ratio", *self.crop_ratio)):
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two numbers above 0, the smaller first, not {(low, high)}")
        if self.crop_area[1] > 1:
            raise ValueError(f"crop_area must be 1 at most, not {self.crop_area}")
        for name, value in (("brightness", self.brightness), ("contrast", self.contrast), ("flip", self.flip)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {value}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, not {self.std}")


class TrainingTransform:
    """A random crop, resized to a square; random brightness, contrast and mirroring; then the normalization.

    Maps uint8 `[num_frames, 3, height, width]` to float32 `[3, num_frames, size, size]`. Draws from torch's global
    generator.
    """

    def __init__(self, params: ClipTransformParams) -> None:
        self.params = params
        self.augment = v2.Compose(
            [
                v2.RandomResizedCrop(params.size, scale=params.crop_area, ratio=params.crop_ratio, antialias=True),
                v2.ColorJitter(brightness=params.brightness, contrast=params.contrast),
                v2.RandomHorizontalFlip(params.flip),
            ]
        )

    def __call__(self, clip: Tensor) -> Tensor:
        """Raises TypeError or ValueError if `clip` is not uint8 `[num_frames, 3, height, width]`."""
        _check_clip(clip)
        return _normalize(self.augment(clip), self.params)


class EvaluationTransform:
    """The short side resized to `size`, the square in the middle cut out, and the normalization: nothing random.

    Maps uint8 `[num_frames, 3, height, width]` to float32 `[3, num_frames, size, size]`.
    """

    def __init__(self, params: ClipTransformParams) -> None:
        self.params = params
        self.resize = v2.Compose([v2.Resize(params.size, antialias=True), v2.CenterCrop(params.size)])

    def __call__(self, clip: Tensor) -> Tensor:
        """Raises TypeError or ValueError if `clip` is not uint8 `[num_frames, 3, height, width]`."""
        _check_clip(clip)
        return _normalize(self.resize(clip), self.params)


def _check_clip(clip: Tensor) -> None:
    if clip.dtype != torch.uint8:
        raise TypeError(f"a clip must be uint8, from 0 to 255, not {clip.dtype}")
    if clip.ndim != 4 or clip.shape[1] != 3 or 0 in clip.shape:
        raise ValueError(f"a clip must be [num_frames, 3, height, width], none of them 0, not {list(clip.shape)}")


def _normalize(frames: Tensor, params: ClipTransformParams) -> Tensor:
    """[num_frames, 3, height, width] from 0 to 255 -> [3, num_frames, height, width]."""
    mean, std = torch.tensor(params.mean).view(3, 1, 1, 1), torch.tensor(params.std).view(3, 1, 1, 1)
    return (frames.transpose(0, 1).float() / 255 - mean).div_(std).contiguous()
