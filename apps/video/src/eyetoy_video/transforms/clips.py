"""Turn a clip as read from its file into what `Encoder3D` takes: for training with random changes, else without.

Whatever is drawn at random is drawn once per clip: all its frames are cropped, flipped and tinted alike, so what moves
in a transformed clip moved in the file.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

MAGNITUDES = 31
"""How many strengths RandAugment has, from 0 to 30."""


@dataclass(frozen=True)
class ClipTransformParams:
    """What is done to a clip. Raises ValueError if a value is out of range."""

    size: int = 64
    """Height and width of the result, in pixels."""

    crop_area: tuple[float, float] = (0.6, 1.0)
    """Training: the smallest and largest area of the random crop, as fractions of the frame's area."""

    crop_ratio: tuple[float, float] = (0.9, 1.1)
    """Training: the smallest and largest width of the random crop, divided by its height."""

    short_side: tuple[int, int] | None = None
    """Training: in place of a crop of random area, scale a clip until its short side has a random number of pixels
    between these, and take any square of `size` from it; (256, 320) is usual for 224."""

    brightness: float = 0.3
    """Training: pixels are multiplied by a factor between 1 - brightness and 1 + brightness. 0 changes nothing."""

    contrast: float = 0.3
    """Training: as brightness, for the distance of a pixel from its frame's mean grey."""

    flip: float = 0.0
    """Training: the probability of a left-right mirror image. Keep 0 where left and right are different classes."""

    rand_augment: int = 0
    """Training: how many of RandAugment's operations (Cubuk et al., 2020) a clip undergoes, after the crop."""

    rand_augment_magnitude: int = 9
    """Their strength, from 0 to 30."""

    erasing: float = 0.0
    """Training: the probability that a rectangle is erased (Zhong et al., 2020), the same in all frames."""

    mixup: float = 0.0
    """Training: mix pairs of clips and their labels, in shares of the beta distribution with this parameter (Zhang et
    al., 2018); 0 for never."""

    cutmix: float = 0.0
    """Training: paste a part of all frames of a clip into another (Yun et al., 2019), likewise; where mixup is given
    too, one of them is chosen at random."""

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
        if self.short_side and not self.size <= self.short_side[0] <= self.short_side[1]:
            raise ValueError(f"short_side must be two numbers, {self.size} <= low <= high, not {self.short_side}")
        self._check("from 0 to 1", 0, 1, "brightness", "contrast", "flip", "erasing")
        self._check("from 0 to 30", 0, MAGNITUDES - 1, "rand_augment_magnitude")
        self._check("0 or more", 0, float("inf"), "rand_augment", "mixup", "cutmix")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, not {self.std}")

    def _check(self, right: str, low: float, high: float, *names: str) -> None:
        for name in names:
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be {right}, not {getattr(self, name)}")

    @property
    def largest_side(self) -> int:
        """The most pixels of a short side that a training clip can use; a crop of random area may be enlarged."""
        return 2 * self.size if self.short_side is None else self.short_side[1]


class TrainingTransform:
    """A random crop, random changes of what it shows, the normalization, and an erased rectangle.

    Maps uint8 `[num_frames, 3, height, width]` to float32 `[3, num_frames, size, size]`. Draws from torch's global
    generator.
    """

    def __init__(self, params: ClipTransformParams) -> None:
        self.params = params
        steps = [
            *_random_crop(params),
            v2.ColorJitter(brightness=params.brightness, contrast=params.contrast),
            v2.RandomHorizontalFlip(params.flip),
        ]
        if params.rand_augment:
            steps.append(v2.RandAugment(params.rand_augment, params.rand_augment_magnitude, MAGNITUDES))
        self.augment = v2.Compose(steps)
        self.erase = v2.RandomErasing(params.erasing) if params.erasing else nn.Identity()

    def __call__(self, clip: Tensor) -> Tensor:
        """Raises TypeError or ValueError if `clip` is not uint8 `[num_frames, 3, height, width]`."""
        _check_clip(clip)
        x: Tensor = self.erase(_normalize(self.augment(clip), self.params))
        return x


class EvaluationTransform:
    """The short side resized to `size`, squares cut out, and the normalization: nothing random.

    Maps uint8 `[clips * num_frames, 3, height, width]` to float32 `[3, num_frames, size, size]`, the square in the
    middle; or, where there are several clips or several crops of them, to `[clips * crops, 3, num_frames, size, size]`.

    Args:
        params: size and normalization.
        clips: how many clips are one after another in what is given.
        crops: 1 for the square in the middle, 3 for those at the start, the middle and the end of the longer side.
    """

    def __init__(self, params: ClipTransformParams, *, clips: int = 1, crops: int = 1) -> None:
        self.params = params
        self.clips = clips
        self.places = (0.5,) if crops == 1 else (0.0, 0.5, 1.0)
        self.resize = v2.Resize(params.size, antialias=True)

    def __call__(self, clip: Tensor) -> Tensor:
        """Raises TypeError or ValueError if `clip` is not uint8 `[clips * num_frames, 3, height, width]`."""
        _check_clip(clip)
        frames = self.resize(clip)
        views = [
            _normalize(self._crop(part, place), self.params)
            for part in frames.chunk(self.clips)
            for place in self.places
        ]
        return views[0] if len(views) == 1 else torch.stack(views)

    def _crop(self, frames: Tensor, place: float) -> Tensor:
        size = self.params.size
        top, left = (round((side - size) * place) for side in frames.shape[-2:])
        return frames[..., top : top + size, left : left + size]


class ClipMixing:
    """Mixup, CutMix or, where both are asked for, one of them at random: a batch's clips and labels mixed in pairs.

    Draws from torch's global generator, once for all clips: each process mixes what it has.
    """

    def __init__(self, params: ClipTransformParams, num_classes: int) -> None:
        shares = ((v2.MixUp, params.mixup), (v2.CutMix, params.cutmix))
        mixes = [mix(alpha=alpha, num_classes=num_classes) for mix, alpha in shares if alpha]
        self.mix = v2.RandomChoice(mixes) if mixes else None

    def __call__(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Map `[batch, 3, num_frames, size, size]` and `[batch]` to the same and probabilities `[batch, classes]`.

        They stay what they are if nothing is asked for.
        """
        if self.mix is None:
            return clips, labels
        mixed, probabilities = self.mix(tv_tensors.Video(clips), labels)
        return mixed.as_subclass(Tensor), probabilities


def _random_crop(params: ClipTransformParams) -> list[nn.Module]:
    if params.short_side is None:
        return [v2.RandomResizedCrop(params.size, scale=params.crop_area, ratio=params.crop_ratio, antialias=True)]
    low, high = params.short_side
    return [v2.RandomShortestSize(list(range(low, high + 1)), antialias=True), v2.RandomCrop(params.size)]


def _check_clip(clip: Tensor) -> None:
    if clip.dtype != torch.uint8:
        raise TypeError(f"a clip must be uint8, from 0 to 255, not {clip.dtype}")
    if clip.ndim != 4 or clip.shape[1] != 3 or 0 in clip.shape:
        raise ValueError(f"a clip must be [num_frames, 3, height, width], none of them 0, not {list(clip.shape)}")


def _normalize(frames: Tensor, params: ClipTransformParams) -> Tensor:
    """[num_frames, 3, height, width] from 0 to 255 -> [3, num_frames, height, width]."""
    mean, std = torch.tensor(params.mean).view(3, 1, 1, 1), torch.tensor(params.std).view(3, 1, 1, 1)
    return (frames.transpose(0, 1).float() / 255 - mean).div_(std).contiguous()


def normalized_clips(pixels: Tensor, params: ClipTransformParams) -> Tensor:
    """Return what `Encoder3D` takes, `[batch, 3, num_frames, height, width]`, of pixels from 0 to 255.

    They are `[batch, num_frames, height, width, 3]`. An exporter can trace it.
    """
    x = (pixels.float() / 255 - torch.tensor(params.mean)) / torch.tensor(params.std)
    return x.movedim(-1, 1).contiguous()
