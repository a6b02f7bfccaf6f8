"""Image files in class folders."""

from __future__ import annotations

from eyetoy_image.classification.recipe import ImageData
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.source import FolderSource


def open_folder(data: ImageData, seed: int) -> FolderSource:
    """Return the files of `data.root`; see `read_class_folder`."""
    return FolderSource.of_classes(data.root, EXTENSIONS, seed, fold=data.test_fold, grouping=Grouping.of(data))
