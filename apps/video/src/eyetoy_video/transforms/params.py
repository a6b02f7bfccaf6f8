"""What a recipe says of clip transforms; a module of its own, because `--help` reads it without torch."""

from dataclasses import dataclass
from typing import ClassVar

from eyetoy_train.concerns import EVALUATION, TRAINING, Concerns

MAGNITUDES = 31
"""Number of RandAugment's strengths, from 0 to 30."""


@dataclass(frozen=True)
class ClipTransformParams:
    """Size, augmentation and normalization of a clip.

    Raises:
        ValueError: a value is out of range.
    """

    concerns: ClassVar[Concerns] = {
        EVALUATION: ("size", "mean", "std"),
        TRAINING: (
            *("crop_area", "crop_ratio", "short_side", "brightness", "contrast", "flip", "rand_augment"),
            *("rand_augment_magnitude", "erasing", "mixup", "cutmix"),
        ),
    }

    size: int = 64
    """Height and width of the result, in pixels."""

    crop_area: tuple[float, float] = (0.6, 1.0)
    """Training: the smallest and largest area of the random crop, as fractions of the frame's area."""

    crop_ratio: tuple[float, float] = (0.9, 1.1)
    """Training: the smallest and largest width of the random crop, divided by its height."""

    short_side: tuple[int, int] | None = None
    """Training: instead of a crop of random area, scale a clip to a random number of pixels of its short side between
    these, and crop a random square of `size`; (256, 320) is usual for 224."""

    brightness: float = 0.3
    """Training: pixels are multiplied by a factor between 1 - brightness and 1 + brightness. 0 changes nothing."""

    contrast: float = 0.3
    """Training: like brightness, for the distance of a pixel from its frame's mean grey."""

    flip: float = 0.0
    """Training: the probability of a left-right mirror image. Keep 0 where left and right are different classes."""

    rand_augment: int = 0
    """Training: number of RandAugment's operations (Cubuk et al., 2020) on a clip, after the crop."""

    rand_augment_magnitude: int = 9
    """Their strength, from 0 to 30."""

    erasing: float = 0.0
    """Training: the probability that a rectangle is erased (Zhong et al., 2020), the same in all frames."""

    mixup: float = 0.0
    """Training: parameter of the beta distribution by which pairs of clips and their labels are mixed (Zhang et al.,
    2018); 0 for no mixing."""

    cutmix: float = 0.0
    """Training: likewise for CutMix, which pastes a part of all frames of a clip into another (Yun et al., 2019). With
    mixup as well, one of them is chosen at random for each batch."""

    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    """Mean of red, green and blue from 0 to 1, which is subtracted. The default is customary for Kinetics."""

    std: tuple[float, float, float] = (0.225, 0.225, 0.225)
    """Standard deviation of red, green and blue, by which they are divided."""

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
        """Short side in pixels to which training clips are scaled down when read; small crops are enlarged again."""
        return 2 * self.size if self.short_side is None else self.short_side[1]
