"""Data sets of images and label maps on Hugging Face's hub, or in a folder that `datasets` reads."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from eyetoy_image.segmentation.datasets.label_set import (
    LabelledPicture,
    SegmentationSet,
    SegmentationSource,
    with_classes,
    without_empty,
)
from eyetoy_image.segmentation.recipe import SegmentationData
from eyetoy_train import Split
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.hub import HubParts, columns_of_type, load_splits, undecoded
from eyetoy_train.utils.untrusted import read_class_names

IMAGE_COLUMNS = ("image", "pixel_values")
"""Usual names of the column with the images."""


def read_hub(data: SegmentationData, seed: int = 0) -> SegmentationSet:
    """List the images of the set named `data.root`.

    Raises:
        FileNotFoundError: the file with the names of the classes is missing.
        ValueError: the set does not have one column of images and one of label maps, or the names have an empty line.
    """
    if data.classes is not None and not Path(data.classes).is_file():
        raise FileNotFoundError(
            f"data.classes must be a file with the names of the classes; {data.classes} is not there"
        )
    loaded = load_splits(
        data.root,
        splits=data.splits,
        seed=seed,
        config=data.config,
        revision=data.revision,
        grouping=Grouping.of(data),
        # The classes of a picture are on its map, which is not read here.
        columns=lambda rows: _picture_columns(data, rows)[:1],
    )
    columns = _picture_columns(data, loaded.rows["train"])
    rows = {split: undecoded(part, columns, "Image") for split, part in loaded.rows.items()}
    loaded = replace(loaded, rows=rows)
    splits = {split: _samples(loaded, split, columns) for split in rows}
    names = () if data.classes is None else tuple(read_class_names(Path(data.classes)))
    return with_classes(data, names, without_empty(splits), loaded.left_out)


def _picture_columns(data: SegmentationData, rows: Any) -> tuple[str, str]:
    """Return the columns of images and of label maps: the recipe's, or the usual one and the only other one."""
    found = columns_of_type(rows, "Image")
    image = data.image_column or next((name for name in IMAGE_COLUMNS if name in found), None)
    others = [name for name in found if name != image]
    labels = data.label_column or (others[0] if len(others) == 1 else None)
    if image == labels or image not in found or labels not in found:
        raise ValueError(
            f"{data.root} has the columns of pictures {', '.join(found) or 'none'}; name those of the pictures and of "
            f"the label maps by data.image_column and data.label_column; got {data.image_column}, {data.label_column}"
        )
    return image, labels


def _samples(loaded: HubParts, split: Split, columns: tuple[str, str]) -> tuple[LabelledPicture, ...]:
    image, labels = columns
    return tuple(
        LabelledPicture(loaded.sample(split, i, image), loaded.sample(split, i, labels))
        for i in range(len(loaded.rows[split]))
    )


def open_hub(data: SegmentationData, seed: int) -> SegmentationSource:
    """Return the images of the set named `data.root`."""
    return SegmentationSource(data.root, partial(read_hub, data, seed))
