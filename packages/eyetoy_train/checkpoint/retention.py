"""Which checkpoints of a run are kept: the latest, to resume from, and the best, to use."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eyetoy_train.checkpoint.atomic import (
    MANIFEST,
    check_folder,
    is_complete,
    recover_folder,
    remove_folder,
    write_folder,
)
from eyetoy_train.recipe import CheckpointRecipe
from eyetoy_train.types import CheckpointError

Write = Callable[[Path], None]


@dataclass(frozen=True)
class CheckpointStore:
    """The folder `checkpoints` of a run: step-NNNNNNNN to resume from, best and best-epoch-NNNN to use.

    Args:
        folder: the folder.
        recipe: how many of each are kept.
    """

    folder: Path
    recipe: CheckpointRecipe

    @property
    def best(self) -> Path:
        """The model of the epoch with the best validation score."""
        return self.folder / "best"

    def steps(self) -> list[Path]:
        """Return the complete checkpoints to resume from, the latest last."""
        # Names are padded with zeros, so their order is that of the steps. A suffix is that of an unfinished write.
        return sorted(path for path in self.folder.glob("step-*") if path.suffix == "" and is_complete(path))

    def latest(self) -> Path | None:
        """Return the checkpoint to resume from, or None.

        Raises:
            CheckpointError: it is damaged; the message names an older one.
        """
        steps = self.steps()
        if not steps:
            return None
        try:
            check_folder(steps[-1])
        except CheckpointError as error:
            older = f"remove it to go on from {steps[-2]}" if steps[1:] else "there is no older one"
            raise CheckpointError(f"{error}; {older}") from error
        return steps[-1]

    def write_step(self, step: int, write: Write) -> None:
        """Write a checkpoint to resume from, then remove the oldest ones.

        Raises:
            CheckpointError: it could not be written; the message names the latest one.
        """
        folder = self.folder / f"step-{step:08d}"
        try:
            write_folder(folder, write)
        except CheckpointError as error:
            older = f"the latest complete checkpoint is {steps[-1]}" if (steps := self.steps()) else "there is none yet"
            raise CheckpointError(f"{error}; {older}") from error
        for old in self.steps()[: -self.recipe.keep_last]:
            remove_folder(old)

    def write_best(self, ranking: dict[int, float], write: Write) -> None:
        """Write the model of the latest epoch in `ranking`.

        Args:
            ranking: the epochs to keep with their scores, the best first.
            write: fills a folder with the model.
        """
        epoch = max(ranking)
        is_first = epoch == next(iter(ranking))
        if is_first:
            write_folder(self.best, write)
        if self.recipe.keep_best == 1:
            return
        write_folder(self._ranked(epoch), (lambda folder: _copy(self.best, folder)) if is_first else write)
        kept = {self._ranked(number) for number in ranking}
        for folder in self.folder.glob("best-epoch-*"):
            if folder not in kept:
                remove_folder(folder)

    def add_to_best(self, name: str, text: str) -> None:
        """Add a file to the best model's folder, or replace it.

        Raises:
            CheckpointError: it could not be written.
        """

        def write(folder: Path) -> None:
            _copy(self.best, folder)
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")

        write_folder(self.best, write)  # the whole folder again: its manifest must name the new file

    def recover(self) -> None:
        """Clean up after an interrupted write: restore backups, and remove what was not finished."""
        for backup in self.folder.glob("*.backup"):
            recover_folder(backup.with_suffix(""))
            shutil.rmtree(backup, ignore_errors=True)
        for partial in self.folder.glob("*.partial"):
            shutil.rmtree(partial)

    def _ranked(self, epoch: int) -> Path:
        return self.folder / f"best-epoch-{epoch:04d}"


def _copy(source: Path, target: Path) -> None:
    # A new manifest is written for the copy.
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
