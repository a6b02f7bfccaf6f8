"""Reading of files that others wrote: JSON, CSV, lists, YAML and XML, within bounds, and as data alone."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import yaml

MAX_DEPTH = 64
"""Levels of nesting in YAML and XML; recipes and annotations have about four."""
MAX_CHARACTERS = 2**20
"""Length of YAML; recipes have a few thousand characters."""
MAX_BYTES = 2**24
"""Length of an XML file, or of one with lines of numbers; those of an image have a few thousand bytes."""


class UntrustedYamlError(yaml.YAMLError):
    """YAML that is longer or deeper than a recipe can be, or that repeats parts of itself or a key."""


def read_json(path: Path) -> Any:
    """Return the contents of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON, or nested more deeply than Python reads; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # a ValueError also where it is not UTF-8
        raise ValueError(f"{path} is no JSON file: {error}") from error


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header, each with a value in every one of `columns`.

    Args:
        path: the file, in UTF-8.
        columns: the columns that it must have; others are returned as well.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a CSV file, lacks a column or has one twice, or a row lacks a value; the message names
            the file.
    """
    try:
        with path.open(
            encoding="utf-8-sig", newline=""
        ) as file:  # -sig: spreadsheets begin files with a byte order mark
            rows = csv.DictReader(file, skipinitialspace=True)
            lacking = [column for column in columns if column not in (rows.fieldnames or ())]
            if lacking:
                had = f"it has {rows.fieldnames}, and lacks {', '.join(lacking)}"
                raise ValueError(f"{path} should have the columns {', '.join(columns)}; {had}")
            # DictReader keeps the last column of a name alone. Columns without a name have nothing to be found by.
            twice = [name for name, count in Counter(rows.fieldnames or ()).items() if name and count > 1]
            if twice:
                raise ValueError(f"{path} has the column {twice[0]} twice; rename one of them, or remove it")
            found = []
            for row in rows:
                # DictReader fills a short row with None, which would surface far from here.
                if any(row[column] is None for column in columns):
                    raise ValueError(f"{path}, line {rows.line_num}, has fewer values than the header has columns")
                found.append(row)
            return found
    except (UnicodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def read_names(path: Path) -> list[str]:
    """Return the lines of a text file in UTF-8 that are not empty, without spaces around them.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8; the message names the file.
    """
    return [line for line in _lines(path) if line]


def read_class_names(path: Path) -> list[str]:
    """Return the names of classes in a text file in UTF-8: the first line is class 0, the next one class 1.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8, or has an empty line before its last name, or a name twice; the message names the
            file.
    """
    lines = _lines(path)
    names = [line for line in lines if line]
    if names != lines[: len(names)]:  # an empty line would shift the names of all classes below it
        raise ValueError(
            f"{path} should name the classes, one in each line from class 0 on; its line {lines.index('') + 1} is an "
            "empty line: name the class there, or remove it"
        )
    first: dict[str, int] = {}
    for line, name in enumerate(names, 1):
        if first.setdefault(name, line) != line:
            raise ValueError(f"{path} should name each class once; {name} is in its lines {first[name]} and {line}")
    return names


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # -sig: editors of Windows begin files with a byte order mark
    except UnicodeError as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return [line.strip() for line in text.splitlines()]


def check_yaml(text: str) -> None:
    """Refuse YAML that is harmful to read: a few aliases can expand to gigabytes, and deep nesting can take minutes.

    A key that stands twice is refused too: PyYAML takes the last one and drops the others without a word.
    Text that is not YAML passes: its reader has the better message.

    Raises:
        UntrustedYamlError: the text is too long or too deep, or has aliases, or a key twice.
    """
    if len(text) > MAX_CHARACTERS:
        raise UntrustedYamlError(f"YAML must have at most {MAX_CHARACTERS:,} characters; got {len(text):,}")
    depth = 0
    try:
        # Events, not nodes: nothing is built yet, so that nothing can grow.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise UntrustedYamlError(f"YAML must be nested {MAX_DEPTH} levels deep at most")
            if isinstance(event, yaml.AliasEvent):
                raise UntrustedYamlError(f"YAML must not repeat parts of itself; got the alias *{event.anchor}")
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader))  # after the above, so it stays small
    except UntrustedYamlError:
        raise
    except (yaml.YAMLError, ValueError):
        return


def _refuse_repeated_keys(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _refuse_repeated_keys(entry)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                places = f"in line {lines[key.value]} and in line {line}"
                raise UntrustedYamlError(f"the key {key.value!r} stands {places}; merge the two, or remove one")
            if isinstance(key, yaml.ScalarNode):
                lines[key.value] = line
            _refuse_repeated_keys(value)


def read_yaml(path: Path) -> Any:
    """Return the contents of a YAML file.

    Raises:
        OSError: it cannot be read.
        yaml.YAMLError: it is not YAML, or `check_yaml` refuses it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        check_yaml(text)
        return yaml.safe_load(text)
    except (ValueError, RecursionError) as error:
        raise yaml.YAMLError(f"{path} is no YAML file: {error}") from error


def read_xml(path: Path) -> Element:
    """Return the root of an XML file, which is read as elements and text alone.

    A document type is refused: its entities can expand to gigabytes, or name other files.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no XML, too large or too deep, or has a document type; the message names the file.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} must have at most {MAX_BYTES:,} bytes; got {size:,}")
    builder, parser, depth = TreeBuilder(), expat.ParserCreate(), 0

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"{path} must be nested {MAX_DEPTH} levels deep at most")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise ValueError(f"{path} has a document type (DOCTYPE), which is not read; remove it")

    # The parser itself, since ElementTree's has no hook for document types.
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, UnicodeError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"{path} is no XML file: {error}") from error
    return builder.close()
