"""Write composed images: JPEG files, annotations in COCO's format, and label maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from eyetoy_image.dense.composed.drawing import Composition, Mask, compose
from eyetoy_image.dense.composed.sources import DIGITS, LICENCES, PHOTOGRAPHS, read_digits, read_photographs
from eyetoy_image.dense.masks import encode
from eyetoy_train import Split
from eyetoy_train.data.folder import written_aside

CATEGORIES = [{"id": digit + 1, "name": str(digit), "supercategory": "digit"} for digit in range(10)]
JPEG_QUALITY = 92

README = """Composed digits: pictures of {size} x {size} pixels, handwritten digits on photographs; seed {seed}.

SPLIT/NUMBER.jpg                    the pictures
annotations/instances_SPLIT.json    boxes and masks (RLE) in COCO's format
maps/SPLIT/NUMBER.png               the class of every pixel: 0 for the background, 1 to 10 for the digits 0 to 9

{splits}
No photograph and no digit serves two splits.

{licences}"""


def write_composed_digits(
    root: Path, *, seed: int = 0, train: int = 8500, val: int = 200, test: int = 400, size: int = 128
) -> None:
    """Write images, their boxes and masks in COCO's format, and their label maps; see the README it writes.

    The files are written to a temporary folder, which is renamed at the end: `root` is complete or does not exist. An
    image depends on the seed, its split and its number alone.

    Args:
        root: the folder to make.
        seed: of all random numbers, 0 or more.
        train: number of images for training.
        val: number of images for validation, with other digits and photographs.
        test: number of images for the test, with other digits and photographs.
        size: height and width in pixels, at least 32.

    Raises:
        FileExistsError: `root` exists; it is left unchanged.
        ValueError: an argument is out of range.
    """
    counts: dict[Split, int] = {"train": train, "val": val, "test": test}
    for name, value, least in (("seed", seed, 0), ("size", size, 32), *((name, n, 1) for name, n in counts.items())):
        if value < least:
            raise ValueError(f"{name} must be at least {least}; got {value}")
    with written_aside(root) as tree:
        for split, count in counts.items():
            _write_split(tree, split, count, size, seed)
        (tree / "README.txt").write_text(_readme(counts, size, seed), encoding="utf-8")


def _write_split(tree: Path, split: Split, count: int, size: int, seed: int) -> None:
    photographs, digits = read_photographs(split), read_digits(split)
    for folder in (tree / split, tree / "maps" / split, tree / "annotations"):
        folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        # A generator per image: an image does not change with the number of images.
        rng = np.random.default_rng([seed, get_args(Split).index(split), number])
        composition = compose(photographs, digits, size, rng, vary=split == "train")
        name = f"{number:05d}"
        Image.fromarray(composition.pixels).save(tree / split / f"{name}.jpg", quality=JPEG_QUALITY)
        Image.fromarray(label_map(composition)).save(tree / "maps" / split / f"{name}.png")
        images.append({"id": number + 1, "file_name": f"{name}.jpg", "height": size, "width": size})
        for label, mask in zip(composition.labels, composition.masks, strict=True):
            annotations.append(_annotation(len(annotations) + 1, number + 1, label, mask))
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (tree / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")


def label_map(composition: Composition) -> np.ndarray:
    """Return the class of every pixel, uint8 `[size, size]`: 0 for the background, a digit plus 1."""
    labels = np.zeros(composition.pixels.shape[:2], dtype=np.uint8)
    for label, mask in zip(composition.labels, composition.masks, strict=True):
        labels[mask] = label + 1
    return labels


def _annotation(number: int, picture: int, label: int, mask: Mask) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    # COCO's boxes are left, top, width and height, in edges of pixels: a pixel at 0 has the box [0, 0, 1, 1].
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    (encoded,) = encode(torch.from_numpy(mask)[None])
    return {
        "id": number,
        "image_id": picture,
        "category_id": label + 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": encoded,
    }


def _readme(counts: dict[Split, int], size: int, seed: int) -> str:
    splits = "".join(
        f"{split}: {count} pictures; photographs {', '.join(PHOTOGRAPHS[split])}; "
        f"digits {DIGITS[split].start} to {DIGITS[split].stop - 1}.\n"
        for split, count in counts.items()
    )
    return README.format(size=size, seed=seed, splits=splits, licences=LICENCES)
