"""Losses over the pixels that have a class."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from eyetoy_image.segmentation.datasets.label_maps import IGNORED

LEAST_PROBABILITY = 1e-30
SMOOTH = 1.0
"""Pixels added to numerator and denominator, so that an absent class has a coefficient of 1 instead of 0 / 0."""


def labelled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over the pixels that have a class; 0 if none has.

    Args:
        logits: `[batch, classes, height, width]`.
        labels: uint8 `[batch, height, width]`; 255 is ignored.
    """
    # Not reduction="mean", which is 0 / 0 for a crop in which every pixel is ignored.
    total = F.cross_entropy(logits.float(), labels.long(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def summed_cross_entropy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of an image summed over the pixels that have a class.

    Args:
        probabilities: `[classes, height, width]`.
        labels: uint8 `[height, width]`; 255 is ignored.
    """
    known = labels != IGNORED
    chosen = probabilities.gather(0, labels.long().masked_fill(~known, 0)[None])[0]  # of the true class
    # A mean over views may round to 0, whose logarithm would make the loss of the whole set infinite.
    return -(chosen[known].float().clamp(min=LEAST_PROBABILITY).log()).sum()


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 minus the mean of the classes' soft Dice coefficients (Milletari et al., V-Net, 2016, section 3).

    A class's coefficient is computed over all pixels of the batch together, without squares in its denominator.

    Args:
        logits: `[batch, classes, height, width]`.
        labels: uint8 `[batch, height, width]`; 255 is ignored.
    """
    known = (labels != IGNORED)[:, None]  # [B, 1, H, W]
    probabilities = logits.float().softmax(1) * known
    # Ignored pixels are 255, which one_hot refuses: they become class 0 first, and zeros after it.
    truth = F.one_hot(labels.long() * known[:, 0], logits.shape[1]).movedim(-1, 1) * known  # [B, classes, H, W]
    both = (probabilities * truth).sum((0, 2, 3))
    sizes = (probabilities + truth).sum((0, 2, 3))
    return 1 - ((2 * both + SMOOTH) / (sizes + SMOOTH)).mean()
