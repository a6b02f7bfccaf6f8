"""Sizes of anchors that fit the boxes of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eyetoy_image.detection.datasets.objects import Picture
from eyetoy_image.detection.recipe import DetectionData
from eyetoy_image.detection.transforms import LEAST_SIDE

MOST_SIZES = 10_000
"""Largest number of sizes that are clustered; of more, as many evenly spaced quantiles are."""
ROUNDS = 100
LEAST_STRIDES = 2
"""Smallest anchor of a level in multiples of the level's stride. In the middle of four of them, a box of
that size still has an intersection over union of 0.39 with each; at one stride it would be 0.14."""


def fit_anchors(pictures: Sequence[Picture], data: DetectionData, strides: Sequence[int]) -> list[int]:
    """Return an anchor size for each level, fine to coarse: the centres of the clusters of the training boxes' sizes.

    The size of a box is the square root of its area, in pixels of the resized image. Clusters are those of k-means over
    its logarithm: an anchor that is twice as large fits as badly as one that is half as large. A level's anchors are at
    least `LEAST_STRIDES` times as large as the distance between two of them: smaller boxes could lie between them, so
    they are left to the finer levels.

    Args:
        pictures: the training set.
        data: the recipe's part about the data, for the sizes of training images.
        strides: of the levels in pixels, fine to coarse; each at least that of the one before.

    Raises:
        ValueError: there is no box.
    """
    sizes = np.sort(_training_sizes(pictures, data))
    if not len(sizes):
        raise ValueError("detector.anchor_sizes: auto needs boxes to fit, and no training picture has one; give sizes")
    levels = np.log(np.quantile(sizes, np.linspace(0, 1, min(len(sizes), MOST_SIZES))))
    num_sizes, least = len(strides), np.log(LEAST_STRIDES * np.array(strides))
    centres = np.maximum(np.quantile(levels, (np.arange(num_sizes) + 0.5) / num_sizes), least)
    for _ in range(ROUNDS):
        # The nearest of sorted centres changes halfway between two of them.
        nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, levels)
        counts = np.bincount(nearest, minlength=num_sizes)
        means = np.bincount(nearest, levels, num_sizes) / counts.clip(1)
        moved = np.maximum(np.sort(np.where(counts > 0, means, centres)), least)
        if np.allclose(moved, centres, rtol=0, atol=1e-6):
            break
        centres = moved
    return [max(round(float(size)), 1) for size in np.exp(centres)]


def _training_sizes(pictures: Sequence[Picture], data: DetectionData) -> NDArray[np.float64]:
    """Return the sizes of all boxes that are learned, at every size of training."""
    parts = [np.zeros(0)]
    for picture in pictures:
        boxes = [one.content["bbox"] for one in picture.annotations if not one.is_crowd]
        areas = np.array([width * height for _, _, width, height in boxes], dtype=np.float64)
        parts += [np.sqrt(areas) * factor for factor in _factors(picture, data)]
    sizes = np.concatenate(parts)
    return sizes[sizes >= LEAST_SIDE]  # smaller objects are dropped in training


def _factors(picture: Picture, data: DetectionData) -> list[float]:
    """Return the factors by which training may resize an image."""
    short, long = sorted((picture.height, picture.width))
    augmentation = data.augmentation
    if augmentation.jitter_size is not None:
        low, high = augmentation.jitter_scale
        return [scale * augmentation.jitter_size / long for scale in (low, (low + high) / 2, high)]
    return [min(side / short, data.long_side / long) for side in augmentation.sides(data.short_side)]
