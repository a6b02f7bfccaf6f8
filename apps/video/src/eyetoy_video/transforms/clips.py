"""Turn a clip as read from its file into the input of `Encoder3D`, with random changes in training.

Random numbers are drawn once per clip: all frames are cropped, flipped and tinted alike, so that a transformed clip
shows only the motion of the file.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from eyetoy_video.transforms.params import MAGNITUDES, ClipTransformParams


class TrainingTransform:
    """Crop, augment, normalize and erase a clip at random.

    Maps uint8 `[num_frames, 3, height, width]` to float32 `[3, num_frames, size, size]`. Random numbers are from
    torch's global generator.
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
        # After the normalization, so that the rectangle is 0, the mean.
        self.erase = v2.RandomErasing(params.erasing) if params.erasing else nn.Identity()

    def __call__(self, clip: Tensor) -> Tensor:
        """Transform a clip.

        Raises:
            TypeError: `clip` is not uint8.
            ValueError: `clip` is not `[num_frames, 3, height, width]`.
        """
        _check_clip(clip)
        x: Tensor = self.erase(_normalize(self.augment(clip), self.params))
        return x


class EvaluationTransform:
    """Resize the short side to `size`, crop squares and normalize, without randomness.

    Maps uint8 `[clips * num_frames, 3, height, width]` to float32 `[3, num_frames, size, size]`, the square in the
    middle; or, with several clips or crops, to `[clips * crops, 3, num_frames, size, size]`.

    Args:
        params: size and normalization.
        clips: number of clips, one after another in the input.
        crops: 1 for the square in the middle, 3 for those at the start, the middle and the end of the longer side.
    """

    def __init__(self, params: ClipTransformParams, *, clips: int = 1, crops: int = 1) -> None:
        self.params = params
        self.clips = clips
        self.places = (0.5,) if crops == 1 else (0.0, 0.5, 1.0)
        self.resize = v2.Resize(params.size, antialias=True)

    def __call__(self, clip: Tensor) -> Tensor:
        """Transform a clip.

        Raises:
            TypeError: `clip` is not uint8.
            ValueError: `clip` is not `[clips * num_frames, 3, height, width]`.
        """
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
        # The short side equals `size`, so that only the offset along the longer side is not 0.
        top, left = (round((side - size) * place) for side in frames.shape[-2:])
        return frames[..., top : top + size, left : left + size]


class ClipMixing:
    """Mix the clips and labels of a batch in pairs by mixup or CutMix, or with both by one of them at random.

    Random numbers are from torch's global generator, drawn once for all clips. Each process mixes its own clips.
    """

    def __init__(self, params: ClipTransformParams, num_classes: int) -> None:
        kinds = ((v2.MixUp, params.mixup), (v2.CutMix, params.cutmix))
        mixes = [mix(alpha=alpha, num_classes=num_classes) for mix, alpha in kinds if alpha]
        self.mix = v2.RandomChoice(mixes) if mixes else None

    def __call__(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix clips `[batch, 3, num_frames, size, size]` and labels `[batch]`.

        Returns:
            the clips and probabilities `[batch, classes]`; both unchanged without mixup and CutMix.
        """
        if self.mix is None:
            return clips, labels
        # As a Video: torchvision takes a plain tensor of 5 axes for no image, and CutMix would not know its size.
        mixed, probabilities = self.mix(tv_tensors.Video(clips), labels)
        return mixed.as_subclass(Tensor), probabilities


def _random_crop(params: ClipTransformParams) -> list[nn.Module]:
    if params.short_side is None:
        return [v2.RandomResizedCrop(params.size, scale=params.crop_area, ratio=params.crop_ratio, antialias=True)]
    low, high = params.short_side
    return [_RandomShortestSize(list(range(low, high + 1)), antialias=True), v2.RandomCrop(params.size)]


class _RandomShortestSize(v2.RandomShortestSize):  # type: ignore[misc]  # torchvision has no types
    """Makes the short side no shorter than the least one asked for, where torchvision rounds it down by a pixel."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        params: dict[str, Any] = super().make_params(flat_inputs)
        return params | {"size": tuple(max(side, min(self.min_size)) for side in params["size"])}


def _check_clip(clip: Tensor) -> None:
    if clip.dtype != torch.uint8:
        raise TypeError(f"a clip must be uint8, from 0 to 255, not {clip.dtype}")
    if clip.ndim != 4 or clip.shape[1] != 3 or 0 in clip.shape:
        raise ValueError(f"a clip must be [num_frames, 3, height, width], none of them 0, not {list(clip.shape)}")


def _normalize(frames: Tensor, params: ClipTransformParams) -> Tensor:
    """Normalize frames `[num_frames, 3, height, width]` from 0 to 255; return `[3, num_frames, height, width]`."""
    mean, std = torch.tensor(params.mean).view(3, 1, 1, 1), torch.tensor(params.std).view(3, 1, 1, 1)
    # div_ in place: the memory of a float clip is four times that of its pixels, and workers hold several.
    return (frames.transpose(0, 1).float() / 255 - mean).div_(std).contiguous()


def normalized_clips(pixels: Tensor, params: ClipTransformParams) -> Tensor:
    """Return the input of `Encoder3D`, `[batch, 3, num_frames, height, width]`, by operations that can be exported.

    Args:
        pixels: from 0 to 255, `[batch, num_frames, height, width, 3]`.
        params: mean and standard deviation.
    """
    x = (pixels.float() / 255 - torch.tensor(params.mean)) / torch.tensor(params.std)
    return x.movedim(-1, 1).contiguous()
