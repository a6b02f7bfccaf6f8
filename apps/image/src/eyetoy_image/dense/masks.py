"""Read and write masks of COCO's format: polygons, or run lengths (RLE), compressed or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

MOST_BITS = 40
"""Most bits of a run length; no image is so large."""
Rle = dict[str, Any]
"""`size`, which is height and width, and `counts`, compressed run lengths as ASCII text."""


class BadMaskError(ValueError):
    """A mask is invalid. The message says why."""


class MaskSizeError(BadMaskError):
    """A mask and its image have different sizes."""


class PolygonError(BadMaskError):
    """A polygon is invalid."""


def read_mask(segmentation: Any, height: int, width: int) -> Rle:
    """Return a mask as compressed run lengths.

    Args:
        segmentation: a list of polygons, each a list of alternating x and y; or `size` and `counts`, a list of run
            lengths or compressed ones.
        height: height of the image.
        width: width of the image.

    Raises:
        PolygonError: a polygon has fewer than three points, or a coordinate that is not a number or far off the image.
        MaskSizeError: the run lengths are for an image of another size.
        BadMaskError: the mask is neither, or the run lengths are invalid.
    """
    if isinstance(segmentation, Mapping):
        return _read_runs(segmentation, height, width)
    check_polygons(segmentation, height, width)
    return _as_text(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))


def check_polygons(polygons: Any, height: int, width: int) -> None:
    """Check polygons without drawing them.

    Raises:
        PolygonError: see `read_mask`.
        BadMaskError: `polygons` is not a list of polygons.
    """
    if not isinstance(polygons, list) or not polygons:
        raise BadMaskError(f"a mask must be a list of polygons or run lengths; got {_short(polygons)}")
    side = max(height, width)
    for polygon in polygons:
        if not isinstance(polygon, list):
            raise PolygonError(f"a polygon must be a list of numbers; got {_short(polygon)}")
        if len(polygon) < 6 or len(polygon) % 2:
            raise PolygonError(f"a polygon must have x and y of three points or more; got {len(polygon)} numbers")
        wrong = [value for value in polygon if not is_number(value)]
        if wrong:
            raise PolygonError(f"a polygon must have finite numbers alone; got {_short(wrong[0])}")
        # pycocotools allocates memory for every pixel of an outline: one coordinate of 1e9 would take gigabytes.
        far = next((value for value in polygon if not -side <= value <= 2 * side), None)
        if far is not None:
            raise PolygonError(f"a polygon must lie near its picture of {width} x {height} pixels; got {_short(far)}")


def is_number(value: object) -> bool:
    """Return whether a value of a JSON file is a finite number."""
    # bool is an int in Python, and Python's JSON reads NaN and Infinity.
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def decode(masks: Sequence[Rle], height: int, width: int) -> Tensor:
    """Return masks as uint8 `[masks, height, width]`, of zeros and ones."""
    if not masks:
        return torch.zeros(0, height, width, dtype=torch.uint8)
    pixels = coco_mask.decode(list(masks))  # [height, width, masks]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def encode(masks: Tensor) -> list[Rle]:
    """Return masks, bool or uint8 `[masks, height, width]`, as run lengths."""
    if not len(masks):
        return []
    # Runs go down the columns, so pycocotools asks for Fortran's order; it refuses other arrays.
    pixels = np.asfortranarray(masks.cpu().numpy().astype(np.uint8).transpose(1, 2, 0))
    return [_as_text(runs) for runs in coco_mask.encode(pixels)]


def area(mask: Rle) -> int:
    """Return the number of pixels of a mask."""
    return int(coco_mask.area(mask))


def _read_runs(runs: Mapping[str, Any], height: int, width: int) -> Rle:
    size, counts = runs.get("size"), runs.get("counts")
    if size != [height, width]:
        raise MaskSizeError(f"its size is {_short(size)}, and its picture's {[height, width]}")
    if not isinstance(counts, list | str):
        raise BadMaskError(f"its counts must be run lengths, in a list or compressed; got {_short(counts)}")
    # Checked here, since pycocotools, which is written in C, trusts run lengths.
    lengths = _decompress(counts) if isinstance(counts, str) else counts
    if not all(isinstance(length, int) and length >= 0 for length in lengths) or sum(lengths) != height * width:
        raise BadMaskError(f"its run lengths must add up to the picture's {height * width} pixels")
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts}
    return _as_text(coco_mask.frPyObjects(dict(runs), height, width))


def _decompress(counts: str) -> list[int]:
    """Return the run lengths of pycocotools' compressed text, which itself accepts a truncated text.

    Every character has six bits: five of a number, the lowest first, and one that is set if the number continues. From
    the fourth number on, the text has the difference to the last but one.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > MOST_BITS:
            raise BadMaskError(f"its compressed run lengths have no number at {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << shift - 4  # the highest bit is the sign
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift:
        raise BadMaskError("its compressed run lengths end in the middle of a number")
    return lengths


def _as_text(runs: Any) -> Rle:
    return {"size": [int(length) for length in runs["size"]], "counts": runs["counts"].decode("ascii")}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
