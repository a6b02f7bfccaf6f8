"""From a picture to the probabilities of its pixels: whole, through windows, at several sizes, mirrored."""

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

    Windows of one size are averaged as logits, and sizes and mirrored pictures as probabilities at the picture's own
    size, as MMSegmentation does.

    Args:
        model: from normalised pictures `[1, 3, height, width]` to logits of their size.
        image: uint8 `[3, height, width]`.
        evaluation: how to look at it.
        short_side: what the short side is resized to; not resized if not given.
        long_side: what the long side may be at most then.
    """
    views = []
    for scale in evaluation.scales:
        grid = fitted_size(tuple(image.shape[-2:]), short_side, long_side, scale)
        x = normalized(TF.resize(image, list(grid), antialias=True))[None]
        for mirrored in (False, True) if evaluation.flip else (False,):
            logits = _look(model, x.flip(-1) if mirrored else x, evaluation.steps)
            views.append(resized(logits.flip(-1) if mirrored else logits, image)[0].float().softmax(0))
    return torch.stack(views).mean(0)


def _look(model: Model, x: Tensor, steps: tuple[int, int] | None) -> Tensor:
    return model(x) if steps is None else through_windows(model, x, *steps)


def through_windows(model: Model, x: Tensor, window: int, stride: int) -> Tensor:
    """Return the mean of the logits of all square windows that see a pixel.

    The last window of a row or column ends with the picture, and overlaps the one before it by more. A picture that is
    smaller than a window along an axis is seen whole along it.

    Args:
        model: from pictures to logits of their size.
        x: pictures `[batch, channels, height, width]`.
        window: side of a window.
        stride: from one window to the next.
    """
    height, width = x.shape[-2:]
    places = [
        (..., slice(top, top + window), slice(left, left + window))
        for top in starts(height, window, stride)
        for left in starts(width, window, stride)
    ]
    times = x.new_zeros(height, width, dtype=torch.float32)
    total = torch.zeros((), device=x.device)
    for place in places:
        logits = model(x[place]).float()
        if not total.ndim:
            total = logits.new_zeros(*logits.shape[:2], height, width)
        total[place] += logits
        times[place] += 1
    return total / times


def starts(length: int, window: int, stride: int) -> list[int]:
    """Return where windows begin along an axis."""
    last = max(length - window, 0)
    return [*range(0, last, stride), last]
