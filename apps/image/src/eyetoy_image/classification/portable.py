"""What exported models of pictures take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from eyetoy_image.classification.transforms import MEAN, STD
from eyetoy_train.export.portable import PlainInput


def plain_pixels(size: tuple[int, int], channels: int, preprocessing: Mapping[str, Any]) -> PlainInput:
    """Return that a model takes pixels as Pillow and NumPy hold them, uint8 `[batch, height, width, channels]`.

    Args:
        size: height and width.
        channels: one or three.
        preprocessing: what a user must know beside how pixels are resized and what the model does by itself.
    """
    generator = torch.Generator().manual_seed(0)
    return PlainInput(
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
