"""A small set in COCO's format with all that real ones have, and a detector of the least size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyetoy_image.detection import DetectionData, DetectionRecipe, DetectorRecipe
from eyetoy_train import ModelRecipe

CATEGORIES = [{"id": 7, "name": "cup", "supercategory": "kitchen"}, {"id": 3, "name": "cat"}]
SIZES = {1: ("one.png", 40, 30), 2: ("two.jpg", 33, 51), 4: ("four.png", 20, 20)}  # name, width, height
SQUARE = [5, 4, 15, 4, 15, 24, 5, 24]  # x from 5 to 15, y from 4 to 24


def column_runs(width: int, height: int, left: int, right: int) -> dict:
    """Run lengths, down the columns, of all pixels from one column to another."""
    return {
        "size": [height, width],
        "counts": [left * height, (right - left) * height, (width - right) * height],
    }


def objects() -> list[dict]:
    return [
        {"id": 11, "image_id": 1, "category_id": 3, "bbox": [5, 4, 10, 20], "area": 200.0, "segmentation": [SQUARE]},
        {
            "id": 12,
            "image_id": 1,
            "category_id": 7,
            "bbox": [20, 0, 20, 30],
            "area": 600,
            "iscrowd": 1,
            "segmentation": column_runs(40, 30, 20, 40),
        },
        {
            "id": 13,
            "image_id": 2,
            "category_id": 7,
            "bbox": [3, 0, 7, 51],
            "area": 357,
            "iscrowd": 0,
            "segmentation": column_runs(33, 51, 3, 10),
            "nobody_knows": {"this": "key"},
        },
        {
            "id": 15,
            "image_id": 2,
            "category_id": 3,
            "bbox": [2, 3, 20.5, 30.25],
            "segmentation": [[2, 3, 12, 3, 12, 33.25], [14, 3, 22.5, 3, 22.5, 33]],
        },
    ]


def write_set(root: Path, splits=("train", "val"), annotations: list[dict] | None = None, **changes: object) -> Path:
    """Write the pictures and annotation files of every split."""
    generator = np.random.default_rng(0)
    for split in splits:
        (root / split).mkdir(parents=True, exist_ok=True)
        for name, width, height in SIZES.values():
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / name)
        content = {
            "info": {"year": 2017},
            "licenses": [],
            "images": [
                {"id": number, "file_name": name, "width": width, "height": height, "coco_url": "http://nowhere"}
                for number, (name, width, height) in SIZES.items()
            ],
            "annotations": objects() if annotations is None else annotations,
            "categories": CATEGORIES,
        } | changes
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def tree(tmp_path) -> Path:
    return write_set(tmp_path / "set")


@pytest.fixture
def write_tree(tmp_path):
    return lambda **changes: write_set(tmp_path / "set", **changes)


@pytest.fixture(scope="session")
def small_detector() -> DetectorRecipe:
    return DetectorRecipe(
        fpn_channels=16,
        anchor_sizes=[8, 16, 32],
        proposals_train=50,
        proposals_eval=50,
        rpn_samples=32,
        roi_samples=16,
        box_head_channels=32,
        mask_head_channels=[8],
        score_threshold=0.0,
        max_detections=20,
    )


@pytest.fixture
def recipe_of(small_detector):
    """Return the recipe of a small detector for a set."""

    def make(root: Path, *, model: str = "eyetoy2d_pico", detector: DetectorRecipe = small_detector, **data: object):
        values = {"root": str(root), "short_side": 64, "long_side": 96} | data
        return DetectionRecipe(
            model=ModelRecipe(name=model), detector=detector, data=DetectionData(**values), batch_size=2
        )

    return make
