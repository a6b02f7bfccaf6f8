"""Predict the probabilities of an image's pixels: whole, in windows, at several sizes, mirrored."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from eyetoy_image.classification.transforms import normalized
from eyetoy_image.segmentation.heads import resized
from eyetoy_image.segmentation.recipe import SegmentationEvaluation
from eyetoy_image.segmentation.transforms import fitted_size

Model = Callable[[Tensor], Tensor]


def probabilities(
    model: Model,
    image: Tensor,
    evaluation: SegmentationEvaluation,
    *,
    short_side: int | None = None,
    long_side: int | None = None,
) -> Tensor:
    """Return the probability of every class at every pixel, `[classes, height, width]`.

    Logits are averaged over windows, and probabilities over sizes and mirrored images, at the image's original size, as
    in MMSegmentation.

    Args:
        model: maps normalized images `[1, 3, height, width]` to logits of their size.
        image: uint8 `[3, height, width]`.
        evaluation: sizes, windows and mirroring.
        short_side: short side of the resized image; not resized if not given.
        long_side: largest long side of the resized image.
    """
    views = []
    for scale in evaluation.scales:
        grid = fitted_size(tuple(image.shape[-2:]), short_side, long_side, scale)
        x = normalized(TF.resize(image, list(grid), antialias=True))[None]
        for mirrored in (False, True) if evaluation.flip else (False,):
            view = x.flip(-1) if mirrored else x
            logits = model(view) if evaluation.steps is None else through_windows(model, view, *evaluation.steps)
            # Mirrored back before the mean; softmax in float32, after enlarging, so that borders stay smooth.
            views.append(resized(logits.flip(-1) if mirrored else logits, image)[0].float().softmax(0))
    return torch.stack(views).mean(0)


def through_windows(model: Model, x: Tensor, window: int, stride: int) -> Tensor:
    """Return the mean of the logits of all square windows that contain a pixel.

    The last window of a row or column ends at the border, and overlaps the one before it by more. Along an axis on
    which the image is smaller than a window, there is one window of the image's size.

    Args:
        model: maps images to logits of their size.
        x: images `[batch, channels, height, width]`.
        window: side of a window.
        stride: step from one window to the next.
    """
    height, width = x.shape[-2:]
    places = [
        (..., slice(top, top + window), slice(left, left + window))
        for top in starts(height, window, stride)
        for left in starts(width, window, stride)
    ]
    times = x.new_zeros(height, width, dtype=torch.float32)
    total = torch.zeros((), device=x.device)  # allocated after the first window, which shows the number of classes
    for place in places:
        logits = model(x[place]).float()
        if not total.ndim:
            total = logits.new_zeros(*logits.shape[:2], height, width)
        total[place] += logits
        times[place] += 1
    return total / times


def starts(length: int, window: int, stride: int) -> list[int]:
    """Return the starts of the windows along an axis; for length 10, window 4 and stride 4: 0, 4, 6."""
    last = max(length - window, 0)
    return [*range(0, last, stride), last]
