"""Classification of the files of a class folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from eyetoy_train.class_folder import ClassFolder, read_class_folder
from eyetoy_train.classification import ClassificationTask
from eyetoy_train.readable import say_skipped, unreadable_files
from eyetoy_train.recipe import ClassificationRecipe
from eyetoy_train.task import Split


class FolderClassification(ClassificationTask):
    """A classification task whose samples are files in class folders; see `read_class_folder`.

    Args:
        recipe: the recipe; its seed decides what is held out where there are no split folders.
        root: the folder.
        extensions: lower-case endings of the files that count.
        cache: whether to keep loaded samples in memory.
        skip_unreadable: leave out files that cannot be read, in place of stopping at the first one: all are read once
            when the data are prepared, and those left out are counted and named.
    """

    def __init__(
        self,
        recipe: ClassificationRecipe,
        *,
        root: Path,
        extensions: Collection[str],
        cache: bool,
        skip_unreadable: bool = False,
    ) -> None:
        super().__init__(recipe, cache=cache)
        self.root = root
        self.extensions = extensions
        self.skip_unreadable = skip_unreadable

    def prepare(self) -> None:
        """Read all files, if those that cannot be read are to be left out, and name these on the main process."""
        if not self.skip_unreadable:
            return
        folder = self.read_folder()
        files = [path for samples in folder.splits.values() for path, _ in samples]
        found = unreadable_files(self.root, files, lambda path: self.load_sample(path, training=False))
        self.folder = folder.without(found)
        say_skipped(list(found.values()), len(files))

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
