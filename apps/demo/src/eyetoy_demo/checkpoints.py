"""Find trained models, those of a folder of runs and the included ones, with what they know and how good they are."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from eyetoy_train.checkpoint.run_folder import RunFolder
from eyetoy_train.data.splits import find_split
from eyetoy_train.models.included import Score, example_files, included_models, included_score
from eyetoy_train.models.opened import find_checkpoint, modality_of, read_labels
from eyetoy_train.types import Modality
from eyetoy_train.utils.console import log, named
from eyetoy_train.utils.files import list_files, list_folders
from eyetoy_train.utils.statistics import SHARES, interval
from eyetoy_train.utils.untrusted import read_json, read_yaml

MOST_SAMPLES = 10
MOST_CLASSES_NAMED = 20
SCORES = ("accuracy", "mAP", "mask_AP", "box_AP", "mIoU")
"""By which the tasks judge their models; of a detector with masks, the first counts."""


@dataclass(frozen=True)
class Run:
    """A run with a checkpoint, or an included model."""

    folder: Path
    modality: Modality
    data: Path
    """Folder of its data, which may no longer exist."""
    is_included: bool = False
    """Whether the model came with the package."""

    @property
    def name(self) -> str:
        """Its name on the page."""
        return f"{self.folder.name} (included)" if self.is_included else self.folder.name


def find_runs(folder: Path) -> list[Run]:
    """Return the runs of a folder that have a checkpoint, by name."""
    runs = (
        []
        if not folder.is_dir()
        else [_run(path) for path in sorted(folder.iterdir()) if path.is_dir() and _can_name(path)]
    )
    return [run for run in runs if run is not None]


def find_included() -> list[Run]:
    """Return the included models, by name."""
    runs = [_run(folder, is_included=True) for folder in included_models().values()]
    return [run for run in runs if run is not None]


def describe(run: Run) -> str:
    """Return sentences on what a model knows and how good it is; nothing if its files do not tell."""
    try:
        classes = read_labels(find_checkpoint(run.folder))
        score = included_score(run.folder) if run.is_included else _score_of(run.folder)
    except (OSError, ValueError, KeyError, TypeError):  # files of the run that somebody has changed
        return ""
    known = f"It knows {len(classes):,} classes: {named(classes, MOST_CLASSES_NAMED)}."
    if score is None:
        return known
    sure = ""
    if score.name in SHARES:
        low, high = interval(score.value, score.count)
        sure = f" (95 % interval: {low:.1%} to {high:.1%})"
    return f"{known} Its {score.name} on {score.count:,} held-out samples is {score.value:.1%}{sure}."


def sample_files(run: Run, extensions: tuple[str, ...]) -> list[Path]:
    """Return a few files held out of a run's training, spread over their folders; none if they no longer exist."""
    if run.is_included:
        return example_files(run.folder)
    present = [path.name for path in list_folders(run.data)] if run.data.is_dir() else []
    held_out = find_split("test", present) or find_split("val", present)
    if held_out is None:
        return []
    files = [path for path in list_files(run.data / held_out, extensions)[0] if _can_name(path)]
    count = min(MOST_SAMPLES, len(files))
    return [files[len(files) * place // count] for place in range(count)]


def _score_of(folder: Path) -> Score | None:
    """Return the score of a finished run, or None."""
    results = RunFolder(folder).results
    if not results.is_file():
        return None
    content = read_json(results)
    scores = content["test"] or content["val"]
    name = next((name for name in SCORES if name in scores), None)
    return None if name is None else Score(name, float(scores[name]), round(scores["count"]))


def _can_name(path: Path) -> bool:
    """Whether the page can name a path. It is sent as UTF-8, and another name would leave it empty."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        log(f"the page leaves out {path}, whose name is not UTF-8", file=sys.stderr)
        return False
    return True


def _run(folder: Path, *, is_included: bool = False) -> Run | None:
    try:
        checkpoint = find_checkpoint(folder)
        recipe = read_yaml(checkpoint / "recipe.yaml")
        if not isinstance(recipe, dict) or not isinstance(recipe.get("data"), dict):
            return None
        return Run(folder, modality_of(checkpoint), Path(recipe["data"].get("root", "")), is_included)
    except (OSError, ValueError, yaml.YAMLError):
        return None  # no run, or an unfinished one without a checkpoint
