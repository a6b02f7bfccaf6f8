"""Classification of the files of a class folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from eyetoy_train.class_folder import ClassFolder, read_class_folder
from eyetoy_train.classification import ClassificationTask
from eyetoy_train.recipe import ClassificationRecipe
from eyetoy_train.task import Split


class FolderClassification(ClassificationTask):
    """A classification task whose samples are files in class folders; see `read_class_folder`.

    Args:
        recipe: the recipe; its seed decides what is held out where there are no split folders.
        root: the folder.
        extensions: lower-case endings of the files that count.
        cache: whether to keep loaded samples in memory.
    """

    def __init__(self, recipe: ClassificationRecipe, *, root: Path, extensions: Collection[str], cache: bool) -> None:
        super().__init__(recipe, cache=cache)
        self.root = root
        self.extensions = extensions

    @cached_property
    def folder(self) -> ClassFolder:
        """The files, listed at first use."""
        return read_class_folder(self.root, self.extensions, seed=self.recipe.seed)

    @property
    def classes(self) -> Sequence[str]:
        """Names of the class folders."""
        return self.folder.classes

    def samples(self, split: Split) -> Sequence[tuple[Any, int]] | None:
        """Return paths and labels."""
        return self.folder.splits.get(split)
