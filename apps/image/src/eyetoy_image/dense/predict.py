"""Read images and prepare the output folder for `predict.py` of detection and segmentation."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from eyetoy_image.io.files import read_image
from eyetoy_train import UnreadableFileError
from eyetoy_train.commands.cli import check_output_folder


def readable_pictures(files: Sequence[Path]) -> Iterator[tuple[Path, Tensor]]:
    """Yield files with their pixels, uint8 `[3, height, width]`; unreadable ones are named on stderr and left out."""
    for file in files:
        try:
            yield file, read_image(file, grayscale=False)
        except (UnreadableFileError, OSError) as error:
            print(f"skipped: {error}", file=sys.stderr)


def make_output_folder(folder: Path, files: Sequence[Path]) -> None:
    """Make a folder for a PNG file of each image, with its name.

    Raises:
        ValueError: `folder` is a file, or two images have the same name.
    """
    check_output_folder(folder)
    twice = [name for name, count in Counter(file.stem for file in files).items() if count > 1]
    if twice:
        raise ValueError(f"several of the files would be written to {folder / twice[0]}.png; take them in turn")
    folder.mkdir(parents=True, exist_ok=True)
