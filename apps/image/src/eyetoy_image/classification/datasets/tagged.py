"""Image files with any number of labels each, as tables list them."""

from __future__ import annotations

from functools import partial

from eyetoy_image.classification.recipe import ImageData
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.source import FolderSource
from eyetoy_train.data.tagged import read_tables


def open_tagged(data: ImageData, seed: int) -> FolderSource:
    """Return the files that the tables in `data.root` list; see `read_tables`."""
    read = partial(
        read_tables,
        data.path,
        EXTENSIONS,
        separator=data.label_separator,
        noun="picture",
        missing=data.missing,
        seed=seed,
        grouping=Grouping.of(data),
    )
    return FolderSource(read, multi_label=True, read_unsplit=partial(read, hold_out=False))
