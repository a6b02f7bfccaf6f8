"""Find the trained models in a folder of runs, with their modalities."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import yaml

from eyetoy_train.data.splits import find_split
from eyetoy_train.models.opened import find_checkpoint, modality_of
from eyetoy_train.types import Modality
from eyetoy_train.utils.console import log
from eyetoy_train.utils.files import list_files, list_folders
from eyetoy_train.utils.untrusted import read_yaml

MODALITIES: tuple[Modality, ...] = get_args(Modality)
MOST_SAMPLES = 8


@dataclass(frozen=True)
class Run:
    """A run with a checkpoint."""

    folder: Path
    modality: Modality
    data: Path
    """Folder of its data, which may no longer exist."""

    @property
    def name(self) -> str:
        """Its name on the page."""
        return self.folder.name


def find_runs(folder: Path) -> list[Run]:
    """Return the runs of a folder that have a checkpoint, by name."""
    runs = (
        []
        if not folder.is_dir()
        else [_run(path) for path in sorted(folder.iterdir()) if path.is_dir() and _can_name(path)]
    )
    return [run for run in runs if run is not None]


def sample_files(run: Run, extensions: tuple[str, ...]) -> list[Path]:
    """Return a few files held out of a run's training, spread over their folders; none if they no longer exist."""
    present = [path.name for path in list_folders(run.data)] if run.data.is_dir() else []
    held_out = find_split("test", present) or find_split("val", present)
    if held_out is None:
        return []
    files = [path for path in list_files(run.data / held_out, extensions)[0] if _can_name(path)]
    return [files[len(files) * place // MOST_SAMPLES] for place in range(min(MOST_SAMPLES, len(files)))]


def _can_name(path: Path) -> bool:
    """Whether the page can name a path. It is sent as UTF-8, and another name would leave it empty."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        log(f"the page leaves out {path}, whose name is not UTF-8", file=sys.stderr)
        return False
    return True


def _run(folder: Path) -> Run | None:
    try:
        checkpoint = find_checkpoint(folder)
        recipe = read_yaml(checkpoint / "recipe.yaml")
        if not isinstance(recipe, dict) or not isinstance(recipe.get("data"), dict):
            return None
        return Run(folder, modality_of(checkpoint), Path(recipe["data"].get("root", "")))
    except (OSError, ValueError, yaml.YAMLError):
        return None  # no run, or an unfinished one without a checkpoint
