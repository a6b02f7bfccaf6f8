"""The command line: recipes from YAML files and options, and arguments shared by several commands."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import re
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader, set_parsing_settings

from eyetoy_train.concerns import Command, refuse_ignored
from eyetoy_train.ending import exit_on_error as exit_on_error  # its former place
from eyetoy_train.recipe import Recipe
from eyetoy_train.types import Split
from eyetoy_train.utils.console import log
from eyetoy_train.utils.files import CLUTTER_REASONS, list_files, reasons
from eyetoy_train.utils.processes import let_the_first_speak
from eyetoy_train.utils.text import shown_lines
from eyetoy_train.utils.untrusted import check_yaml, read_yaml

R = TypeVar("R", bound=Recipe)

MODE = "checked yaml"
"""jsonargparse's name for our loader of recipes."""


class RecipeParser(ArgumentParser):
    """An argument parser whose errors are one sentence, with the nearest valid key for a misspelled one."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with `message`, and with a suggestion where a key was unknown."""
        # jsonargparse passes no key, only these texts: for options of the command line, keys of a file, nested keys.
        unknown = re.search(r"unrecognized arguments: --([\w.]+)|Option '([\w.]+)' is not accepted", message)
        nested = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message)
        if unknown:
            message += self._suggestion(unknown.group(1) or unknown.group(2))
        elif nested:
            message += self._suggestion(".".join(nested.groups()))
        # Not the parent's, which prints all options first: there are a hundred.
        let_the_first_speak()
        log(f"{self.prog}: error: {' '.join(message.split())}", file=sys.stderr)
        raise SystemExit(2) from ex

    def _print_message(self, message: str, file: Any = None) -> None:
        file = file or sys.stderr  # as argparse does
        super()._print_message(shown_lines(message, file.encoding), file)

    def options(self) -> list[str]:
        """Return its options, with their dashes."""
        return [option for action in self._actions for option in action.option_strings]

    def _suggestion(self, key: str) -> str:
        known = [option.lstrip("-") for option in self.options()]
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        return f"\nDid you mean --{nearest[0]}?" if nearest else f"\nThe keys are: {', '.join(sorted(known))}"


def parse_recipe(
    recipe_class: type[R],
    default_config: Path | None,
    argv: Sequence[str] | None = None,
    *,
    description: str | None = None,
    epilog: str | None = None,
) -> R:
    """Read a recipe from the command line.

    `--config FILE` replaces `default_config`; of two files, the second overrides values of the first. Any other option,
    before or after them, overrides one value, as in `--lr 3e-4 --model.name eyetoy2d_nano`. A bare name, as in
    `--config cifar10`, means the recipe of that name in the folder of `default_config`. `~/` at the start of a value is
    the user's folder. On a wrong key or value the program exits with a message and code 2.

    Args:
        recipe_class: the class of the recipe.
        default_config: the recipe file without `--config`.
        argv: the command line; `sys.argv[1:]` by default.
        description: shown by `--help`; the class's docstring by default.
        epilog: shown at the end of `--help`.
    """
    files, arguments = _apart(sys.argv[1:] if argv is None else argv)
    try:
        # Found here: jsonargparse opens files of --config itself and would look in the current folder only.
        paths = [_readable(shipped_config(file, default_config)) for file in files]
    except (OSError, ValueError) as error:
        RecipeParser().error(str(error))
    # In front of the options: jsonargparse would let a file override those that come before it.
    arguments = [*[f"--config={path}" for path in paths], *arguments]
    parser = _recipe_parser(recipe_class, None if files else default_config, description, epilog)
    try:
        values = parser.parse_args(arguments)
        del values["config"]
        _check_values(recipe_class, values)
        for part in dataclasses.fields(recipe_class):
            if dataclasses.is_dataclass(part.default_factory) and not isinstance(values[part.name], Namespace):
                keys = ", ".join(inner.name for inner in dataclasses.fields(part.default_factory))
                raise ValueError(f"{part.name} has keys of its own ({keys}); got the value {values[part.name]!r}")
        # Before the parts are built: some of them are frozen.
        for key, value in list(values.items()):
            values[key] = _expand_home(value)
        # Keys with an underscore are jsonargparse's notes, such as the files that were read.
        made = {key: value for key, value in vars(parser.instantiate(values)).items() if key[0] != "_"}
        return recipe_class(**made)
    except (ValueError, TypeError) as error:  # TypeError: a recipe's checks compare values that may not be numbers
        parser.error(str(error))


def _check_values(part: type[Any], values: Namespace, prefix: str = "") -> None:
    """Refuse null where a recipe needs a value, which the parser takes for no value; and numbers that are not finite.

    Args:
        part: the class of a recipe, or of a part of one.
        values: what was parsed for it.
        prefix: what comes before its keys on the command line, such as `data.`.

    Raises:
        ValueError: there is such a value.
    """
    for name, hint in get_type_hints(part).items():
        value = values.get(name)
        if isinstance(value, Namespace) and dataclasses.is_dataclass(hint):
            _check_values(cast("type[Any]", hint), value, f"{prefix}{name}.")
        elif name in values and value is None and hint is not Any and type(None) not in get_args(hint):
            raise ValueError(f"{prefix}{name} needs a value; got null")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{prefix}{name} must be a finite number; got {value}")


def recipe_options(recipe_class: type[Recipe]) -> list[str]:
    """Return the options that `parse_recipe` takes for a recipe of this class, such as `--data.root`."""
    return _recipe_parser(recipe_class, None, None).options()


def given_keys(recipe_class: type[Recipe], arguments: Sequence[str]) -> list[str]:
    """Return the keys of a recipe that a command line gives itself, besides those of a file of `--config`.

    Args:
        recipe_class: the class of the recipe.
        arguments: the command line; `parse_recipe` takes it.
    """
    _, own = _apart(arguments)
    # The values, too, may be keys, as in --data '{root: a}': so the parser tells, and not the options' names.
    return [key for key, _ in _recipe_parser(recipe_class, None, None).parse_args(own, defaults=False).items()]


def refuse_ignored_options(recipe_class: type[Recipe], arguments: Sequence[str], command: Command | None) -> None:
    """Refuse options of a command line that a command would ignore; see `refuse_ignored`."""
    if arguments:
        refuse_ignored(recipe_class, given_keys(recipe_class, arguments), command)


def _recipe_parser(
    recipe_class: type[Recipe], default_config: Path | None, description: str | None, epilog: str | None = None
) -> RecipeParser:
    set_parsing_settings(
        docstring_parse_attribute_docstrings=True,  # the docstring of a field is its --help
        # A recipe is data. By default jsonargparse would import and build whatever a value names as `class_path`.
        instantiate_subclass_spec_in_any=False,
        import_path_denylist=["*"],
    )
    set_loader(MODE, _load, (yaml.YAMLError,))
    parser = RecipeParser(
        description=description or recipe_class.__doc__,
        epilog=epilog,
        # Not the default beneath a named file: values that the file leaves out are those of the class.
        default_config_files=[] if default_config is None else [str(default_config)],
        allow_abbrev=False,  # or a misspelled key would silently match a longer one
        parser_mode=MODE,
    )
    parser.add_argument("--config", action="config", help="A recipe file, or the name of an included recipe.")
    parser.add_class_arguments(recipe_class, as_group=False)
    return parser


def _expand_home(value: Any) -> Any:
    """Replace a leading `~/` by the user's folder, in every text of a recipe: such a text is a path.

    A shell does so for `--data.root ~/a`, but not for `--data.root=~/a`, and nobody does so for a recipe's file.
    """
    if isinstance(value, str) and (value == "~" or value.startswith("~/")):
        return str(Path(value).expanduser())
    if isinstance(value, dict):
        return {key: _expand_home(entry) for key, entry in value.items()}
    return value


def _apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the values of every `--config` of a command line, in order, and its other arguments."""
    files: list[str] = []
    others = list(arguments)
    while (place := option_place(others, "--config")) is not None:
        index, value = place
        del others[index if others[index].startswith("--") else index - 1 : index + 1]
        files.insert(0, value)
    return files, others


def option_place(arguments: Sequence[str], option: str) -> tuple[int, str] | None:
    """Return the index of the argument with the value of an option such as `--config`, and the value; None without."""
    found = None  # the last one counts, as everywhere on a command line
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == option and equals:
            found = (index, value)
        elif name == option and index + 1 < len(arguments):
            found = (index + 1, arguments[index + 1])
    return found


def shipped_config(name: str, default_config: Path | None) -> Path:
    """Return the file of `--config NAME`: an existing file, or the recipe of that name next to the default one.

    Raises:
        FileNotFoundError: there is neither; the message has the nearest name.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    included: list[str] = []
    if default_config is not None and path.name == name:
        shipped = default_config.with_name(name if path.suffix in (".yaml", ".yml") else f"{name}.yaml")
        if shipped.is_file():
            return shipped
        included = sorted(file.stem for file in default_config.parent.glob("*.yaml"))
    near = difflib.get_close_matches(path.stem, included, n=1, cutoff=0.5)
    there_are = f"; the included ones are {', '.join(included)}" if included else ""
    raise FileNotFoundError(
        f"--config {name} is no recipe: there is no such file{there_are}"
        + (f". Did you mean --config {near[0]}?" if near else "")
    )


def _readable(path: Path) -> Path:
    """Return the file of a recipe; raise a ValueError that names it if it holds something else."""
    try:
        content = read_yaml(path)
    except yaml.YAMLError as error:
        raise ValueError(f"--config {path} is no recipe: {error}") from error
    if content is not None and not isinstance(content, dict):
        raise ValueError(f"--config {path} is no recipe: it should hold keys and values, such as epochs: 5")
    return path


def _load(text: str) -> Any:
    check_yaml(text)  # refuses nesting and aliases that would fill the memory
    return get_loader("yaml")(text)


def expand(inputs: Sequence[Path], extensions: Collection[str]) -> Iterator[Path]:
    """Yield the files of a list of files, folders and patterns.

    Raises:
        FileNotFoundError: nothing has that name, and nothing matches it as a pattern; or a folder has no such file.
    """
    for path in inputs:
        if path.is_dir():
            files, left_out = list_files(path, extensions)
            if not files:
                raise FileNotFoundError(
                    f"found no file ending in {', '.join(sorted(extensions))} in the folder {path}; it holds "
                    f"{reasons(left_out) or 'nothing'}"
                )
            if others := {why: count for why, count in left_out.items() if why not in CLUTTER_REASONS}:
                log(f"left out in {path}: {reasons(others)}", file=sys.stderr)
            yield from files
        elif path.exists():
            yield path
        else:
            # A pattern that the shell left alone: on Windows, or in quotes. `glob` refuses absolute patterns, so it
            # starts at the anchor, such as / or C:\, which is empty for a relative path.
            matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
            if not matches:
                raise FileNotFoundError(f"there is no file or folder {path}, and no file matches it as a pattern")
            for match in matches:
                yield from expand([match], extensions) if match.is_dir() else [match]


def checkpoint_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with a checkpoint argument."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint, or a run folder for its best checkpoint")
    return parser


def files_parser(description: str, extensions: Collection[str]) -> argparse.ArgumentParser:
    """Return a parser with arguments for a checkpoint and files, folders or patterns."""
    parser = checkpoint_parser(description)
    parser.add_argument("inputs", type=Path, nargs="+", help=f"files, folders or patterns ({', '.join(extensions)})")
    return parser


def check_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for a command that checks a data set.

    Such a command returns the exit code 0 without findings and 1 with findings. If the set cannot be checked, it ends
    the program with a message and code 2.
    """
    parser = argparse.ArgumentParser(
        description=f"{description} Further options are those of training, such as --config NAME and --data.root "
        "FOLDER.",
        allow_abbrev=False,
    )
    parser.add_argument("--split", choices=get_args(Split), help="check this split only")
    return parser


def make_output_folder(folder: Path, read: Iterable[Path] = (), written: Iterable[str] = ()) -> None:
    """Make the folder that `--output` names.

    Args:
        folder: the folder.
        read: the files that the command reads.
        written: names of the files that it will write into the folder.

    Raises:
        ValueError: `folder` is a file, or one of the files that are read would be overwritten.
        OSError: it cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output must be a folder; got the file {folder}")
    # By number and not by path: links have several, and on some systems so have upper and lower case.
    numbers = {(found.st_dev, found.st_ino) for found in (path.stat() for path in read if path.exists())}
    for path in (folder / name for name in written):
        if path.exists() and (path.stat().st_dev, path.stat().st_ino) in numbers:
            raise ValueError(f"--output {folder} would overwrite {path}, which is read; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)


def parse_with_overrides(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> tuple[argparse.Namespace, list[str]]:
    """Return the options of a command, and the arguments that override its recipe, wherever they stand.

    Left to itself, argparse takes the value in `--data.root FOLDER RUN` for the checkpoint.
    """
    own: list[str] = []
    overrides: list[str] = []
    arguments = deque(sys.argv[1:] if argv is None else argv)
    while arguments:
        argument = arguments.popleft()
        name, equals, _ = argument.partition("=")
        is_own = any(option.startswith(name) for option in parser._option_string_actions)
        if not argument.startswith("--") or is_own:
            own.append(argument)
        else:
            overrides.append(argument)
            if not equals and name != "--print_config" and arguments and not arguments[0].startswith("--"):
                overrides.append(arguments.popleft())
    options, left = parser.parse_known_args(own)
    return options, [*left, *overrides]
