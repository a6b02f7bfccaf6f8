"""The commands of `eyetoy`: which they are, and where their code is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Takes = Literal["modality", "checkpoint", "options"]


@dataclass(frozen=True)
class Command:
    """A command, and where its code is."""

    summary: str
    takes: Takes
    """Its first argument: a modality, a run folder or checkpoint, or only options."""
    usage: str
    """What follows its name."""
    place: str
    """Its function as `module:attribute`, with {modality} in the name of an app; it takes the arguments."""


COMMANDS: Mapping[str, Command] = {
    "train": Command(
        "train a model by a recipe",
        "modality",
        "image|audio|video [--config NAME or FILE] [--epochs 5 ...]",
        "eyetoy_{modality}.app:APP.train",
    ),
    "validate": Command(
        "score a checkpoint on held-out or other data",
        "checkpoint",
        "CHECKPOINT [--data.root FOLDER ...]",
        "eyetoy_{modality}.app:APP.validate",
    ),
    "predict": Command(
        "classify, detect or segment files",
        "checkpoint",
        "CHECKPOINT FILE ... [--output FILE]",
        "eyetoy_{modality}.app:APP.predict",
    ),
    "visualize": Command(
        "draw attention, receptive field and features",
        "checkpoint",
        "CHECKPOINT FILE ... [--output FOLDER]",
        "eyetoy_{modality}.visualize:main",
    ),
    "embed": Command(
        "write a vector for each file of a folder",
        "checkpoint",
        "CHECKPOINT FOLDER --output vectors.parquet",
        "eyetoy_{modality}.app:APP.embed",
    ),
    "export": Command(
        "write ONNX or torch.export, with the preprocessing inside",
        "checkpoint",
        "CHECKPOINT [--format onnx|pt2]",
        "eyetoy_{modality}.app:APP.export",
    ),
    "check": Command(
        "find faults of a data set before training",
        "modality",
        "image|audio|video [--config NAME or FILE] [--data.root FOLDER]",
        "eyetoy_{modality}.check:check",
    ),
    "demo": Command("try models in a browser", "options", "[--runs FOLDER] [--port 7860]", "eyetoy_demo.main:main"),
    "recipes": Command(
        "list the recipes: task, data, time, score", "options", "[PATTERN]", "eyetoy_cli.listings:list_recipes"
    ),
    "models": Command(
        "list the models: size, widths, blocks", "options", "[PATTERN]", "eyetoy_cli.listings:list_models"
    ),
    "completion": Command(
        "print a script that completes commands in a shell",
        "options",
        "bash|zsh|fish",
        "eyetoy_cli.completion:complete",
    ),
}
