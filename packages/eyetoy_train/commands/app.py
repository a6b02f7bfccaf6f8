"""What `train.py` and `validate.py` of every app do, and `predict.py` of those that classify."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from accelerate import Accelerator

from eyetoy_train.checkpoint.atomic import CheckpointError
from eyetoy_train.classification.predict import LoadedClassifier, write_predictions
from eyetoy_train.classification.task import ClassificationTask
from eyetoy_train.commands.cli import parse_recipe
from eyetoy_train.engine.evaluation import evaluation_sums
from eyetoy_train.engine.trainer import train
from eyetoy_train.models.build import find_checkpoint
from eyetoy_train.recipe import ClassificationRecipe, Recipe
from eyetoy_train.task import Task
from eyetoy_train.types import Table
from eyetoy_train.utils.untrusted import read_json

LABELS = "labels.json"

R = TypeVar("R", bound=Recipe)
C = TypeVar("C", bound=ClassificationRecipe)


class LabelledTask(Task, Protocol):
    """A task with named classes."""

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their labels. Called after `prepare`."""


class App(Protocol):
    """What the three scripts of an app call."""

    def train(self, default_config: Path, argv: Sequence[str] | None = None) -> None:
        """Train by the default recipe, or the one that `--config` names, with overrides from the command line."""

    def validate(self, argv: Sequence[str] | None = None) -> None:
        """Score a checkpoint on a split of its data, or of other data, and print the scores as JSON."""

    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Tell what a checkpoint sees in files."""


@dataclass(frozen=True)
class LabelledApp(Generic[R]):
    """Training and scoring of a task with named classes."""

    recipe: type[R]
    task: Callable[[Any], LabelledTask]
    """Makes the task of a recipe."""

    def train(self, default_config: Path, argv: Sequence[str] | None = None) -> None:
        """Train by the default recipe, or the one that `--config` names, with overrides from the command line."""
        recipe = parse_recipe(self.recipe, default_config, argv)
        train(self.task(recipe), recipe)

    def validate(self, argv: Sequence[str] | None = None) -> None:
        """Score a checkpoint on a split of its data, or of other data, and print the scores as JSON."""
        parser = checkpoint_parser(
            "Score a checkpoint. Further options override its recipe, such as --data.root FOLDER."
        )
        parser.add_argument("--split", choices=("train", "val", "test"), default="test")
        parser.add_argument(
            "--output",
            type=Path,
            help="folder for scores.json, and what stands behind the scores as tables and pictures",
        )
        options, overrides = parser.parse_known_args(argv)
        with exit_on_error(parser):
            folder = find_checkpoint(options.checkpoint)
            task = self.task(parse_recipe(self.recipe, folder / "recipe.yaml", overrides))
            accelerator = Accelerator(mixed_precision=task.recipe.mixed_precision)
            with accelerator.local_main_process_first():
                task.prepare()
            _check_labels(folder, task)
            dataset = task.dataset(options.split)
            if dataset is None:
                raise ValueError(f"the data have no split {options.split!r}; choose another with --split")
            model = task.load(folder).to(accelerator.device)
            started = time.perf_counter()
            sums = evaluation_sums(task, model, dataset, accelerator, batch_size=task.recipe.eval_batch_size)
            scores = task.metrics().compute(sums)
            scores["samples_per_second"] = round(scores["count"] / (time.perf_counter() - started), 1)
        if accelerator.is_main_process:
            how = {"protocol": task.protocol} if task.protocol else {}
            report = json.dumps({"checkpoint": str(folder), "split": options.split, **how, **scores}, indent=2)
            print(report)  # noqa: T201
            if options.output:
                options.output.mkdir(parents=True, exist_ok=True)
                (options.output / "scores.json").write_text(report, encoding="utf-8")
                for table in task.metrics().details(sums, options.output).tables:
                    write_table(table, options.output / f"{table.title.lower()}.csv")


@dataclass(frozen=True)
class ClassificationApp(LabelledApp[C]):
    """A modality's classification app: its recipe, its task, and the files it reads."""

    task: type[ClassificationTask]
    extensions: Collection[str]

    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Classify files, and print or write the most probable classes of each."""
        parser = files_parser("Classify files with a checkpoint. Further options override its recipe.", self.extensions)
        parser.add_argument("--top_k", type=int, default=5, help="how many classes to name for each file (default: 5)")
        parser.add_argument("--batch_size", type=int, default=32, help="files classified at a time (default: 32)")
        parser.add_argument("--output", type=Path, help="write a .json or .csv file instead of lines to the terminal")
        if self.task.parts is not ClassificationTask.parts:
            parser.add_argument(
                "--timeline",
                type=float,
                metavar="SECONDS",
                help="classify every part of a file, of about so many seconds, by itself",
            )
        options, overrides = parser.parse_known_args(argv)
        timeline = vars(options).get("timeline")
        with exit_on_error(parser):
            if timeline is not None and not timeline > 0:
                raise ValueError(f"--timeline must be above 0 seconds; got {timeline:g}")
            if options.output and options.output.suffix not in (".json", ".csv"):
                raise ValueError(f"--output must end in .json or .csv; got {options.output}")
            if options.batch_size < 1:
                raise ValueError(f"--batch_size must be at least 1; got {options.batch_size}")
            folder = find_checkpoint(options.checkpoint)
            task = self.task(parse_recipe(self.recipe, folder / "recipe.yaml", overrides))
            classifier = LoadedClassifier(task, task.load(folder), read_labels(folder))
            files = list(expand(options.inputs, self.extensions))
            predictions = classifier.predict(files, options.top_k, options.batch_size, timeline=timeline)
            write_predictions(predictions, options.output)
        if classifier.skipped:
            raise SystemExit(1)  # what could not be read was named


def read_labels(folder: Path) -> list[str]:
    """Return the names of a checkpoint's classes, in the order of its logits.

    Raises:
        OSError: there is no labels.json in the folder.
        ValueError: it is no list of names.
    """
    labels = read_json(folder / LABELS)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{folder / LABELS} must be a list of names")
    return labels


def write_table(table: Table, path: Path) -> None:
    """Write a table of a report as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([table.header, *table.rows])


def expand(inputs: Sequence[Path], extensions: Collection[str]) -> Iterator[Path]:
    """Give the files that files, folders and patterns mean.

    Raises:
        FileNotFoundError: there is nothing of that name, and nothing matches it as a pattern.
    """
    for path in inputs:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in extensions)
        elif path.exists():
            yield path
        else:
            matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
            if not matches:
                raise FileNotFoundError(f"there is no file or folder {path}, and no file matches it as a pattern")
            for match in matches:
                yield from expand([match], extensions) if match.is_dir() else [match]


def _check_labels(folder: Path, task: LabelledTask) -> None:
    labels = read_labels(folder)
    if labels != list(task.classes):
        raise ValueError(f"the checkpoint knows the classes {labels}, but the data have {list(task.classes)}")


def checkpoint_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for a command that takes a checkpoint."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("checkpoint", type=Path, help="a run folder, whose best checkpoint is used, or a checkpoint")
    return parser


def files_parser(description: str, extensions: Collection[str]) -> argparse.ArgumentParser:
    """Return a parser for a command that takes a checkpoint and files, folders or patterns."""
    parser = checkpoint_parser(description)
    parser.add_argument("inputs", type=Path, nargs="+", help=f"files, folders or patterns ({', '.join(extensions)})")
    return parser


def check_output_folder(folder: Path) -> None:
    """Refuse a file where a folder is to be written to.

    Raises:
        ValueError: it is one.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output must be a folder; got the file {folder}")


@contextmanager
def exit_on_error(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Turn an error about what the user gave into a message and exit code 2."""
    try:
        yield
    except (ValueError, OSError, CheckpointError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from error
