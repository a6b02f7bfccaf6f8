"""Augment a training image together with its boxes and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from eyetoy_image.dense.colors import RandomColors
from eyetoy_image.detection.recipe import DetectionAugmentation

LEAST_SIDE = 1.0
"""Least side of an object in pixels; objects that are smaller after cropping and resizing are dropped."""


def resize_masks(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Return masks `[objects, height, width]` of another height and width, which lie where image and boxes do.

    torchvision's transforms take the plain kind of nearest, which moves masks by up to half a pixel against them.
    """
    resized: Tensor = TF.resize(masks, list(size), TF.InterpolationMode.NEAREST_EXACT)
    return resized


class _Resizing:
    """Resize as torchvision does, but for masks, and a very thin picture gets a side of one pixel instead of none."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        params: dict[str, Any] = super().make_params(flat_inputs)  # type: ignore[misc]  # of the other base
        return params | {"size": tuple(max(side, 1) for side in params["size"])}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.wrap(resize_masks(inpt.as_subclass(Tensor), params["size"]), like=inpt)
        return super().transform(inpt, params)  # type: ignore[misc]


class _RandomShortestSize(_Resizing, v2.RandomShortestSize):  # type: ignore[misc]  # torchvision has no types
    pass


class _ScaleJitter(_Resizing, v2.ScaleJitter):  # type: ignore[misc]
    pass


class TrainingTransform:
    """Resize an image by a random factor, and flip, crop and recolour it, as the recipe says.

    Random numbers are from torch's global generator.

    Args:
        augmentation: probabilities and limits.
        long_side: largest long side, where the short one is resized.
        short_side: the short side of an evaluation, which the augmentation varies.
    """

    def __init__(self, augmentation: DetectionAugmentation, long_side: int, short_side: int = 800) -> None:
        steps: list[Any] = []
        if augmentation.color:
            steps.append(RandomColors(p=augmentation.color))
        if augmentation.jitter_size is None:
            steps.append(_RandomShortestSize(augmentation.sides(short_side), max_size=long_side))
        else:
            square = (augmentation.jitter_size, augmentation.jitter_size)
            steps.append(_ScaleJitter(square, augmentation.jitter_scale))
            steps.append(v2.RandomCrop(square, pad_if_needed=True))
        if augmentation.flip:
            steps.append(v2.RandomHorizontalFlip(augmentation.flip))
        # Clamped before small ones are dropped: a box may be outside of the crop except for a fraction of a pixel.
        steps += [v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=LEAST_SIDE)]
        self.steps = v2.Compose(steps)

    def __call__(self, image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Transform an image and its objects.

        Args:
            image: uint8 `[3, height, width]`.
            target: `boxes` in pixels, `[objects, 4]` of left, top, right and bottom; `labels`, `[objects]`; and
                optionally `masks`, uint8 `[objects, height, width]`.

        Returns:
            the same, with the objects that are left.
        """
        grid = tuple(image.shape[-2:])
        # torchvision's transforms recognize boxes and masks by these types, and return them.
        wrapped = target | {"boxes": tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=grid)}
        if "masks" in target:
            wrapped["masks"] = tv_tensors.Mask(target["masks"])
        changed, found = self.steps(tv_tensors.Image(image), wrapped)
        # Plain tensors again: the types would otherwise go through every operation of the model.
        return changed.as_subclass(Tensor), {name: value.as_subclass(Tensor) for name, value in found.items()}
