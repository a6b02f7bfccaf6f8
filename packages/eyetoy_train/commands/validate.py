"""Score a checkpoint on its data or on others: the command `validate` of every app."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

from eyetoy_train.checkpoint.run_folder import read_recipe
from eyetoy_train.commands.cli import checkpoint_parser, given_keys, make_output_folder, parse_with_overrides
from eyetoy_train.commands.opens import Opens
from eyetoy_train.concerns import DATA, concern_of
from eyetoy_train.ending import exit_on_error
from eyetoy_train.models.opened import Checkpoint
from eyetoy_train.task import LabelledTask, Listing
from eyetoy_train.types import SampleStream, Split, Table
from eyetoy_train.utils.console import log
from eyetoy_train.utils.statistics import SHARES, interval

if TYPE_CHECKING:
    from accelerate import Accelerator

DIVIDING = frozenset(["seed", "data.folds", "data.fold", "data.group_pattern", "data.group_column"])
"""Keys of a recipe that choose which samples of the data are held out."""


class Scores(Opens, Protocol):
    """What opens checkpoints and knows the class of their recipes."""

    @property
    def recipe(self) -> type[Any]:
        """The class of its recipes."""


@exit_on_error()
def validate_checkpoint(app: Scores, argv: Sequence[str] | None = None) -> None:
    """Score a checkpoint as the command line says, and print the scores as JSON.

    Args:
        app: opens checkpoints.
        argv: the command line; `sys.argv[1:]` by default.
    """
    parser = checkpoint_parser("Score a checkpoint. Further options override its recipe, such as --data.root FOLDER.")
    parser.add_argument(
        "--split",
        choices=(*get_args(Split), "all"),
        help="which samples to score (default: test; all of another folder that has no split folders)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for scores.json, tables, figures, and predictions.csv, which lists every file, mistakes first",
    )
    options, overrides = parse_with_overrides(parser, argv)
    if options.output:
        make_output_folder(options.output)
    with contextlib.redirect_stdout(sys.stderr):  # what is said of the data; stdout is the JSON alone
        report = _score(app, options, overrides)
    if report is not None:
        print(report)  # noqa: T201


def _score(app: Scores, options: argparse.Namespace, overrides: Sequence[str]) -> str | None:
    """Score a checkpoint, write what `--output` asks for, and return the scores as JSON on the main process."""
    # Here, after the options were read: a `--help` does not wait for them.
    from accelerate import Accelerator

    from eyetoy_train.engine.evaluation import Evaluation

    opened = app.open(options.checkpoint, overrides, command="validate")
    task: LabelledTask = opened.task
    accelerator = Accelerator(mixed_precision=task.recipe.mixed_precision)
    given = given_keys(app.recipe, overrides) if overrides else []
    whole = _choose_samples(opened, options.split, given, accelerator)
    split: Split = "test" if whole else options.split or "test"
    # Data are downloaded or written once, by the first process; the others find them.
    with accelerator.local_main_process_first():
        task.prepare()
    if opened.labels != list(task.classes):
        raise ValueError(f"the checkpoint knows the classes {opened.labels}, but the data have {list(task.classes)}")
    # A task of one's own may have none, since the engine never scores the training set.
    dataset = getattr(task, "evaluation_set", task.dataset)(split)
    if dataset is None:
        raise ValueError(f"the data have no split {split!r}; choose another with --split")
    if accelerator.is_main_process and not whole and not _names_other_data(app.recipe, given, opened):
        _warn_of_other_data(opened, split)
    model = opened.load_model(accelerator.device)
    started = time.perf_counter()
    evaluation = Evaluation(
        task, accelerator, batch_size=task.recipe.eval_batch_size, num_workers=task.recipe.num_workers
    )
    sums = evaluation.sums(model, dataset)
    scores = task.metrics().compute(sums)
    scores["samples_per_second"] = round(scores["count"] / (time.perf_counter() - started), 1)
    if not accelerator.is_main_process:
        return None
    intervals = {name: interval(scores[name], scores["count"]) for name in SHARES if name in scores}
    said: dict[str, Any] = {"checkpoint": str(opened.folder), "split": "all" if whole else split}
    said |= {"protocol": task.protocol} if task.protocol else {}
    said |= scores | ({"interval_95": intervals} if intervals else {})
    report = json.dumps(said, indent=2)
    if options.output:
        (options.output / "scores.json").write_text(report, encoding="utf-8")
        tables = [*task.metrics().details(sums, options.output).tables]
        if isinstance(task, Listing):
            predictions = task.predictions(sums, split)
            if predictions.rows:
                tables.append(predictions)
            else:
                log("predictions.csv is not written: samples of a stream have no names", file=sys.stderr)
        for table in tables:
            write_table(table, options.output / f"{table.title.lower()}.csv")
    return report


def write_table(table: Table, path: Path) -> None:
    """Write a table as CSV."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows([table.header, *table.rows])


def refuse_to_make_data(source: object, data: Any, given: Sequence[str]) -> None:
    """Refuse a `--data.root` that does not exist, where the data set would make its own data there.

    Somebody who names a folder of his own, and makes a typing error, would use other data without knowing.

    Args:
        source: the data set.
        data: the recipe's part about it.
        given: the keys of the recipe that the command line gives.

    Raises:
        ValueError: it does not exist.
    """
    is_named = "data.root" in given and "data.source" not in given
    if is_named and getattr(source, "makes_data", False) and not Path(data.root).exists():
        raise ValueError(
            f"there is no folder {data.root} (--data.root), and the recipe would write its own data there; add "
            f"--data.source folder for data of your own, or --data.source {data.source} to have them written"
        )


def _choose_samples(opened: Checkpoint[Any], split: str | None, given: Sequence[str], accelerator: Accelerator) -> bool:
    """Number the classes of the data as the checkpoint does; return whether the samples of all splits are scored.

    Raises:
        ValueError: all samples are asked for where the task has no such choice, or the folder does not exist.
        OSError: the folder cannot be read.
    """
    from eyetoy_train.classification.task import ClassificationTask
    from eyetoy_train.data.folder import ALL_FILES
    from eyetoy_train.data.source import FolderSource

    task = opened.task
    source, data = getattr(task, "source", None), getattr(task.recipe, "data", None)
    refuse_to_make_data(source, data, given)
    if not isinstance(task, ClassificationTask):
        if split == "all":
            raise ValueError("--split all is for classification; choose train, val or test")
        return False
    whole = split == "all"
    root = str(getattr(data, "root", ""))
    is_other = "data.root" in given and _is_other_root(opened, root)
    if split is None and is_other and isinstance(source, FolderSource):
        # None of these files were trained on, so there is no part to hold out.
        unsplit = source.unsplit()
        if unsplit is not None:
            task.source = unsplit
            whole = unsplit.places.get("test") == ALL_FILES
            if whole and accelerator.is_main_process:
                count = len(unsplit.folder.splits["test"])
                log(
                    f"{root} has no split folders: all its {count:,} files are scored; --split test scores the "
                    "part that a run would hold out",
                    file=sys.stderr,
                )
    if whole and "data.limit" not in given:
        task.limit = None  # which the training may have had
    task.score_by(opened.labels, whole=whole)
    return whole


def _names_other_data(recipe: type[Any], given: Sequence[str], opened: Checkpoint[Any]) -> bool:
    """Whether the command line names other data than the run's, or a part of them; not if it divides them otherwise."""
    chosen = {key for key in given if key == "data" or concern_of(recipe, key) is DATA} - DIVIDING
    # The same folder by an absolute path would have samples of other names.
    trained = _trained_root(opened)
    is_other = "data.root" in given and (trained is None or Path(opened.task.recipe.data.root) != Path(trained))
    return bool(chosen) or is_other


def _warn_of_other_data(opened: Checkpoint[Any], split: Split) -> None:
    """Warn if a split was held out of other files than those of the run: it may have trained on some of its samples."""
    from eyetoy_train.engine.data_record import data_changes

    changes = data_changes(opened.folder.parent.parent / "data.json", opened.task)
    changed = [
        name
        for name in ("train", split)
        # Of a stream nothing is held out.
        if any(change.startswith(f"{name} ") for change in changes)
        and not isinstance(opened.task.dataset(name), SampleStream)
    ]
    if len(changed) > 1:  # with split folders, more files of one split do not touch the others
        log(
            f"warning: the samples are not those of this run: {'; '.join(changes)}; what is held out is drawn anew, so "
            f"that it may have trained on samples of {split}, and the score may be too good",
            file=sys.stderr,
        )


def _trained_root(opened: Checkpoint[Any]) -> Any:
    """Return the folder of the data that a checkpoint was trained on, as its recipe has it; None if it has none."""
    saved = read_recipe(opened.folder / "recipe.yaml")
    return saved["data"].get("root") if isinstance(saved, dict) and isinstance(saved.get("data"), dict) else None


def _is_other_root(opened: Checkpoint[Any], root: str) -> bool:
    """Whether a folder is another one than that of the data that a checkpoint was trained on."""
    trained = _trained_root(opened)
    return trained is None or Path(trained).expanduser().resolve() != Path(root).expanduser().resolve()
