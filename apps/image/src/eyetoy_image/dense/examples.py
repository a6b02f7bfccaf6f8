"""Pictures on which exported detectors and segmenters are compared with the models themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eyetoy_image.classification.transforms import MEAN
from eyetoy_image.dense.composed.drawing import compose
from eyetoy_image.dense.composed.sources import read_digits, read_photographs
from eyetoy_image.io.files import read_image

LEAST_COMPOSED = 32


def example_pictures(grids: Sequence[tuple[int, int]], files: Sequence[Path] = ()) -> list[Tensor]:
    """Return pictures, uint8 `[height, width, 3]` each: digits on photographs, a grey one without objects, and files.

    Args:
        grids: height and width of the composed ones; the grey one has the first of them.
        files: pictures to add.

    Raises:
        UnreadableImageError: a file is not a picture.
    """
    photographs, digits = read_photographs("test"), read_digits("test")
    rng, pictures = np.random.default_rng(0), []
    for height, width in grids:
        square = compose(photographs, digits, max(height, width, LEAST_COMPOSED), rng).pixels
        pictures.append(torch.from_numpy(square[:height, :width].copy()))
    grey = torch.full((*grids[0], 3), round(255 * MEAN), dtype=torch.uint8)
    return [*pictures, grey, *(read_image(file, grayscale=False).movedim(0, -1).contiguous() for file in files)]
