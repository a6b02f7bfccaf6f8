"""From YAML and the command line to a recipe, with words for what went wrong."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader, set_parsing_settings

from eyetoy_train.recipe import Recipe
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
    recipe_class: type[R], default_config: Path, argv: Sequence[str] | None = None, *, description: str | None = None
) -> R:
    """Read a recipe from the command line.

    `--config FILE` takes the place of `default_config`; any other option overrides one value of it, as in
    `--lr 3e-4 --model.name eyetoy2d_nano`. On a wrong key or value the program ends with a message and code 2.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    set_parsing_settings(
        docstring_parse_attribute_docstrings=True,
        # A recipe is data: what looks like a class and its arguments neither is built nor has a module imported.
        instantiate_subclass_spec_in_any=False,
        import_path_denylist=["*"],
    )
    set_loader(MODE, _load, (yaml.YAMLError,))
    chosen = any(argument.split("=")[0] == "--config" for argument in arguments)
    parser = RecipeParser(
        description=description or recipe_class.__doc__,
        default_config_files=[] if chosen else [str(default_config)],
        allow_abbrev=False,
        parser_mode=MODE,
    )
    parser.add_argument("--config", action="config", help="A recipe file, in place of the default one.")
    parser.add_class_arguments(recipe_class, as_group=False)
    try:
        values = parser.parse_args(arguments)
        del values["config"]
        return recipe_class(**{key: value for key, value in vars(parser.instantiate(values)).items() if key[0] != "_"})
    except (ValueError, TypeError) as error:  # a recipe's own checks compare what may be no number
        parser.error(str(error))


def _load(text: str) -> Any:
    check_yaml(text)
    return get_loader("yaml")(text)
