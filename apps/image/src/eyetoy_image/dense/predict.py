"""What `predict.py` does with pictures, whatever is to be told about them."""

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
    """Give files with their pixels, uint8 `[3, height, width]`; one that cannot be read is named and left out."""
    for file in files:
        try:
            yield file, read_image(file, grayscale=False)
        except (UnreadableFileError, OSError) as error:
            print(f"skipped: {error}", file=sys.stderr)


def make_output_folder(folder: Path, files: Sequence[Path]) -> None:
    """Make a folder for a PNG file of each picture, with its name.

    Raises:
        ValueError: it is a file, or two pictures have one name.
    """
    check_output_folder(folder)
    twice = [name for name, count in Counter(file.stem for file in files).items() if count > 1]
    if twice:
        raise ValueError(f"several of the files would be written to {folder / twice[0]}.png; take them in turn")
    folder.mkdir(parents=True, exist_ok=True)
