"""Classification of the files of a class folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from eyetoy_train.classification.task import ClassificationTask
from eyetoy_train.data.folder import ClassFolder, read_class_folder
from eyetoy_train.data.unreadable import log_skipped, unreadable_files
from eyetoy_train.recipe import ClassificationRecipe
from eyetoy_train.types import Split


class FolderData(Protocol):
    """What a recipe says of a folder of files."""

    root: str
    """The folder."""
    cache: bool
    """Keep loaded samples in memory."""
    unreadable: Literal["refuse", "skip"]
    """Stop at the first file that cannot be read; or read all of them once when the data are prepared, and leave those
    out, counted and named."""


class FolderClassification(ClassificationTask):
    """A classification task whose samples are files in class folders; see `read_class_folder`.

    Args:
        recipe: the recipe; its seed decides what is held out where there are no split folders.
        data: the recipe's part about the files.
        extensions: lower-case endings of the files that count.
    """

    def __init__(self, recipe: ClassificationRecipe, data: FolderData, extensions: Collection[str]) -> None:
        super().__init__(recipe, cache=data.cache)
        self.root = Path(data.root)
        self.extensions = extensions
        self.skip_unreadable = data.unreadable == "skip"

    def prepare(self) -> None:
        """Read all files, if those that cannot be read are to be left out, and name these on the main process."""
        if not self.skip_unreadable:
            return
        folder = self.read_folder()
        files = [path for samples in folder.splits.values() for path, _ in samples]
        found = unreadable_files(self.root, files, lambda path: self.load_sample(path, training=False))
        self.folder = folder.without(found)
        log_skipped(list(found.values()), len(files))

    @cached_property
    def folder(self) -> ClassFolder:
        """The files, listed at first use."""
        return self.read_folder()

    def read_folder(self) -> ClassFolder:
        """List the files."""
        return read_class_folder(self.root, self.extensions, seed=self.recipe.seed)

    @property
    def classes(self) -> Sequence[str]:
        """Names of the class folders."""
        return self.folder.classes

    def samples(self, split: Split) -> Sequence[tuple[Any, int]] | None:
        """Return paths and labels."""
        return self.folder.splits.get(split)
