"""The input of exported image models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from eyetoy_image.classification.transforms import MEAN, STD
from eyetoy_train.export.portable import ExportInput


def export_pixels(size: tuple[int, int], channels: int, preprocessing: Mapping[str, Any]) -> ExportInput:
    """Return the input of a model of pixels: uint8 `[batch, height, width, channels]`, as in Pillow and NumPy.

    Args:
        size: height and width.
        channels: one or three.
        preprocessing: instructions for users, in addition to the interpolation and the steps inside the model.
    """
    generator = torch.Generator().manual_seed(0)
    return ExportInput(
        name="pixels",
        axes=("batch", "height", "width", "channels"),
        examples=[
            torch.randint(256, (batch, *size, channels), generator=generator, dtype=torch.uint8) for batch in (2, 3)
        ],
        prepare=lambda x: {"input": x.movedim(-1, 1)},
        preprocessing={
            **preprocessing,
            "interpolation": "bilinear, antialiased",
            "in_the_model": f"scaling to 0 to 1, mean {MEAN}, std {STD}",
        },
    )
