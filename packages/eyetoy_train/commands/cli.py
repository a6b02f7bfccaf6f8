"""The command line: recipes from YAML files and options, and the arguments that several commands take."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader, set_parsing_settings

from eyetoy_train.recipe import Recipe
from eyetoy_train.types import CheckpointError, Split
from eyetoy_train.utils.untrusted import check_yaml

R = TypeVar("R", bound=Recipe)

MODE = "checked yaml"
"""What jsonargparse calls the way in which a recipe is read."""


class RecipeParser(ArgumentParser):
    """An argument parser that names the nearest right key for a misspelled one."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with `message`, and with a suggestion where a key was unknown."""
        unknown = re.search(r"unrecognized arguments: --([\w.]+)|Option '([\w.]+)' is not accepted", message)
        nested = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message)
        if unknown:
            message += self._suggestion(unknown.group(1) or unknown.group(2))
        elif nested:
            message += self._suggestion(".".join(nested.groups()))
        super().error(message, ex)
        raise AssertionError("error() exits")

    def _suggestion(self, key: str) -> str:
        known = [option.lstrip("-") for action in self._actions for option in action.option_strings]
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        return f"\nDid you mean --{nearest[0]}?" if nearest else f"\nThe keys are: {', '.join(sorted(known))}"


def parse_recipe(
    recipe_class: type[R],
    default_config: Path | None,
    argv: Sequence[str] | None = None,
    *,
    description: str | None = None,
) -> R:
    """Read a recipe from the command line.

    `--config FILE` takes the place of `default_config`; any other option overrides one value of it, as in
    `--lr 3e-4 --model.name eyetoy2d_nano`. A bare name, as in `--config cifar10`, means the recipe of that name beside
    `default_config`. On a wrong key or value the program ends with a message and code 2.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    set_parsing_settings(
        docstring_parse_attribute_docstrings=True,
        # A recipe is data: what looks like a class and its arguments neither is built nor has a module imported.
        instantiate_subclass_spec_in_any=False,
        import_path_denylist=["*"],
    )
    set_loader(MODE, _load, (yaml.YAMLError,))
    place = config_place(arguments)
    if place is not None:
        index, value = place
        path = str(shipped_config(value, default_config))
        arguments[index] = f"--config={path}" if arguments[index].startswith("--config=") else path
    parser = RecipeParser(
        description=description or recipe_class.__doc__,
        default_config_files=[] if place is not None or default_config is None else [str(default_config)],
        allow_abbrev=False,
        parser_mode=MODE,
    )
    parser.add_argument("--config", action="config", help="A recipe file, or the name of a recipe that is included.")
    parser.add_class_arguments(recipe_class, as_group=False)
    try:
        values = parser.parse_args(arguments)
        del values["config"]
        return recipe_class(**{key: value for key, value in vars(parser.instantiate(values)).items() if key[0] != "_"})
    except (ValueError, TypeError) as error:  # a recipe's own checks compare what may be no number
        parser.error(str(error))


def config_place(arguments: Sequence[str]) -> tuple[int, str] | None:
    """Return the index of the last argument that says which `--config` to use, and its value; None if none does."""
    found = None
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--config" and equals:
            found = (index, value)
        elif name == "--config" and index + 1 < len(arguments):
            found = (index + 1, arguments[index + 1])
    return found


def shipped_config(name: str, default_config: Path | None) -> Path:
    """Return the file that `--config` means: a file of that name, or the recipe of that name beside the default one."""
    path = Path(name)
    if default_config is None or path.exists() or path.name != name:
        return path
    shipped = default_config.with_name(name if path.suffix in (".yaml", ".yml") else f"{name}.yaml")
    return shipped if shipped.is_file() else path


def _load(text: str) -> Any:
    check_yaml(text)
    return get_loader("yaml")(text)


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


def check_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for a command that looks through a data set."""
    parser = argparse.ArgumentParser(
        description=f"{description} Further options are those of train.py, such as --config NAME and --data.root "
        "FOLDER.",
        allow_abbrev=False,
    )
    parser.add_argument("--split", choices=get_args(Split), help="look at this split alone")
    return parser


def check_output_folder(folder: Path) -> None:
    """Refuse a file where a folder is to be written to.

    Raises:
        ValueError: it is one.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output must be a folder; got the file {folder}")


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn an error about the user's input into a message and exit code 2."""
    try:
        yield
    except (ValueError, OSError, CheckpointError) as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from error
