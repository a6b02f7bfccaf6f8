"""Resize pixels to the size of the model's input, with or without random changes."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.transforms import v2

from eyetoy_image.classification.recipe import ImageAugmentation

MEAN, STD = 0.5, 0.25
"""Pixels from 0 to 1 are normalized to (pixel - MEAN) / STD."""
BLACK = -MEAN / STD
RAND_AUGMENT_LEVELS = 31
MOST_RATIO = 32
"""Ratio of the sides of an image from which on its ends are cut off before it is resized."""


def evaluation_transform(image_size: int, crop_pct: float = 1.0) -> nn.Module:
    """Return a transform of uint8 pixels, from `[channels, height, width]` to `[channels, image_size, image_size]`."""
    resize = v2.Resize(resized_side(image_size, crop_pct), antialias=True)
    return _compose([_MiddleOfThin(), resize, v2.CenterCrop(image_size)])


class _MiddleOfThin(nn.Module):
    """Cut the ends off images that are more than `MOST_RATIO` times as long as wide; others stay as they are.

    Resized whole, 5000 x 1 pixels would take 0.8 GB to become 224 x 1,120,000, of which the crop keeps the middle.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the image, or its middle."""
        height, width = x.shape[-2:]
        longest = MOST_RATIO * min(height, width)
        if max(height, width) <= longest:
            return x
        # An even number from either end, so that the middle stays where it was.
        cut = (max(height, width) - longest) // 2
        return x[..., cut : height - cut, :] if height > width else x[..., cut : width - cut]


def resized_side(image_size: int, crop_pct: float) -> int:
    """Return the short side of an evaluation's image before the crop."""
    return round(image_size / crop_pct)


def training_transform(image_size: int, augmentation: ImageAugmentation) -> nn.Module | None:
    """Return the transform of training images, or None without a crop or a policy.

    Random numbers are from torch's global generator.
    """
    steps: list[nn.Module] = []
    if augmentation.crop > 0:
        steps.append(v2.RandomResizedCrop(image_size, scale=(1 - augmentation.crop, 1.0), antialias=True))
    elif augmentation.policy != "none":
        steps.append(evaluation_transform(image_size))  # before the policy, whose shifts are fractions of the size
    if augmentation.policy == "rand_augment":
        steps.append(
            v2.RandAugment(magnitude=augmentation.rand_augment_magnitude, num_magnitude_bins=RAND_AUGMENT_LEVELS)
        )
    elif augmentation.policy == "trivial_augment":
        steps.append(v2.TrivialAugmentWide())
    return _compose(steps) if steps else None


def normalized(x: Tensor) -> Tensor:
    """Normalize uint8 pixels; the shape stays."""
    return (x.float() / 255 - MEAN) / STD


def shown(x: Tensor) -> Tensor:
    """Return uint8 pixels of normalized ones, which mixing and resampling may have left out of range."""
    return ((x * STD + MEAN).clamp(0, 1) * 255).round().byte()


def _compose(steps: list[nn.Module]) -> nn.Module:
    composed: nn.Module = v2.Compose(steps)
    return composed
