"""Groups of samples that belong together, such as those of a speaker, by a pattern of names or a column of a table."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from eyetoy_train.concerns import DATA, Concerns
from eyetoy_train.utils.console import named

NAMED_GROUP = "group"
"""The group of a pattern that is the key, where the first one is another."""


@dataclass(kw_only=True)
class GroupOptions:
    """The part of a recipe's `data` that keeps samples together when some are held out, the same in every app."""

    concerns: ClassVar[Concerns] = {DATA: ("group_pattern", "group_column")}

    group_pattern: str | None = None
    """Hold out whole groups of files, such as those of a speaker, a video, a scene or a patient: a regular expression
    with the group's name in parentheses, searched for in a file's name, such as ^[^_]+_([a-z]+)_ for 0_jackson_12.wav.
    A pattern with a / is searched for in the path below `root`. Of several parentheses the first count, or
    (?P<group>...)."""
    group_column: str | None = None
    """Likewise, by the column of a table or of a set of the hub that names each sample's group."""


@dataclass(frozen=True)
class Grouping:
    """How the groups of samples are told: by a pattern of their paths, or by a column.

    Args:
        pattern: see `GroupOptions`.
        column: likewise.

    Raises:
        ValueError: both are given, or the pattern is no regular expression with a group.
    """

    pattern: str | None = None
    column: str | None = None

    @classmethod
    def of(cls, data: Any) -> Grouping | None:
        """Return the grouping of a recipe's `data`; None if it has none."""
        pattern, column = getattr(data, "group_pattern", None), getattr(data, "group_column", None)
        return None if pattern is None and column is None else cls(pattern, column)

    def __post_init__(self) -> None:
        """Refuse two ways at once, and patterns without a group."""
        if self.pattern is not None and self.column is not None:
            raise ValueError("data.group_pattern and data.group_column both tell the groups; give one of them")
        if self.column == "":
            raise ValueError("data.group_column must name a column; got ''")
        if self.pattern is None:
            return
        try:
            compiled = re.compile(self.pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"data.group_pattern={self.pattern!r} is no regular expression: {error}") from error
        if not compiled.groups:
            raise ValueError(
                f"data.group_pattern={self.pattern!r} must have the group's name in parentheses, such as ^([^_]+)_"
            )

    @property
    def option(self) -> str:
        """The option that tells the groups."""
        return "data.group_pattern" if self.column is None else "data.group_column"

    def of_paths(self, paths: Iterable[Path | str], root: Path) -> list[str]:
        """Return the group of every path by the pattern.

        Args:
            paths: the files.
            root: the folder of the data; a pattern with a `/` is searched for in the path from it.

        Raises:
            ValueError: the pattern finds no group in a path.
        """
        assert self.pattern is not None
        names = [_below(path, root) if "/" in self.pattern else path.name for path in map(Path, paths)]
        compiled = re.compile(self.pattern)
        key = NAMED_GROUP if NAMED_GROUP in compiled.groupindex else 1
        found = [match[key] if (match := compiled.search(name)) else None for name in names]
        without = [name for name, group in zip(names, found, strict=True) if not group]
        if without:
            where = "paths below data.root" if "/" in self.pattern else "names of files"
            raise ValueError(
                f"data.group_pattern={self.pattern!r}, which is searched for in {where}, finds no group in "
                f"{len(without):,} of {len(names):,}: {named(without, 3)}"
            )
        return [group for group in found if group]

    def by_file(self, paths: Iterable[Path], root: Path) -> dict[Path, str]:
        """Return the group of every file by the pattern; see `of_paths`."""
        files = list(paths)
        return dict(zip(files, self.of_paths(files, root), strict=True))

    def check_column(self, columns: Collection[str], place: Path | str) -> None:
        """Refuse a table without the column.

        Args:
            columns: those of the table.
            place: the table or the set, for the message.

        Raises:
            ValueError: the column is not there.
        """
        if self.column is not None and self.column not in columns:
            known = named(list(columns))
            raise ValueError(f"{place} has no column {self.column!r}, which data.group_column names; it has {known}")

    def of_values(self, values: Mapping[str, Any], place: Path | str) -> list[str]:
        """Return the groups by the values of the column.

        Args:
            values: by the name of each sample, its value.
            place: the table or the set, for the message.

        Raises:
            ValueError: a sample has no value.
        """
        found = ["" if value is None or value != value else str(value).strip() for value in values.values()]
        without = [name for name, group in zip(values, found, strict=True) if not group]
        if without:
            raise ValueError(
                f"the column {self.column} of {place}, which data.group_column names, is empty for {len(without):,} of "
                f"{len(found):,} samples: {named(without, 3)}; every sample needs its group"
            )
        return found


def _below(path: Path, root: Path) -> str:
    """Return the path from the root with `/`; of a file elsewhere the whole path."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
