"""What `train.py`, `validate.py` and `predict.py` of every classification app do."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import nn

from eyetoy_train.classification import ClassificationTask
from eyetoy_train.cli import parse_recipe
from eyetoy_train.evaluate import evaluate
from eyetoy_train.loop import train
from eyetoy_train.models import find_checkpoint, load_classifier
from eyetoy_train.recipe import ClassificationRecipe

R = TypeVar("R", bound=ClassificationRecipe)


@dataclass(frozen=True)
class ClassificationApp(Generic[R]):
    """A modality's classification app: its recipe, its task, and the files it reads."""

    recipe: type[R]
    task: type[ClassificationTask]
    extensions: Collection[str]

    def train(self, default_config: Path, argv: Sequence[str] | None = None) -> None:
        """Train by the default recipe, or the one that `--config` names, with overrides from the command line."""
        recipe = parse_recipe(self.recipe, default_config, argv)
        train(self.task(recipe), recipe)

    def validate(self, argv: Sequence[str] | None = None) -> None:
        """Score a checkpoint on a split of its data, or of other data, and print the scores as JSON."""
        parser = argparse.ArgumentParser(
            description="Score a checkpoint. Further options override its recipe, such as --data.root FOLDER."
        )
        parser.add_argument(
            "checkpoint", type=Path, help="a run folder, whose best checkpoint is used, or a checkpoint"
        )
        parser.add_argument("--split", choices=("train", "val", "test"), default="test")
        options, overrides = parser.parse_known_args(argv)
        with _exit_on_error(parser):
            folder = find_checkpoint(options.checkpoint)
            task = self.task(parse_recipe(self.recipe, folder / "recipe.yaml", overrides))
            accelerator = Accelerator(mixed_precision=task.recipe.mixed_precision)
            with accelerator.local_main_process_first():
                task.prepare()
            _check_labels(folder, task)
            dataset = task.dataset(options.split)
            if dataset is None:
                raise ValueError(f"the data have no split {options.split!r}; choose another with --split")
            model = load_classifier(folder).to(accelerator.device)
            scores = evaluate(task, model, dataset, accelerator, batch_size=task.recipe.eval_batch_size)
        if accelerator.is_main_process:
            print(json.dumps({"checkpoint": str(folder), "split": options.split, **scores}, indent=2))  # noqa: T201

    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Classify files, and print or write the most probable classes of each."""
        parser = argparse.ArgumentParser(description="Classify files with a checkpoint.")
        parser.add_argument(
            "checkpoint", type=Path, help="a run folder, whose best checkpoint is used, or a checkpoint"
        )
        parser.add_argument("inputs", type=Path, nargs="+", help=f"files or folders ({', '.join(self.extensions)})")
        parser.add_argument("--top_k", type=int, default=3, help="how many classes to name for each file (default: 3)")
        parser.add_argument("--output", type=Path, help="write a .json or .csv file instead of lines to the terminal")
        options = parser.parse_args(argv)
        with _exit_on_error(parser):
            folder = find_checkpoint(options.checkpoint)
            task = self.task(parse_recipe(self.recipe, folder / "recipe.yaml", []))
            classifier = LoadedClassifier(task, load_classifier(folder), read_labels(folder))
            files = list(_expand(options.inputs, self.extensions))
            predictions = [classifier.predict(file, options.top_k) for file in files]
            write_predictions(predictions, options.output)


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of a file with their probabilities, the first one first."""

    file: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class LoadedClassifier:
    """A trained model with the preprocessing and the labels that it was trained with."""

    def __init__(self, task: ClassificationTask, model: nn.Module, labels: Sequence[str]) -> None:
        self.task = task
        self.model = model.to(_best_device()).eval()
        self.labels = labels

    @torch.inference_mode()
    def predict(self, file: Path, top_k: int) -> Prediction:
        """Classify one file."""
        x = self.task.transform(self.task.load_sample(file, training=False), training=False)[None]
        device = next(self.model.parameters()).device
        probabilities = self.task.outputs(self.model, {"input": x.to(device)}).float().softmax(-1)[0].cpu()
        best = probabilities.topk(min(max(top_k, 1), len(self.labels)))
        classes = tuple(self.labels[i] for i in best.indices.tolist())
        return Prediction(str(file), classes, tuple(round(p, 4) for p in best.values.tolist()))


def read_labels(folder: Path) -> list[str]:
    """Return the names of a checkpoint's classes, in the order of its logits."""
    labels: list[str] = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    return labels


def write_predictions(predictions: Sequence[Prediction], output: Path | None) -> None:
    """Write predictions to a .json or .csv file, or print a line for each.

    Raises:
        ValueError: `output` ends in something else.
    """
    if output is None:
        for prediction in predictions:
            ranked = zip(prediction.classes, prediction.probabilities, strict=True)
            print(f"{prediction.file}  " + "  ".join(f"{name} {p:.1%}" for name, p in ranked))  # noqa: T201
    elif output.suffix == ".json":
        output.write_text(json.dumps([vars(prediction) for prediction in predictions], indent=2), encoding="utf-8")
    elif output.suffix == ".csv":
        with output.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "rank", "class", "probability"])
            for prediction in predictions:
                ranked = zip(prediction.classes, prediction.probabilities, strict=True)
                writer.writerows([prediction.file, rank, name, p] for rank, (name, p) in enumerate(ranked, 1))
    else:
        raise ValueError(f"--output must end in .json or .csv; got {output}")


def _expand(inputs: Sequence[Path], extensions: Collection[str]) -> Iterator[Path]:
    for path in inputs:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in extensions)
        elif path.is_file():
            yield path
        else:
            raise FileNotFoundError(f"there is no file or folder {path}")


def _check_labels(folder: Path, task: ClassificationTask) -> None:
    labels = read_labels(folder)
    if labels != list(task.classes):
        raise ValueError(f"the checkpoint knows the classes {labels}, but the data have {list(task.classes)}")


def _best_device() -> torch.device:
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


@contextmanager
def _exit_on_error(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Turn an error about what the user gave into a message and exit code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from error
