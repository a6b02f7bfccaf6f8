"""Which classes a detector takes for which, counted by matching its boxes with the true ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

MATCHED = 0.5
"""Least overlap (intersection over union) of a box and a true one."""


def count_confusion(
    truths: Iterable[Mapping[str, Any]],
    found: Iterable[Mapping[str, Any]],
    categories: Sequence[int],
    *,
    least_score: float,
    least_overlap: float = MATCHED,
) -> Tensor:
    """Return how often each class was taken for each, int64 `[truth, prediction]`; the last of both is the background.

    On each image the surest object chooses first, and takes the free true object, of any class, that its box overlaps
    most. A true object that none takes is background to the detector; an object that takes none was found in the
    background. An object that takes none is left out if half of it lies on a crowd, as in COCO's evaluation.

    Args:
        truths: `image` and `annotations` of each image, in COCO's format.
        found: the objects of all images, in COCO's results format.
        categories: ids of the classes, in the order of their labels.
        least_score: of an object that counts.
        least_overlap: of a box and the true one that it takes.
    """
    place = {category: number for number, category in enumerate(categories)}
    nothing = len(categories)
    confusion = torch.zeros(nothing + 1, nothing + 1, dtype=torch.long)
    by_image = defaultdict[Any, list[Mapping[str, Any]]](list)
    for one in found:
        if one["score"] >= least_score:
            by_image[one["image_id"]].append(one)
    for truth in truths:
        objects = [one for one in truth["annotations"] if not one["iscrowd"]]
        crowds = [one for one in truth["annotations"] if one["iscrowd"]]
        sure = sorted(by_image[truth["image"]["id"]], key=lambda one: -one["score"])
        overlaps, on_crowds = overlaps_of(sure, objects), overlaps_of(sure, crowds)
        free = np.ones(len(objects), dtype=bool)
        for one, overlap, on_crowd in zip(sure, overlaps, on_crowds, strict=True):
            best = int(np.argmax(np.where(free, overlap, -1.0))) if free.any() else None
            if best is not None and overlap[best] >= least_overlap:
                free[best] = False
                confusion[place[objects[best]["category_id"]], place[one["category_id"]]] += 1
            elif not (on_crowd >= least_overlap).any():
                confusion[nothing, place[one["category_id"]]] += 1
        for number in np.flatnonzero(free):
            confusion[place[objects[number]["category_id"]], nothing] += 1
    return confusion


def overlaps_of(found: Sequence[Mapping[str, Any]], objects: Sequence[Mapping[str, Any]]) -> Any:
    """Return the overlaps of the boxes of objects, `[found, objects]`; with a crowd, the share of the box inside it."""
    if not found or not objects:
        return np.zeros((len(found), len(objects)))  # pycocotools returns an empty list
    boxes = [np.array([one["bbox"] for one in many], dtype=np.float64) for many in (found, objects)]
    return coco_mask.iou(*boxes, [one["iscrowd"] for one in objects])
