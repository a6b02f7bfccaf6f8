"""Paste digits on a photograph, and record the pixels of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

from eyetoy_image.dense.composed.sources import Digit

LEAST_SIZE, LARGEST_SIZE = 0.2, 0.45
"""Height of a digit, as a fraction of the image's side."""
LARGEST_TILT = 15.0
LEAST_DIGITS, MOST_DIGITS = 2, 7
MOST_COVERED = 0.15
"""Largest fraction of a digit that another one may cover."""
LEAST_CONTRAST = 90
"""Difference in brightness, of 255, between a digit and what is behind it on average."""
TRIES = 20
SHARPER = [min(max(3 * grey - 192, 0), 255) for grey in range(256)]
"""A table of grey values that sharpens strokes enlarged from 8 x 8 pixels."""
BRIGHTNESS = np.array([0.299, 0.587, 0.114])  # of red, green and blue, as in ITU-R BT.601

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Composition:
    """An image and its objects."""

    pixels: NDArray[np.uint8]
    """`[size, size, 3]`."""
    labels: tuple[int, ...]
    """The digits, from 0 to 9; a later one covers an earlier one."""
    masks: tuple[Mask, ...]
    """The visible pixels of each digit, `[size, size]`, without those that another one covers."""


def compose(
    photographs: Sequence[Image.Image],
    digits: Sequence[Digit],
    size: int,
    rng: np.random.Generator,
    *,
    vary: bool = False,
) -> Composition:
    """Paste two to seven digits of random size, tilt, colour and position on a random part of a photograph.

    Args:
        photographs: to choose from.
        digits: to choose from.
        size: height and width of the image in pixels.
        rng: the random generator.
        vary: rotate, mirror and recolour the photograph at random, to make many backgrounds of few photographs.
    """
    pixels = (_varied_background if vary else _background)(photographs, size, rng)
    labels: list[int] = []
    masks: list[Mask] = []
    for _ in range(rng.integers(LEAST_DIGITS, MOST_DIGITS + 1)):
        digit = digits[int(rng.integers(len(digits)))]
        found = _free_place(digit.picture, size, masks, rng)
        if found is None:
            continue  # the image is full
        ink, place = found
        mask = np.zeros((size, size), dtype=np.bool_)
        mask[place] = ink > 0.5
        opacity = ink[:, :, None]
        pixels[place] = pixels[place] * (1 - opacity) + _color(pixels[mask], rng) * opacity
        for other in masks:
            other &= ~mask  # in place: the masks in the list lose the covered pixels
        masks.append(mask)
        labels.append(digit.label)
    return Composition(np.round(pixels).astype(np.uint8), tuple(labels), tuple(masks))


def _varied_background(photographs: Sequence[Image.Image], size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random square of a photograph, rotated, mirrored and half of the time in other colours."""
    pixels = np.rot90(_background(photographs, size, rng), int(rng.integers(4)))
    if rng.integers(2):
        pixels = pixels[:, ::-1]
    if rng.integers(2):
        return pixels.copy()
    contrast, brightness = rng.uniform(0.6, 1.2, 3), rng.uniform(-30, 30, 3)
    recoloured: NDArray[np.float64] = (pixels[:, :, rng.permutation(3)] - 128) * contrast + 128 + brightness
    return recoloured.clip(0, 255)


def _background(photographs: Sequence[Image.Image], size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random square of a photograph, `[size, size, 3]`."""
    photograph = photographs[int(rng.integers(len(photographs)))]
    side = int(min(photograph.size) * rng.uniform(0.3, 0.9))
    left, top = (int(rng.integers(length - side + 1)) for length in photograph.size)
    square = photograph.resize((size, size), Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.array(square, dtype=np.float64)


def _free_place(
    picture: Image.Image, size: int, masks: Sequence[Mask], rng: np.random.Generator
) -> tuple[NDArray[np.float64], tuple[slice, slice]] | None:
    """Return a digit's ink and a random place where it covers little of the others, or None if there is none."""
    glyph = _glyph(picture, round(size * rng.uniform(LEAST_SIZE, LARGEST_SIZE)), rng)
    height, width = glyph.shape
    for _ in range(TRIES):
        top, left = int(rng.integers(size - height + 1)), int(rng.integers(size - width + 1))
        place = slice(top, top + height), slice(left, left + width)
        if all((other[place] & (glyph > 0.5)).sum() <= MOST_COVERED * other.sum() for other in masks):
            return glyph, place
    return None


def _glyph(picture: Image.Image, height: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a digit's ink from 0 to 1, tilted, `height` pixels high and no wider than its strokes."""
    tilted = picture.rotate(rng.uniform(-LARGEST_TILT, LARGEST_TILT), Resampling.BICUBIC, expand=True)
    sharp = tilted.point(SHARPER)
    cut = sharp.crop(sharp.getbbox())
    width = max(round(height * cut.width / cut.height), 1)
    # A tilted digit may be wider than high; it is narrowed so that every glyph fits where its height does.
    return np.asarray(cut.resize((min(width, height), height), Resampling.BICUBIC), dtype=np.float64) / 255


def _color(behind: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random colour in contrast to the pixels behind it, `[count, 3]`."""
    brightness = (behind @ BRIGHTNESS).mean()
    while True:  # ends soon: for any brightness, many colours are darker or brighter by so much
        color = rng.uniform(0, 255, 3)
        if abs(color @ BRIGHTNESS - brightness) >= LEAST_CONTRAST:
            return color
