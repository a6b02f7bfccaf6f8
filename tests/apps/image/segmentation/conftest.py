"""Small sets in the layouts of real ones, and a segmenter of the least size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyetoy_image.segmentation import SegmentationData, SegmentationRecipe, SegmenterRecipe
from eyetoy_train import ModelRecipe


def write_picture(path: Path, width: int = 40, height: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(path)


def write_map(path: Path, values: np.ndarray, *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values.astype(np.uint8))
    if palette:
        picture.putpalette([value for place in range(256) for value in (place, 255 - place, 7)])
    picture.save(path)


def stripes(*values: int, width: int = 40, height: int = 30) -> np.ndarray:
    """A map with a column of equal width for each value."""
    return np.repeat(values, -(-width // len(values)))[:width][None].repeat(height, 0)


def write_folder(root: Path, splits=("train", "val"), count: int = 3, classes: str = "sky\nsea\nsand\n") -> Path:
    for split in splits:
        for number in range(count):
            write_picture(root / "images" / split / f"{number}.jpg")
            write_map(root / "maps" / split / f"{number}.png", stripes(0, 1, 2, 255))
    (root / "classes.txt").write_text(classes)
    return root


@pytest.fixture
def tree(tmp_path) -> Path:
    return write_folder(tmp_path / "set")


@pytest.fixture
def repaint(tree):
    """Give all label maps of the tree a column of equal width for each value."""

    def paint(*values: int) -> None:
        for path in tree.glob("maps/*/*.png"):
            write_map(path, stripes(*values))

    return paint


@pytest.fixture
def binary(tmp_path) -> Path:
    """A set of binary masks, as most tools save them: 0 and 255."""
    root = write_folder(tmp_path / "binary", classes="ground\nrust\n")
    for path in root.glob("maps/*/*.png"):
        write_map(path, stripes(0, 255, 255, 255))
    return root


@pytest.fixture(scope="session")
def small_segmenter() -> SegmenterRecipe:
    return SegmenterRecipe(channels=8, auxiliary_channels=8, norm="group", dropout=0.0)


@pytest.fixture
def recipe_of(small_segmenter):
    """Return the recipe of a small segmenter for a set."""

    def make(root: Path, **data: object) -> SegmentationRecipe:
        return SegmentationRecipe(
            model=ModelRecipe(name="eyetoy2d_pico"),
            segmenter=small_segmenter,
            data=SegmentationData(root=str(root), **data),
            batch_size=2,
        )

    return make
