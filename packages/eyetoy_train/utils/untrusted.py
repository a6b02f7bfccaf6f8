"""Text that others wrote: JSON and YAML, read within bounds and as data alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

DEEPEST = 64
"""Levels of nesting in YAML; recipes have four or so."""
MOST_CHARACTERS = 2**20
"""Of YAML; recipes have a few thousand."""


class ForeignYamlError(yaml.YAMLError):
    """YAML that is larger or deeper than a recipe can be, or that repeats parts of itself."""


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or nested more deeply than Python reads; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file: {error}") from error


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header, each with a text in every one of `columns`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no CSV file, lacks a column, or a row lacks a value; the message names it.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            lacking = [column for column in columns if column not in (rows.fieldnames or ())]
            if lacking:
                had = f"it has {rows.fieldnames}, and lacks {', '.join(lacking)}"
                raise ValueError(f"{path} should have the columns {', '.join(columns)}; {had}")
            found = []
            for row in rows:
                if any(row[column] is None for column in columns):
                    raise ValueError(f"{path}, line {rows.line_num}, has fewer values than the header has columns")
                found.append(row)
            return found
    except (UnicodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def check_yaml(text: str) -> None:
    """Look at YAML before it is read: a few lines of aliases can stand for gigabytes, and depth for a long search.

    Raises:
        ForeignYamlError: see there. What is no YAML is left to its reader.
    """
    if len(text) > MOST_CHARACTERS:
        raise ForeignYamlError(f"YAML must have at most {MOST_CHARACTERS:,} characters; got {len(text):,}")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ForeignYamlError(f"YAML must be nested {DEEPEST} levels deep at most")
            if isinstance(event, yaml.AliasEvent):
                raise ForeignYamlError(f"YAML must not repeat parts of itself; got the alias *{event.anchor}")
    except ForeignYamlError:
        raise
    except (yaml.YAMLError, ValueError):
        return


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds.

    Raises:
        OSError: it cannot be read.
        yaml.YAMLError: it is no YAML, or none that is read here; see `check_yaml`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        check_yaml(text)
        return yaml.safe_load(text)
    except (ValueError, RecursionError) as error:
        raise yaml.YAMLError(f"{path} is no YAML file: {error}") from error
