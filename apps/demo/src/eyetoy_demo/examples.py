"""Files to try a model on: held out of its training, or those of the included model of its modality."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from eyetoy_demo.checkpoints import Run, find_included
from eyetoy_demo.temporary import folder_to_keep
from eyetoy_train.data.splits import find_split
from eyetoy_train.models.included import example_files
from eyetoy_train.types import Split
from eyetoy_train.utils.console import log
from eyetoy_train.utils.files import list_files, list_folders
from eyetoy_train.utils.statistics import even_places

MOST_EXAMPLES, LARGEST = 10, 50_000_000
"""Number of files, and the largest size of one, in bytes."""
OWN = "Files to pick from, held out of its training"
OTHERS = "Files to pick from: of the included model, since this run's own data are not there any more"


@dataclass(frozen=True)
class Examples:
    """Files to pick from, copies in temporary folders: the page may read no others, wherever it was started."""

    title: str
    """Says where they are from."""
    files: Sequence[Path]
    names: Sequence[str]
    """Of the files, in the same order: a class, as far as it is known, and a file's name."""


@lru_cache(maxsize=64)
def find_examples(run: Run) -> Examples:
    """Return a few files for a model, spread over its classes."""
    if not run.is_included:
        files = [file for file in _held_out(run) if _can_name(file) and file.stat().st_size <= LARGEST]
        if files:
            names = [f"{file.parent.name}: {file.stem}" for file in files]
            return Examples(OWN, [_copied(file) for file in files], names)
    of_included = next((one for one in find_included() if one.modality == run.modality), None)
    found = example_files(run.folder if run.is_included else of_included.folder) if of_included else []
    return Examples(OWN if run.is_included else OTHERS, [_copied(file) for file in found], [one.stem for one in found])


def _copied(file: Path) -> Path:
    return Path(shutil.copy(file, folder_to_keep()))


def _held_out(run: Run) -> list[Path]:
    """Return files of a run's data that it did not train on; none if the data are no longer there."""
    try:
        files = _of_task(run)
    except Exception as error:
        log(f"no examples of {run.name}: {error}", file=sys.stderr)
        files = []
    return files or _of_folders(run)


def _of_task(run: Run) -> list[Path]:
    """Return files of the split that the run's task holds out: its recipe decides which, also without split folders."""
    opened: Any = importlib.import_module(f"eyetoy_{run.modality}.app").APP.open(run.folder)
    if opened.task.data.source == "hub":  # would be downloaded
        return []
    splits: tuple[Split, ...] = ("test", "val")
    for split in splits:
        found = opened.task.source.split(split)
        samples = getattr(found, "pictures", found)  # a set of pictures with boxes
        if isinstance(samples, Sequence) and len(samples):
            chosen = [samples[place] for place in even_places(len(samples), MOST_EXAMPLES)]
            files = [_file(sample, number) for number, sample in enumerate(chosen)]
            return [file for file in files if file is not None and file.is_file()]
    return []


def _file(sample: Any, number: int) -> Path | None:
    """Return the file of a sample, which is written if the sample is a picture in memory; None for anything else."""
    source = sample[0] if isinstance(sample, tuple) and sample else getattr(sample, "path", sample)
    if isinstance(source, Path):
        return source
    if type(source).__name__ != "Tensor" or source.ndim != 3:
        return None
    from torchvision.io import write_png

    file = folder_to_keep() / f"{number + 1}.png"
    write_png(source, str(file))
    return file


def _of_folders(run: Run) -> list[Path]:
    """Return files of the folder of a split, where the task does not tell of any."""
    present = [path.name for path in list_folders(run.data)] if run.data.is_dir() else []
    held_out = find_split("test", present) or find_split("val", present)
    if held_out is None:
        return []
    extensions = importlib.import_module(f"eyetoy_{run.modality}.visualize").EXTENSIONS
    files = list_files(run.data / held_out, extensions)[0]
    return [files[place] for place in even_places(len(files), MOST_EXAMPLES)]


def _can_name(file: Path) -> bool:
    """Whether the page can name a file: it is sent as UTF-8."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        log(f"the page leaves out {file}, whose name is not UTF-8", file=sys.stderr)
        return False
    return True
