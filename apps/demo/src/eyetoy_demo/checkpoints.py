"""Find trained models, those of a folder of runs and the included ones, with what they know and how good they are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from eyetoy.kinds import WEIGHTS
from eyetoy_train.checkpoint.run_folder import RunFolder
from eyetoy_train.models.included import included_models, included_score
from eyetoy_train.models.opened import LABELS, find_checkpoint, modality_of, read_labels
from eyetoy_train.types import Modality, about_data
from eyetoy_train.utils.console import log, named
from eyetoy_train.utils.statistics import SHARES, interval
from eyetoy_train.utils.text import shown
from eyetoy_train.utils.untrusted import read_json, read_yaml

MOST_CLASSES_NAMED = 20
SCORES = ("accuracy", "mAP", "mask_AP", "box_AP", "mIoU")
"""By which the tasks judge their models; of a detector with masks, the first counts."""
DRAWN = ("classifier", "detector", "segmenter")
"""Kinds of saved models with an encoder of this project, whose maps can be drawn."""
NO_OBJECTS = -1
"""The score of COCO's evaluation where no object is of the kind that it is of."""
NOT_RECORDED = "not recorded"
FILES: Mapping[Modality, str] = {"image": "pictures", "audio": "sounds", "video": "videos"}


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


@dataclass(frozen=True)
class LeftOut:
    """A folder that looks like a run's, and that the page cannot show."""

    name: str
    reason: str


def find_runs(folder: Path) -> tuple[list[Run], list[LeftOut]]:
    """Return the runs of a folder whose model the page can run and draw, and the others, by name.

    Folders without a trace of a model are in neither list.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = [_run_or_reason(path) for path in paths]
    return [one for one in found if isinstance(one, Run)], [one for one in found if isinstance(one, LeftOut)]


def find_included() -> list[Run]:
    """Return the included models, by name."""
    found = [_run(folder, is_included=True) for folder in included_models().values()]
    return [run for run in found if isinstance(run, Run)]


def facts(run: Run) -> dict[str, str]:
    """Return what a model knows and how good it is, by the names of the facts; `not recorded` if no file tells."""
    try:
        checkpoint = find_checkpoint(run.folder)
        classes = read_labels(checkpoint)
        data = read_yaml(checkpoint / "recipe.yaml")["data"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):  # files of the run that somebody has changed
        return dict.fromkeys(("Classes", "Trained on", "Input", "Score"), NOT_RECORDED)
    return {
        "Classes": f"{len(classes):,}: {named(classes, MOST_CLASSES_NAMED)}",
        "Trained on": _trained_on(run.modality, data),
        "Input": _input(run.modality, data),
        "Score": _score(run, checkpoint),
    }


def _trained_on(modality: Modality, data: Mapping[str, Any]) -> str:
    source, root = data.get("source", "folder"), str(data.get("root", ""))
    return about_data(FILES[modality], str(source), root) if root else NOT_RECORDED


def _input(modality: Modality, data: Mapping[str, Any]) -> str:
    """Return the size or length of what the model takes, in words."""
    try:
        if modality == "audio":
            views = data.get("windows", 1)
            form = "the waveform" if data["features"] == "waveform" else "a log-mel spectrogram"
            several = {None: ", in windows over the whole", 1: ""}.get(views, f", {views} parts of a sound")
            return f"{float(data['seconds']):g} s of sound at {int(data['sample_rate']):,} Hz{several}, as {form}"
        if modality == "video":
            size, stride = int(data["transform"]["size"]), data.get("frame_stride")
            spread = "spread over the video" if stride is None else f"every {stride}. frame"
            return f"{int(data['num_frames'])} frames of {size} x {size} pixels, {spread}"
        if "short_side" in data:
            return f"pictures with a short side of {int(data['short_side']):,} pixels"
        size, grey = int(data["image_size"]), bool(data.get("grayscale", False))
        return f"{size} x {size} pixels, {'grey' if grey else 'in colour'}"
    except (KeyError, TypeError, ValueError):
        return NOT_RECORDED


def _score(run: Run, checkpoint: Path) -> str:
    """Return the score of a model as its run's results, its card or its package tell it."""
    try:
        if run.is_included and (own := included_score(run.folder)):
            return _score_text(own.name, own.value, own.count)
        results = RunFolder(run.folder).results
        if results.is_file():
            content = read_json(results)
            scores = content["test"] or content["val"]
            count = round(scores["count"])
        else:
            scores, count = _card_scores(checkpoint / "README.md"), None
        name = next((name for name in SCORES if name in scores), None)
        return NOT_RECORDED if name is None else _score_text(name, float(scores[name]), count)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, yaml.YAMLError):
        return NOT_RECORDED


def _card_scores(card: Path) -> dict[str, float]:
    """Return the scores in the head of a model card; none if there is no card."""
    parts = card.read_text(encoding="utf-8").split("---\n", 2) if card.is_file() else []
    if len(parts) < 3:
        return {}
    head = yaml.safe_load(parts[1])
    metrics = head["model-index"][0]["results"][-1]["metrics"]
    return {metric["type"]: float(metric["value"]) for metric in metrics}


def _score_text(name: str, value: float, count: int | None) -> str:
    if value == NO_OBJECTS:
        return f"{name}: there are no such objects in the held-out samples"
    if count is None:
        return f"{name} {value:.1%} on held-out samples, by its card"
    sure = ""
    if name in SHARES:
        low, high = interval(value, count)
        sure = f" (95 % interval: {low:.1%} to {high:.1%})"
    return f"{name} {value:.1%} on {count:,} held-out samples{sure}"


def _run_or_reason(folder: Path) -> Run | LeftOut | None:
    try:
        # The page is sent as UTF-8, and another name would leave it empty.
        str(folder).encode()
    except UnicodeEncodeError:
        log(f"the page leaves out {folder}, whose name is not UTF-8", file=sys.stderr)
        return LeftOut(shown(folder.name), "its name is not UTF-8")
    return _run(folder)


def _run(folder: Path, *, is_included: bool = False) -> Run | LeftOut | None:
    try:
        checkpoint = find_checkpoint(folder)
    except OSError:
        reason = _without_checkpoint(folder)
        return LeftOut(folder.name, reason) if reason else None
    try:
        if reason := _fault(checkpoint):
            return LeftOut(folder.name, reason)
        data = read_yaml(checkpoint / "recipe.yaml")["data"]
        return Run(folder, modality_of(checkpoint), Path(str(data.get("root", ""))), is_included)
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        first = str(error).strip().split("\n")[0] or type(error).__name__
        return LeftOut(folder.name, f"it is broken: {shown(first)}")


def _without_checkpoint(folder: Path) -> str:
    """Return what a folder without a checkpoint is; nothing if it has nothing to do with models."""
    if any(any(folder.glob(pattern)) for pattern in ("*.onnx", "*.pt2", "*/*.onnx", "*/*.pt2")):
        return "it is an exported model, which has no maps; give the run that it was exported from"
    if any((folder / name).exists() for name in ("recipe.yaml", "checkpoints", "config.json")):
        return "it has no checkpoint yet"
    return ""


def _fault(checkpoint: Path) -> str:
    """Return why the page cannot show a checkpoint; nothing if it can, as far as its files tell without loading it."""
    if not (checkpoint / "recipe.yaml").is_file():
        return "it has no recipe.yaml, which tells how files become the model's input"
    recipe = read_yaml(checkpoint / "recipe.yaml")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("data"), dict):
        return "its recipe.yaml has no part data, which tells what the model takes"
    if not (checkpoint / LABELS).is_file():
        return f"it has no {LABELS}, so that its classes have no names"
    labels, config = read_labels(checkpoint), read_json(checkpoint / "config.json")
    kind, model = config.get("kind", DRAWN[0]), config.get("model")
    name = model.get("name", "") if isinstance(model, dict) else ""
    if kind not in DRAWN or "/" in name:
        return f"its model is of {name or kind}; maps are drawn of EyeToy's own encoders"
    count = config.get("num_classes")
    if kind == "classifier" and isinstance(count, int) and count != len(labels):
        return f"its model has {count:,} classes, and {LABELS} names {len(labels):,}"
    try:
        with safe_open(checkpoint / WEIGHTS, "pt"):  # reads the header, which tells the length of the file
            return ""
    except SafetensorError:
        return f"it is broken: {WEIGHTS} is cut or damaged"
