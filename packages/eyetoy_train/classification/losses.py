"""Losses that PyTorch does not have."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def weighted_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy of a batch whose samples are weighed by their class, a scalar.

    Without smoothing this is `F.cross_entropy(logits, target, weight=weights)`: the mean over the sum of the weights,
    or, with probabilities, over the samples. With smoothing it is not, because that weighs the parts of the smoothed
    target by their own classes. Of 500, 50 and 10 samples in three classes, with balanced weights and a smoothing of
    0.1, a sample of the first would then have the target 0.32, 0.11 and 0.57: the best answer were the third class.
    Here a sample has one weight, and its target stays 0.93, 0.03 and 0.03.

    Args:
        logits: `[batch, classes]`.
        target: numbers of classes, `[batch]`, or probabilities `[batch, classes]`.
        weights: of the classes, `[classes]`.
        smoothing: share of the target that is spread over all classes.
    """
    log_probabilities = logits.float().log_softmax(-1)
    probabilities = F.one_hot(target, len(weights)) if target.ndim == 1 else target
    weighed = probabilities * weights  # [batch, classes]
    total = weighed.sum() if target.ndim == 1 else len(target)
    spread = weighed.sum(-1, keepdim=True) / len(weights)
    return -(((1 - smoothing) * weighed + smoothing * spread) * log_probabilities).sum() / total
