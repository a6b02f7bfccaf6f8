"""What `predict.py` does with pictures, whatever is to be told about them."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from eyetoy_image.files import EXTENSIONS, read_image
from eyetoy_train import UnreadableFileError


def picture_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for a checkpoint and pictures."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("checkpoint", type=Path, help="a run folder, whose best checkpoint is used, or a checkpoint")
    parser.add_argument("inputs", type=Path, nargs="+", help=f"files, folders or patterns ({', '.join(EXTENSIONS)})")
    return parser


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
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output must be a folder; got the file {folder}")
    twice = [name for name, count in Counter(file.stem for file in files).items() if count > 1]
    if twice:
        raise ValueError(f"several of the files would be written to {folder / twice[0]}.png; take them in turn")
    folder.mkdir(parents=True, exist_ok=True)
