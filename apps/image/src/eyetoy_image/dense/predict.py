"""The command `predict` of detection and segmentation: from picture files to what a model sees on them."""

from __future__ import annotations

import argparse
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from eyetoy_image.io.background import Background, PictureOptions
from eyetoy_image.io.files import read_image
from eyetoy_train.commands.app import App
from eyetoy_train.commands.cli import expand, make_output_folder, parse_with_overrides
from eyetoy_train.data.unreadable import UnreadableFileError
from eyetoy_train.ending import exit_on_error
from eyetoy_train.models.opened import Checkpoint, best_device
from eyetoy_train.task import LabelledTask
from eyetoy_train.utils.console import log

if TYPE_CHECKING:
    from torch import Tensor, nn


class PictureTask(LabelledTask, Protocol):
    """A task whose recipe says how pictures are read."""

    @property
    def data(self) -> PictureOptions:
        """The recipe's part about the data."""


T = TypeVar("T", bound=PictureTask)
R = TypeVar("R")


class Seen(NamedTuple, Generic[R]):
    """A picture file, its pixels, uint8 `[3, height, width]`, and what the model sees on it."""

    file: Path
    image: Tensor
    result: R


@dataclass(frozen=True)
class DensePredictApp(App[T], ABC, Generic[T, R]):
    """An app whose `predict` looks at picture files one after the other. `R` is the type of what is seen on one."""

    @exit_on_error()
    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Look at picture files, and print, draw or write what is seen on them."""
        options, overrides = parse_with_overrides(self.predict_parser(), argv)
        opened = self.open(options.checkpoint, overrides, command="predict")
        files = list(expand(options.inputs, self.extensions))
        self.check(options, files)
        num_seen = self.report(self._look(opened, files), opened, files, options)
        if num_seen < len(files):
            raise SystemExit(1)  # what could not be read was named

    def _look(self, opened: Checkpoint[T], files: Sequence[Path]) -> Iterator[Seen[R]]:
        """Look at files that can be read."""
        import torch

        device = best_device()
        model = opened.load_model(device)
        for file, image in readable_pictures(files, opened.task.data.background):
            with torch.inference_mode():
                result = self.see(opened.task, model, image.to(device))
            yield Seen(file, image, result)

    @abstractmethod
    def predict_parser(self) -> argparse.ArgumentParser:
        """Return the parser of `predict`, a `files_parser` with further options."""

    @abstractmethod
    def check(self, options: argparse.Namespace, files: Sequence[Path]) -> None:
        """Refuse options that cannot be followed, with a ValueError, and make the output folder, if any."""

    @abstractmethod
    def see(self, task: T, model: nn.Module, image: Tensor) -> R:
        """Return what a model sees on a picture, uint8 `[3, height, width]` on its device."""

    @abstractmethod
    def report(
        self, seen: Iterator[Seen[R]], opened: Checkpoint[Any], files: Sequence[Path], options: argparse.Namespace
    ) -> int:
        """Print, draw or write what is seen; return on how many pictures."""


def readable_pictures(files: Sequence[Path], background: Background = "white") -> Iterator[tuple[Path, Tensor]]:
    """Yield files with their pixels, uint8 `[3, height, width]`; unreadable ones are named on stderr and left out."""
    for file in files:
        try:
            yield file, read_image(file, grayscale=False, background=background)
        except (UnreadableFileError, OSError) as error:
            log(f"skipped: {error}", file=sys.stderr)


def make_picture_folder(folder: Path, files: Sequence[Path]) -> None:
    """Make a folder for a PNG file of each image, with its name.

    Raises:
        ValueError: `folder` is a file, two images have the same name, or one of them would be overwritten.
        OSError: it cannot be made.
    """
    first: dict[str, Path] = {}
    for file in files:
        other = first.setdefault(file.stem.casefold(), file)  # some systems do not tell upper from lower case
        if other is not file:
            name = f"{folder / file.stem}.png"
            raise ValueError(f"{other} and {file} would be written to one file, {name}; take them in turn")
    make_output_folder(folder, files, [f"{file.stem}.png" for file in files])
