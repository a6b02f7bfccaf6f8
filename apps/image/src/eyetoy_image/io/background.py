"""Lay transparent pictures on a background: the models see three colours, or one, and no transparency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from eyetoy_train.concerns import EVALUATION, Concerns
from eyetoy_train.recipe import BEFORE, check

Background = str | Sequence[int]
"""A name in `NAMED`, or red, green and blue."""
HIDDEN = "hidden"
COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}
NAMED = (*COLOURS, HIDDEN)


@dataclass(kw_only=True)
class PictureOptions:
    """The part of a recipe's `data` about reading pictures, the same in every task."""

    concerns: ClassVar[Concerns] = {EVALUATION: ("background",)}

    # Models of recipes from before this key have seen the hidden colours.
    background: str | list[int] = field(default="white", metadata={BEFORE: HIDDEN})
    """Colour on which pictures with transparent pixels are laid: white, black, or red, green and blue from 0 to 255, as
    in [124, 116, 104]. `hidden` drops the transparency: what shows is the colour that the file holds beneath it."""

    def __post_init__(self) -> None:
        """Refuse what is no colour."""
        given = self.background
        is_colour = given in NAMED if isinstance(given, str) else len(given) == 3 and set(given) <= set(range(256))
        allowed = f"{', '.join(NAMED)}, or red, green and blue from 0 to 255, as in [124, 116, 104]"
        check(is_colour, "data.background", given, allowed)


def described(background: Background) -> str | list[int]:
    """Return a background for the description of an exported model: red, green and blue, or `hidden`."""
    return HIDDEN if background == HIDDEN else list(_colour(background))


def on_background(image: Image.Image, opacity: Image.Image, background: Background) -> Image.Image:
    """Return an image of Pillow, of any mode with 8 bits per channel, laid on a colour, in RGB.

    Args:
        image: the image.
        opacity: its `opacity_of`.
        background: the colour.
    """
    laid = Image.new("RGB", image.size, _colour(background))
    laid.paste(image.convert("RGB"), mask=opacity)  # by alpha, rounded: (alpha * own + (255 - alpha) * colour) / 255
    return laid


def _colour(background: Background) -> tuple[int, int, int]:
    red, green, blue = COLOURS[background] if isinstance(background, str) else background
    return red, green, blue


def opacity_of(image: Image.Image, layout: str) -> Image.Image | None:
    """Return how opaque each pixel of an image of Pillow is, from 0 to 255; None if all are.

    Args:
        image: the image as Pillow decodes it.
        layout: its `stored_layout`.

    Raises:
        ValueError: the transparent colour cannot be found among the decoded ones.
    """
    if not image.has_transparency_data:
        return None
    key = image.info.get("transparency")
    if image.mode in ("1", "I") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(np.where(values == (bool(key) if image.mode == "1" else key), 0, 255).astype(np.uint8))
    if image.mode == "L" and isinstance(key, int):
        if not layout and 0 < key < 16 and _may_be_stretched(image):
            raise ValueError(
                f"whether its transparent grey of {key} was stretched as its pixels were, from 2 or 4 bits, is lost "
                "once Pillow has loaded them; give the file itself, or an image in mode LA"
            )
        # Pillow stretches grey pixels of 2 and 4 bits to 0 to 255, and leaves the transparent one as it is stored.
        return image.point([0 if value == key * stretch(layout) else 255 for value in range(256)])
    if image.mode == "RGB" and layout.startswith("RGB;16"):
        raise ValueError(
            "its colours of 16 bits have a transparent one, which is lost among those of 8 bits that are read; save it "
            "with 8 bits, or with an alpha channel"
        )
    return image.convert("RGBA").getchannel("A")


def _may_be_stretched(image: Image.Image) -> bool:
    """Whether all grey pixels are among those of 4 bits, or 2, stretched to 0 to 255: multiples of 17."""
    return not any(count for value, count in enumerate(image.histogram()) if value % 17)


def stored_layout(image: Image.Image) -> str:
    """Return how the pixels of an image lie in its file, such as `L;4`; empty if it is no file, or loaded already."""
    if not isinstance(image, ImageFile) or not image.tile:
        return ""
    layout = image.tile[0][3]  # a text of a PNG; of a TIFF the first of several arguments
    stored = layout[0] if isinstance(layout, tuple) and layout else layout
    return stored if isinstance(stored, str) else ""


def stretch(layout: str) -> int:
    """Return the factor by which Pillow multiplies grey pixels of a `stored_layout` as it loads them."""
    return {"L;2": 255 // 3, "L;4": 255 // 15}.get(layout[:3], 1)
