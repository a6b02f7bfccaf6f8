"""Check the files of a classification data set before a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from eyetoy_train.commands.cli import check_parser, parse_recipe, parse_with_overrides, refuse_ignored_options
from eyetoy_train.data.findings import Finding, find_copies, find_empty, find_odd, summary
from eyetoy_train.data.folder import ClassFolder, EmptyClassError
from eyetoy_train.data.inventory import Inventory
from eyetoy_train.data.source import DatasetRegistry, DatasetSource, FolderSource, LabelledSamples
from eyetoy_train.data.unreadable import name_few, why_unreadable
from eyetoy_train.recipe import ClassificationRecipe, check
from eyetoy_train.types import Split
from eyetoy_train.utils.console import log

R = TypeVar("R", bound=ClassificationRecipe)
Measure = Callable[[Path], Mapping[str, float]]
"""Reads a file and returns its measures, such as `width`; raises UnreadableFileError or OSError if it cannot."""


def files_check_parser(description: str) -> argparse.ArgumentParser:
    """Return a `check_parser` with the options of a check of class folders."""
    parser = check_parser(description)
    parser.add_argument("--all", action="store_true", help="name all findings, not the first few of each kind")
    parser.add_argument(
        "--odd",
        type=float,
        default=4.0,
        metavar="FACTOR",
        help="sizes and lengths are odd if they are more than FACTOR times the median, or less than 1/FACTOR of it "
        "(default: 4)",
    )
    return parser


def check_files(
    recipe_class: type[R],
    default_config: Path | None,
    datasets: DatasetRegistry,
    measure: Callable[[R], Measure],
    argv: Sequence[str] | None = None,
) -> int:
    """Read the files of a recipe's data set, and log what is wrong or odd about them.

    Args:
        recipe_class: the class of the recipe.
        default_config: the recipe file without `--config`.
        datasets: opens the recipe's data.
        measure: returns what reads a file of a recipe.
        argv: the command line.

    Returns:
        the exit code: 1 with findings, 0 without.

    Raises:
        ValueError: the data are no files, or have no such split.
    """
    parser = files_check_parser("Find files that are unreadable, odd or come twice, and empty classes.")
    options, overrides = parse_with_overrides(parser, argv)
    recipe = parse_recipe(recipe_class, default_config, overrides)
    refuse_ignored_options(recipe_class, overrides, "check")
    data: Any = vars(recipe)["data"]
    try:
        source, folder = listed_files(datasets, data, recipe.seed, options)
    except EmptyClassError as error:
        log(f"empty: {error}")
        return 1
    log_read(source, folder.splits)
    files = files_of(folder)
    read, measures = measure(recipe), dict[Path, Mapping[str, float]]()

    def measured(path: Path) -> None:
        measures[path] = read(path)

    reasons = zip(files, why_unreadable(files, measured), strict=True)
    findings = [Finding("unreadable", path, why) for path, why in reasons if why is not None]
    findings += [*find_copies(folder), *find_empty(folder), *find_odd(measures, options.odd)]
    log(summary(findings, len(files)))
    for line in map(str, findings) if options.all else name_few(findings):
        log(line)
    return int(bool(findings))


def listed_files(
    datasets: DatasetRegistry, data: Any, seed: int, options: argparse.Namespace
) -> tuple[FolderSource, ClassFolder]:
    """Return the source of a recipe's data and its files, of all splits or of that of `--split`.

    Raises:
        EmptyClassError: a class has no file for training.
        ValueError: the data are no files, have no such split, or an option has a wrong value.
    """
    check(options.odd > 1, "--odd", options.odd, "above 1")
    source = datasets.open(data, seed)
    if not isinstance(source, FolderSource):
        kind = "a set of the hub" if data.source == "hub" else f"of the kind {data.source}"
        raise ValueError(f"{data.root} is {kind}, which has no list of files")
    folder = source.listed
    if options.split is None:
        return source, folder
    if options.split not in folder.splits:
        raise ValueError(f"the set has no split {options.split!r}, but {', '.join(folder.splits)}")
    return source, ClassFolder(folder.classes, {options.split: folder.splits[options.split]})


def log_read(source: DatasetSource[Any], samples: Mapping[Split, LabelledSamples]) -> None:
    """Log what was read of a set, and a warning for groups in two splits, or for names that suggest such.

    Args:
        source: the set.
        samples: by split, its samples with their labels; None is a label that is not known.
    """
    inventory = source.inventory({split: len(found) for split, found in samples.items()}, samples=samples)
    log(f"data: {inventory.describe()}")
    log_groups(inventory)


def log_groups(inventory: Inventory) -> None:
    """Log a warning for groups in two splits, or for names that suggest such."""
    for line in inventory.group_warnings():
        log(f"warning: {line}")


def files_of(folder: ClassFolder) -> list[Path]:
    """Return all files of a data set, each once."""
    return list(dict.fromkeys(path for samples in folder.splits.values() for path, _ in samples))
