"""What figures of predictions are made of: colours of classes, captions, legends, and sheets of panels."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from eyetoy_train.utils.figures import font_file
from eyetoy_train.utils.text import shown

GOLDEN_RATIO = 0.618  # steps of it around the circle of hues never come near an earlier one
TEXT_SIZE, LEAST_TEXT_SIZE = 13, 9
"""Height of letters in pixels: of titles and legends of small pictures, and the least of captions."""
LINES = 24
"""Lines of captions that would fill a picture's short side."""
MARGIN = 6
"""Pixels around the panels of a sheet, and between entries of a legend."""
LARGEST_PANEL = 512
"""Longest side of a panel of a sheet in pixels."""
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
LEAST_LEGEND = 120
"""Least width of a legend in pixels; one below a smaller picture is wider than it."""

Color = tuple[int, int, int]


class Rect(NamedTuple):
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Rect) -> bool:
        """Whether the two share a pixel."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


@dataclass(frozen=True)
class Panel:
    """A picture of a sheet."""

    title: str
    picture: Tensor
    """uint8 `[3, height, width]`."""
    labels: frozenset[int] = field(default_factory=frozenset)
    """The colours on it, see `class_color`."""


def shrunk(panel: Panel) -> Panel:
    """Return a panel whose picture has a long side of at most `LARGEST_PANEL` pixels: a sheet holds dozens."""
    height, width = panel.picture.shape[1:]
    factor = LARGEST_PANEL / max(height, width)
    if factor >= 1:
        return panel
    size = [max(round(height * factor), 1), max(round(width * factor), 1)]
    return replace(panel, picture=resize(panel.picture, size, antialias=True))


def class_color(label: int) -> Color:
    """Return a bright colour for a label; neighboring labels have very different ones."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN_RATIO % 1, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def ink_on(color: Color) -> Color:
    """Return black or white, whichever is easier to read on a colour."""
    red, green, blue = color
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else WHITE  # luma (ITU-R BT.601)


def caption_place(box: Rect, size: tuple[int, int], grid: tuple[int, int], taken: Sequence[Rect] = ()) -> Rect:
    """Return where the caption of a box goes: inside of the picture, and not over other captions if that can be.

    Above the box, or inside of it at its top, below it, or inside at its bottom: the first of these that is free.

    Args:
        box: the box.
        size: width and height of the caption, at most those of the picture.
        grid: height and width of the picture.
        taken: places of other captions.
    """
    width, height = size
    left = min(max(box.left, 0), grid[1] - width)
    tops = (box.top - height, box.top, box.bottom, box.bottom - height)
    inside = [min(max(top, 0), grid[0] - height) for top in tops]
    places = [Rect(left, top, left + width, top + height) for top in inside]
    # A caption that had to move inside lies on its own box, which is as good as the place meant for there.
    return next((place for place in places if not any(place.overlaps(one) for one in taken)), places[0])


def draw_captions(canvas: Image.Image, boxes: Sequence[Rect], captions: Sequence[str], colors: Sequence[Color]) -> None:
    """Write captions to boxes on an image, on their colours; empty ones are left out."""
    draw, (width, height) = ImageDraw.Draw(canvas), canvas.size
    text_size = max(round(min(width, height) / LINES), LEAST_TEXT_SIZE)
    taken: list[Rect] = []
    for box, caption, color in zip(boxes, captions, colors, strict=True):
        if not caption:
            continue
        letters = letters_of(text_size, caption)
        text, size = fitted(caption, letters, width)
        place = caption_place(box, (size[0], min(size[1], height)), (height, width), taken)
        taken.append(place)
        draw.rectangle((place.left, place.top, place.right - 1, place.bottom - 1), fill=color)
        draw.text((place.left + 2, place.top), text, fill=ink_on(color), font=letters)


def fitted(text: str, letters: ImageFont.FreeTypeFont, width: int) -> tuple[str, tuple[int, int]]:
    """Return a text in one line, cut to a width in pixels, and the width and height of its background."""
    line = shown(" ".join(text.split()))
    cut = line
    while cut and letters.getlength(cut) + 4 > width:
        line = line[:-1]
        cut = f"{line}…" if line else ""
    ascent, descent = letters.getmetrics()
    return cut, (min(int(letters.getlength(cut)) + 5, width), ascent + descent)


def legend(names: Sequence[tuple[str, int]], width: int, text_size: int = TEXT_SIZE) -> Tensor:
    """Return the names of classes beside their colours, on white, uint8 `[3, height, width]`.

    Args:
        names: name and label of each class.
        width: of the picture, in which the entries are wrapped.
        text_size: height of the letters.
    """
    fonts = [letters_of(text_size, name) for name, _ in names]
    swatch = max(sum(letters.getmetrics()) for letters in fonts)
    places: list[tuple[str, Color, int, int]] = []  # text, colour, left, top
    left, top = MARGIN, MARGIN
    for (name, label), letters in zip(names, fonts, strict=True):
        text, (length, _) = fitted(name, letters, width - swatch - 3 * MARGIN)
        if left > MARGIN and left + swatch + length + MARGIN > width:
            left, top = MARGIN, top + swatch + MARGIN
        places.append((text, class_color(label), left, top))
        left += swatch + length + 2 * MARGIN
    sheet = Image.new("RGB", (width, top + swatch + MARGIN), WHITE)
    draw = ImageDraw.Draw(sheet)
    for (text, color, x, y), letters in zip(places, fonts, strict=True):
        draw.rectangle((x, y + 2, x + swatch - 4, y + swatch - 2), fill=color, outline=BLACK)
        draw.text((x + swatch + 2, y), text, fill=BLACK, font=letters)
    drawn: Tensor = pil_to_tensor(sheet)
    return drawn


def with_legend(image: Tensor, names: Sequence[tuple[str, int]], text_size: int = TEXT_SIZE) -> Tensor:
    """Return an image, uint8 `[3, height, width]`, with a legend below it; see `legend`."""
    if not names:
        return image
    below, height = legend(names, max(image.shape[2], LEAST_LEGEND), text_size), image.shape[1]
    sheet = torch.full((3, height + below.shape[1], max(image.shape[2], below.shape[2])), 255, dtype=torch.uint8)
    sheet[:, :height, : image.shape[2]], sheet[:, height:, : below.shape[2]] = image, below
    return sheet


def draw_sheet(panels: Sequence[Panel], columns: int, classes: Sequence[str], *, first_label: int = 0) -> Tensor:
    """Return panels in a grid, each below its title, and a legend of the classes on them.

    Args:
        panels: the panels.
        columns: how many lie side by side.
        classes: names of the classes.
        first_label: label of the first class.
    """
    sheet = tile([_headed(panel) for panel in panels], columns, gap=MARGIN)
    labels = sorted(frozenset[int]().union(*(panel.labels for panel in panels)))
    return with_legend(sheet, [(classes[label - first_label], label) for label in labels])


def tile(images: Sequence[Tensor], columns: int, *, gap: int = 0) -> Tensor:
    """Return images of any sizes in a grid on white, with a gap around each."""
    height, width = (max(image.shape[axis] for image in images) + gap for axis in (1, 2))
    rows = -(-len(images) // columns)  # rounded up
    sheet = torch.full((3, rows * height + gap, columns * width + gap), 255, dtype=torch.uint8)
    for place, image in enumerate(images):
        top, left = gap + place // columns * height, gap + place % columns * width
        sheet[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return sheet


def letters_of(size: int, text: str) -> ImageFont.FreeTypeFont:
    """Return the font of figures for a text, and for a height in pixels."""
    return _font(font_file(text), size)


@lru_cache
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


def _headed(panel: Panel) -> Tensor:
    """Return a panel's picture below its title."""
    letters, width = letters_of(TEXT_SIZE, panel.title), panel.picture.shape[2]
    text, (_, height) = fitted(panel.title, letters, width)
    head = Image.new("RGB", (width, height), WHITE)
    ImageDraw.Draw(head).text((2, 0), text, fill=BLACK, font=letters)
    return torch.cat([pil_to_tensor(head), panel.picture], dim=1)
