"""Write a small set of real video files, so that video classification can be tried without a download.

A handwritten digit moves over a still crop of a photograph in one of eight ways, which are the classes. The digit, its
position, size, angle, speed and colours and the photograph vary at random. The digits come with scikit-learn and the
photographs with scikit-image.

No single frame reveals the class. A clip's state has four coordinates: x, y, size and angle. Each has its own random
path; the class decides which one moves, and the other three are frozen at a random moment of theirs. Over all frames,
every class visits the same states equally often.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from PIL.Image import Resampling

from eyetoy_train.data.folder import written_aside
from eyetoy_train.data.source import FolderSource
from eyetoy_train.media.encode import write_mp4
from eyetoy_train.media.kinds import VIDEO_SUFFIXES
from eyetoy_video.recipe import VideoData

MOTIONS: Mapping[str, tuple[int, int]] = {
    "left": (0, -1),
    "right": (0, 1),
    "up": (1, -1),
    "down": (1, 1),
    "shrinking": (2, -1),
    "growing": (2, 1),
    "counterclockwise": (3, -1),
    "clockwise": (3, 1),
}
"""Each class's moving coordinate (an index into x, y, size, angle, as in `motion_path`) and its direction."""

PHOTOGRAPHS: Mapping[str, tuple[str, ...]] = {
    "train": ("astronaut", "brick", "coffee", "coins", "grass", "hubble_deep_field", "immunohistochemistry", "retina"),
    "val": ("camera", "rocket"),
    "test": ("chelsea", "clock", "gravel"),
}
"""Functions of `skimage.data` for the backgrounds of each split; no photograph is in two splits."""

DIGITS: Mapping[str, slice] = {"train": slice(0, 1200), "val": slice(1200, 1380), "test": slice(1380, 1797)}
"""Samples of `sklearn.datasets.load_digits` for each split; no digit is in two splits."""

_README = """Moving digits: {total} clips, {num_frames} frames of {size} x {size} pixels, {fps} a second; seed {seed}.

SPLIT/MOTION/NUMBER.mp4: a handwritten digit moves over a photograph, and the folder's name says how:
{motions}.

{splits}

The digits are scikit-learn's 8 x 8 images: the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin
and C. Kaynak, UCI Machine Learning Repository); scikit-learn states no licence. The photographs are scikit-image's,
which states: CC0 for brick, camera, chelsea, coffee, grass, gravel and retina; public domain for astronaut,
clock, hubble_deep_field (NASA) and rocket (SpaceX); no known copyright restrictions for coins (Brooklyn Museum) and
immunohistochemistry (CMMI).
"""


@dataclass(frozen=True)
class _Range:
    """Bounds of a coordinate, and of its travel within a clip."""

    low: float
    high: float
    shortest: float
    longest: float


_RANGES = (
    _Range(0.15, 0.85, 0.35, 0.60),  # x, as a fraction of the frame's side
    _Range(0.15, 0.85, 0.35, 0.60),  # y
    _Range(-1.5, -0.4, 0.60, 0.90),  # log2 of the digit's side, as a fraction of the frame's
    _Range(-1.0, 1.0, 0.45, 0.70),  # angle, in half turns
)


def write_moving_digits(
    root: Path,
    *,
    seed: int = 0,
    train: int = 250,
    val: int = 25,
    test: int = 50,
    num_frames: int = 16,
    size: int = 64,
    fps: int = 16,
) -> None:
    """Write `root/{train,val,test}/{motion}/{number:05d}.mp4` (H.264) and `root/README.txt`.

    The files are written to a hidden temporary folder next to `root`, which is renamed at the end: an interrupted call
    leaves no `root`. The same arguments give the same images, and a clip does not depend on the number of clips.

    Args:
        root: the folder to make; its parents are made too.
        seed: of all random numbers, 0 or more.
        train: clips per motion for training (8 motions: 250 means 2,000 clips).
        val: clips per motion for validation, with other digits and photographs.
        test: clips per motion for the test, with other digits and photographs.
        num_frames: frames per clip, 2 or more.
        size: height and width in pixels: even (H.264 halves its colours), 32 or more.
        fps: frames per second.

    Raises:
        FileExistsError: `root` exists; it is left unchanged.
        ValueError: an argument is out of range.
    """
    counts = {"train": train, "val": val, "test": test}
    _check_arguments(counts, seed, num_frames, size, fps)
    with written_aside(root) as tree:
        for split, count in counts.items():
            _write_split(tree / split, split, count, seed, num_frames, size, fps)
        (tree / "README.txt").write_text(_readme(counts, seed, num_frames, size, fps), encoding="utf-8")


def motion_path(motion: str, num_frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random path of the digit through the frames of a clip.

    Args:
        motion: one of `MOTIONS`.
        num_frames: number of frames of the clip.
        rng: the random generator.

    Returns:
        `[num_frames, 4]`: x to the right and y downwards (the digit's centre, as fractions of the frame's side), the
        digit's side (log2 of a fraction of the frame's side) and its angle (half turns, clockwise).
    """
    moving, direction = MOTIONS[motion]
    steps = np.linspace(-0.5, 0.5, num_frames)
    path = np.empty((num_frames, len(_RANGES)))
    for coordinate, span in enumerate(_RANGES):
        # All coordinates draw the same numbers, whether they move or not: the class does not change the others.
        travel = rng.uniform(span.shortest, span.longest)
        middle = rng.uniform(span.low + travel / 2, span.high - travel / 2)
        frozen = steps[rng.integers(num_frames)]
        path[:, coordinate] = middle + travel * (direction * steps if coordinate == moving else frozen)
    return path


def _write_split(folder: Path, split: str, count: int, seed: int, num_frames: int, size: int, fps: int) -> None:
    photographs, digits = _photographs(split), _digits(split)
    for label, motion in enumerate(MOTIONS):
        (folder / motion).mkdir(parents=True)
        for number in range(count):
            # A generator per clip: a clip does not change with the number of clips asked for.
            rng = np.random.default_rng([seed, list(DIGITS).index(split), label, number])
            background = _crop(photographs[rng.integers(len(photographs))], size, rng)
            path = motion_path(motion, num_frames, rng)
            frames = _render(digits[rng.integers(len(digits))], background, path, rng)
            write_mp4(folder / motion / f"{number:05d}.mp4", map(np.asarray, frames), fps)


def _photographs(split: str) -> list[Image.Image]:
    from skimage import data  # slow to import, and needed only to write the clips

    return [Image.fromarray(getattr(data, name)()).convert("RGB") for name in PHOTOGRAPHS[split]]


def _digits(split: str) -> list[Image.Image]:
    """Return a split's digits: grey images with a margin of one eighth and ink 255, enlarged for smooth rotation."""
    from sklearn.datasets import load_digits

    # Values are from 0 to 16; a margin of 1 pixel keeps the outline inside when the digit turns.
    images = np.pad(load_digits().images[DIGITS[split]], ((0, 0), (1, 1), (1, 1))) * (255 / 16)
    return [Image.fromarray(image.astype(np.uint8)).resize((50, 50), Resampling.BICUBIC) for image in images]


def _crop(photograph: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Return a random square of a photograph, darkened at random so that the digit is visible."""
    side = int(min(photograph.size) * rng.uniform(0.25, 0.6))
    left, top = (int(rng.integers(length - side)) for length in photograph.size)
    square = photograph.resize((size, size), Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return ImageEnhance.Brightness(square).enhance(rng.uniform(0.3, 0.6))


def _render(
    digit: Image.Image, background: Image.Image, path: NDArray[np.float64], rng: np.random.Generator
) -> list[Image.Image]:
    """Return the frames of a clip: the digit along its path, with an outline that separates it from any background."""
    outline_color = tuple(rng.integers(0, 32, 3).tolist())  # dark
    ink_color = tuple(rng.integers(180, 256, 3).tolist())  # light
    frames = []
    for state in path:
        ink = _ink(digit, state, background.width)
        frame = background.copy()
        frame.paste(outline_color, mask=ink.filter(ImageFilter.MaxFilter(3)))  # the ink, a pixel wider on all sides
        frame.paste(ink_color, mask=ink)
        frames.append(frame)
    return frames


def _ink(digit: Image.Image, state: NDArray[np.float64], size: int) -> Image.Image:
    """Return the mask of the digit in a frame of `size` pixels: 255 is ink."""
    x, y, log_side, angle = state.tolist()
    scale = digit.width / (size * 2**log_side)
    cos, sin = scale * math.cos(math.pi * angle), scale * math.sin(math.pi * angle)
    x, y, middle = x * size, y * size, digit.width / 2
    # PIL maps output to input, so this is the inverse: move the centre to the origin, turn back, scale, move to the
    # middle of the digit.
    lookup = (cos, sin, middle - cos * x - sin * y, -sin, cos, middle + sin * x - cos * y)
    placed = digit.transform((size, size), Image.Transform.AFFINE, lookup, Resampling.BICUBIC)
    # More contrast: strokes enlarged from 8 x 8 pixels are blurred.
    return placed.point([min(max(3 * grey - 192, 0), 255) for grey in range(256)])


def _check_arguments(counts: Mapping[str, int], seed: int, num_frames: int, size: int, fps: int) -> None:
    limits = {**dict.fromkeys(counts, 1), "seed": 0, "num_frames": 2, "size": 32, "fps": 1}
    for name, value in {**counts, "seed": seed, "num_frames": num_frames, "size": size, "fps": fps}.items():
        if value < limits[name]:
            raise ValueError(f"{name} must be {limits[name]} or more, not {value}")
    if size % 2:
        raise ValueError(f"size must be even, not {size}")


def _readme(counts: Mapping[str, int], seed: int, num_frames: int, size: int, fps: int) -> str:
    splits = [
        f"{split}: {count} clips per motion; photographs {', '.join(PHOTOGRAPHS[split])}; "
        f"digits {DIGITS[split].start} to {DIGITS[split].stop - 1}."
        for split, count in counts.items()
    ]
    total = len(MOTIONS) * sum(counts.values())
    motions, lines = ", ".join(MOTIONS), "\n".join([*splits, "No photograph and no digit image serves two splits."])
    return _README.format(
        total=total, num_frames=num_frames, size=size, fps=fps, seed=seed, motions=motions, splits=lines
    )


def open_moving_digits(data: VideoData, seed: int) -> FolderSource:
    """Return the clips in `data.root`, composed there if it is missing."""
    return FolderSource.of_classes(data.root, VIDEO_SUFFIXES, seed, write=write_moving_digits)
