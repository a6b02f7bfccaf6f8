"""Describe a detector for an export, and compare the exported one with the trained one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eyetoy_image.classification.transforms import MEAN, STD
from eyetoy_image.dense.examples import example_pictures
from eyetoy_image.detection.model import Detector, InputTransform
from eyetoy_image.detection.portable import DIVISOR, PortableDetector
from eyetoy_image.io.background import Background, described
from eyetoy_train.export.portable import ExportInput, ExportModel

MASK_THRESHOLD = 0.5
"""Probability from which on a pixel is the object's, as in `Detection.find`."""
OBJECTS: Mapping[str, tuple[str, ...]] = {
    "boxes": ("objects", "left, top, right, bottom"),
    "labels": ("objects",),
    "scores": ("objects",),
    "masks": ("objects", "height", "width"),
}


def export_detector(
    detector: Detector,
    size: tuple[int, int] | None = None,
    check_on: Sequence[Path] = (),
    *,
    background: Background = "white",
) -> ExportModel:
    """Return a detector as it is exported, from uint8 pixels of any size to its objects, the best first.

    Args:
        detector: the trained detector, in evaluation mode.
        size: height and width of the canvas; by default a square on which every resized picture has room.
        check_on: pictures to compare it on, besides composed ones.
        background: the colour on which transparent pictures are laid, for the description.

    Raises:
        ValueError: a side of the canvas is no multiple of 32.
    """
    rcnn: Any = detector.rcnn
    short, long = rcnn.transform.min_size[-1], rcnn.transform.max_size
    height, width = canvas = size or (_rounded_up(long), _rounded_up(long))
    if height % DIVISOR or width % DIVISOR:
        fitting = f"{_rounded_up(height)}x{_rounded_up(width)}"
        raise ValueError(f"--sizes of a detector must be multiples of {DIVISOR}; got {height}x{width}: take {fitting}")
    grids = [canvas, (height // 2 + 1, width * 2 // 3), (height // 3 + 7, width // 3), (height * 2, width + 5)]
    given = ExportInput(
        name="pixels",
        axes=("height", "width", "channels"),
        varying=("height", "width"),
        examples=example_pictures(grids, check_on),
        prepare=lambda x: {"input": x},
        preprocessing={
            "mode": "RGB",
            "background": described(background),
            "canvas": list(canvas),
            "short_side": short,
            "long_side": long,
            "in_the_model": f"bilinear resizing to the short side, at most to the long side and onto the canvas; "
            f"scaling to 0 to 1, mean {MEAN}, std {STD}; padding with zeros",
        },
    )
    names = list(OBJECTS)[: 4 if rcnn.roi_heads.has_mask() else 3]
    first, *more = names
    heads = rcnn.roi_heads
    return ExportModel(
        PortableDetector(detector, canvas).eval(),
        given,
        first,
        OBJECTS[first],
        more_outputs={name: OBJECTS[name] for name in more},
        original=_original(rcnn, canvas, names),
        differences=object_differences,
        facts={
            "labels": "from 1 on, in the order of the classes",
            "thresholds": {"score": heads.score_thresh, "overlap": heads.nms_thresh, "mask": MASK_THRESHOLD},
            "most_objects": heads.detections_per_img,
        },
    )


def _rounded_up(side: int) -> int:
    return -(-side // DIVISOR) * DIVISOR


def _original(rcnn: Any, canvas: tuple[int, int], names: Sequence[str]) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return the detector as it was trained, but for the size to which it pads a picture."""
    padding = copy(rcnn)
    padding._modules = dict(rcnn._modules)  # its own dict, of the same layers
    padding.transform = CanvasTransform(rcnn.transform, canvas)

    def find(pixels: Tensor) -> Sequence[Tensor]:
        (found,) = padding([pixels.movedim(-1, 0).float() / 255])
        return [found[name][:, 0] if name == "masks" else found[name] for name in names]

    return find


class CanvasTransform(InputTransform):
    """The detector's preprocessing, which pads to a canvas instead of the next multiple of 32, and fits into it."""

    def __init__(self, given: InputTransform, canvas: tuple[int, int]) -> None:
        super().__init__((given.min_size[-1], given.max_size))
        self.canvas, self.longest = canvas, given.max_size
        self.eval()

    def resize(self, image: Tensor, target: Any = None) -> Any:
        """Resize a picture `[3, height, width]`."""
        sides = image.shape[-2:]
        fitting = min(room / side for room, side in zip(self.canvas, sides, strict=True)) * max(sides)
        self.max_size = min(self.longest, fitting)
        return super().resize(image, target)

    def batch_images(self, images: list[Tensor], size_divisible: int = DIVISOR) -> Tensor:
        """Pad pictures at the right and at the bottom."""
        height, width = self.canvas
        return torch.stack([F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in images])


def object_differences(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> Tensor:
    """Return the difference of every object from the nearest one of the same label, infinite if there is none.

    Boxes differ relative to the largest coordinate. The order does not count: of equal scores, rounding decides it.

    Args:
        expected: boxes, labels, scores and perhaps masks.
        actual: likewise.

    Returns:
        one number for each expected object, and one for each that is found besides.
    """
    scale = max(float(boxes.max()) if boxes.numel() else 1.0 for boxes in (expected[0], actual[0]))
    far = (expected[0][:, None] - actual[0]).abs().amax(-1) / max(scale, 1.0)  # [expected, actual]
    far = torch.maximum(far, (expected[2][:, None] - actual[2]).abs())
    far = far.masked_fill(expected[1][:, None] != actual[1], torch.inf)
    far = torch.where(far.isnan(), torch.inf, far)
    left, found = set(range(far.shape[1])), []
    for row, distances in enumerate(far):
        nearest = min(left, key=lambda column: float(distances[column]), default=None)
        if nearest is None or torch.isinf(distances[nearest]):
            found.append(torch.inf)
            continue
        left.remove(nearest)
        masks = [
            (mask[row] - others[nearest]).abs().max() for mask, others in zip(expected[3:], actual[3:], strict=True)
        ]
        found.append(max(float(x) for x in (distances[nearest], *masks)))
    return torch.tensor([*found, *(torch.inf for _ in left)])
