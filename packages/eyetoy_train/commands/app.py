"""An app: a recipe and a task behind the commands `train`, `validate` and `predict`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eyetoy_train.checkpoint.run_folder import read_recipe
from eyetoy_train.commands.cli import (
    expand,
    files_parser,
    given_keys,
    option_place,
    parse_recipe,
    parse_with_overrides,
    recipe_options,
    refuse_ignored_options,
)
from eyetoy_train.commands.train import training
from eyetoy_train.commands.validate import refuse_to_make_data, validate_checkpoint
from eyetoy_train.concerns import Command
from eyetoy_train.ending import WRONG_INPUT, exit_on_error
from eyetoy_train.models.opened import Checkpoint, find_checkpoint, read_labels
from eyetoy_train.recipe import Recipe, options_before
from eyetoy_train.task import LabelledTask
from eyetoy_train.utils.console import log

# What needs torch is imported by the command that uses it, after its options were read: a `--help` is there at once.
if TYPE_CHECKING:
    import torch

    from eyetoy_train.classification.predictor import ClassifierPredictor
    from eyetoy_train.classification.task import ClassificationTask

DRY_RUN = ("--dry_run", "--dry-run")
DRY_RUN_HELP = """--dry_run: build the data and the model, and take one batch forward and backward. Say what a step
costs and how many there would be, draw the batch after augmentation to batch.png in the folder that the run would get,
and end. No run is started."""

T = TypeVar("T", bound=LabelledTask)
Classifier = TypeVar("Classifier", bound="ClassificationTask")


@dataclass(frozen=True)
class Deferred(Generic[T]):
    """The task of an `App` whose class is imported when it is first used, so that `--help` does not wait for torch."""

    find: Callable[[], Callable[[Any], T]]
    """Imports the class and returns it."""

    def __call__(self, recipe: Any) -> T:
        """Return the task of a recipe."""
        return self.find()(recipe)


@dataclass(frozen=True)
class App(Generic[T]):
    """A kind of task, from the command line to a trained model and back.

    Commands read checkpoints through `open` only.
    """

    recipe: type[Any]
    """The class of its recipes, a `Recipe`."""
    task: Callable[[Any], T]
    """Returns the task of a recipe: the class of the task, or a `Deferred` one."""
    extensions: Collection[str] = ()
    """Lower-case suffixes of the files that it reads in a folder."""
    default_config: Path | None = None
    """The recipe file of `train` without `--config`; `--config NAME` means a file in the same folder."""

    def parse_args(self, argv: Sequence[str] | None = None) -> tuple[T, Recipe]:
        """Return the task and the recipe of a command line, for `train`.

        On a wrong option the program exits with a message and code 2. With `--dry_run` it takes one step, see
        `eyetoy_train.engine.dry_run`, and exits with code 0.
        """
        given = list(sys.argv[1:] if argv is None else argv)
        arguments = [argument for argument in given if argument not in DRY_RUN]
        recipe: Recipe = parse_recipe(self.recipe, self.default_config, arguments, epilog=DRY_RUN_HELP)
        with exit_on_error((*WRONG_INPUT, FloatingPointError)):
            task = self.task(recipe)
            if not option_place(arguments, "--config"):  # whoever names a recipe knows where its data come from
                keys, source = given_keys(self.recipe, arguments), getattr(task, "source", None)
                refuse_to_make_data(source, getattr(recipe, "data", None), keys)
                if "data.source" in keys and not getattr(source, "makes_data", False):
                    self._tell_default_config()
            if arguments != given:
                from eyetoy_train.engine.dry_run import dry_run

                dry_run(task, recipe)
                raise SystemExit(0)
            return task, recipe

    def _tell_default_config(self) -> None:
        """Say that a recipe for small data of its own, such as gray digits, gives the settings for other data."""
        default = self.default_config
        if default is not None and os.environ.get("RANK", "0") == "0":  # of several processes, the first one
            own = ", ".join(sorted(file.stem for file in default.parent.glob("own_*.yaml")))
            instead = f"; for files of your own, there are {own}" if own else ""
            log(f"note: without --config, the other settings are those of the recipe {default.stem}{instead}")

    def options(self, argv: Sequence[str] | None = None) -> list[str]:
        """Return the options of `train`, whatever is on the command line."""
        return [*recipe_options(self.recipe), DRY_RUN[0]]

    def train(self, argv: Sequence[str] | None = None) -> None:
        """Train with the default recipe, or that of `--config`, and overrides from the command line.

        It ends as `eyetoy_train.commands.train.training` does.
        """
        with training(partial(self.parse_args, argv)) as trainer:
            trainer.fit()

    def open(self, checkpoint: Path, overrides: Sequence[str] = (), *, command: Command | None = None) -> Checkpoint[T]:
        """Open a checkpoint, or the best one of a run folder.

        Args:
            checkpoint: the folder.
            overrides: options that override its saved recipe, as on a command line.
            command: the name of the command that opens it; None for a program of one's own.

        Raises:
            FileNotFoundError: there is no checkpoint, or it has no recipe.
            ValueError: it has no list of classes, the task refuses its recipe, or the command would ignore an override.
        """
        folder = find_checkpoint(checkpoint)
        if option_place(overrides, "--config") is not None:
            raise ValueError("--config is for training, and a checkpoint has its own recipe; name single options of it")
        saved = folder / "recipe.yaml"
        if not saved.is_file():  # the parser would take the defaults of the class, without a word
            raise FileNotFoundError(f"{folder} holds a model, and no recipe.yaml that tells how it was trained")
        before = options_before(self.recipe, read_recipe(saved))
        recipe = parse_recipe(self.recipe, saved, [*before, *overrides])
        refuse_ignored_options(self.recipe, overrides, command)
        return Checkpoint(folder, self.task(recipe), read_labels(folder))

    def validate(self, argv: Sequence[str] | None = None) -> None:
        """Score a checkpoint on a split of its data, or on other data; see `validate_checkpoint`."""
        validate_checkpoint(self, argv)

    def export(self, argv: Sequence[str] | None = None) -> None:
        """Write a checkpoint as a file that runs without this code; see `export_checkpoint`."""
        from eyetoy_train.commands.export import export_checkpoint

        export_checkpoint(self, argv)

    @exit_on_error()
    def embed(self, argv: Sequence[str] | None = None) -> None:
        """Refuse to write vectors, which classifiers alone have."""
        raise ValueError("embed takes the checkpoint of a classifier; this one has no vector for a whole file")


LabelledApp = App
"""The former name of `App`."""


@dataclass(frozen=True)
class ClassificationApp(App[Classifier]):
    """The app of a modality's classifier."""

    def load(self, checkpoint: Path, *, device: torch.device | str | None = None) -> ClassifierPredictor[Classifier]:
        """Return a checkpoint as an object that classifies files and arrays; errors as in `open`."""
        from eyetoy_train.classification.predictor import ClassifierPredictor

        return ClassifierPredictor(self.open(checkpoint), device)

    @exit_on_error()
    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Classify files, and print or write the most probable classes of each."""
        parser = files_parser("Classify files with a checkpoint. Further options override its recipe.", self.extensions)
        parser.add_argument("--top_k", type=int, help="number of classes for each file (default: 5)")
        parser.add_argument(
            "--threshold",
            type=float,
            help="where a file has any number of labels: name all of at least this probability, up to --top_k if that "
            "is given (default: 0.5, or --top_k alone)",
        )
        parser.add_argument(
            "--batch_size", type=int, default=32, help="number of files classified at a time (default: 32)"
        )
        parser.add_argument("--output", type=Path, help="write a .json or .csv file instead of lines to the terminal")
        from eyetoy_train.classification.predict import LoadedClassifier, choose_classes, write_predictions
        from eyetoy_train.classification.task import Timeline

        task = self.task.find() if isinstance(self.task, Deferred) else self.task
        if isinstance(task, type) and issubclass(task, Timeline):
            parser.add_argument(
                "--timeline",
                type=float,
                metavar="SECONDS",
                help="classify parts of each file, of about SECONDS each",
            )
        options, overrides = parse_with_overrides(parser, argv)
        timeline = vars(options).get("timeline")
        if timeline is not None and not timeline > 0:
            raise ValueError(f"--timeline must be above 0 seconds; got {timeline:g}")
        if options.output and options.output.suffix not in (".json", ".csv"):
            raise ValueError(f"--output must end in .json or .csv; got {options.output}")
        if options.batch_size < 1:
            raise ValueError(f"--batch_size must be at least 1; got {options.batch_size}")
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
        opened = self.open(options.checkpoint, overrides, command="predict")
        top_k, threshold = choose_classes(opened.task, options.top_k, options.threshold, prefix="--")
        classifier = LoadedClassifier(opened.task, opened.load_model(), opened.labels)
        files = list(expand(options.inputs, self.extensions))
        predictions = classifier.predict(files, top_k, options.batch_size, timeline=timeline, threshold=threshold)
        write_predictions(predictions, options.output)
        if classifier.skipped:
            raise SystemExit(1)  # what could not be read was named

    def embed(self, argv: Sequence[str] | None = None) -> None:
        """Write the vectors of the files of a folder; see `embed_folder`."""
        from eyetoy_train.commands.embed import embed_folder

        embed_folder(partial(self.open, command="embed"), self.extensions, argv)
