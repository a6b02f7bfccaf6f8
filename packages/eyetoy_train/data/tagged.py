"""Files with any number of labels each, as tables list them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from eyetoy_train.data.folder import ALL_FILES, ClassFolder
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.held_out import Groups, Sample, hold_out_together
from eyetoy_train.data.source import RefuseOrSkip
from eyetoy_train.data.splits import find_split_files
from eyetoy_train.data.unreadable import refuse_or_skip
from eyetoy_train.types import Split
from eyetoy_train.utils.console import named
from eyetoy_train.utils.files import list_files
from eyetoy_train.utils.untrusted import read_names, read_table

Separator = Literal["semicolon", "bar", "comma", "space"]
SEPARATORS: Mapping[Separator, str] = {"semicolon": ";", "bar": "|", "comma": ",", "space": " "}
FILE_COLUMNS = (
    *("file", "filename", "file_name", "image", "image_id", "image_name", "img", "path", "file_path", "filepath"),
    *("id", "name"),
)
"""Names of the column that names the files, in lower case."""
LABEL_COLUMNS = (
    *("label", "labels", "tag", "tags", "class", "classes", "category", "categories", "target", "targets"),
)
"""Names of a column that lists labels, in lower case."""
ZERO, ONE = ("0", "0.0", "false"), ("1", "1.0", "true")
"""Values of a label's own column, in lower case."""

EXPECTED = """{root} has no table of files and labels. It should hold train.csv and perhaps val.csv and test.csv, or \
one table of any other name. A table has a column `file`, and either a column `labels` (a.png,dog;cat) or a column of \
0 and 1 for each label"""


@dataclass(frozen=True)
class TaggedRow:
    """A file in a table; the path is None if the file is missing."""

    name: str
    path: Path | None
    labels: tuple[str, ...]
    group: str | None = None
    """The value of the column that tells the groups, if there is one."""


Tables = Mapping[Split, Sequence[TaggedRow]]


def tagged_folder(
    classes: Mapping[str, str],
    tables: Tables,
    root: Path,
    *,
    noun: str = "file",
    missing: RefuseOrSkip = "refuse",
    held_out: Sequence[Split] = ("val",),
    seed: int = 0,
    left_out: Mapping[str, int] | None = None,
    grouping: Grouping | None = None,
) -> ClassFolder:
    """Return the files of tables with the numbers of their classes.

    Args:
        classes: names of the classes by the labels of the tables, in order.
        tables: the rows of each split.
        root: the folder of the tables, for messages.
        noun: what a file is, such as `clip`.
        missing: whether to refuse missing files, or to leave them out and log their number.
        held_out: splits to hold out of training where the tables have none: a fifth for the test, a tenth for
            validation.
        seed: decides which files are held out.
        left_out: numbers of what was left out already, by the reason.
        grouping: which files are held out together.

    Raises:
        FileNotFoundError: files are missing.
        ValueError: a row has an unknown label or no group, there are too few groups, or a split would be empty.
    """
    numbers = {key: number for number, key in enumerate(classes)}
    splits: dict[Split, list[Sample]] = {}
    num_lost = 0
    for split, rows in tables.items():
        _check_labels(split, rows, numbers)
        lost = [row.name for row in rows if row.path is None]
        summary = f"{len(lost)} of {len(rows)} {noun}s of the {split} split are not in {root}"
        refuse_or_skip(lost, summary, missing, "data.missing", error=FileNotFoundError)
        num_lost += len(lost)
        splits[split] = [
            # A set: a row may name a label twice, which would count it twice in the target.
            (row.path, tuple(sorted({numbers[label] for label in row.labels})))
            for row in rows
            if row.path is not None
        ]
    groups = {} if grouping is None else _groups(tables, root, grouping)
    names = [split for split in held_out if split not in splits]
    kept = {split: tuple(files) for split, files in splits.items()}
    if names:
        kept |= hold_out_together(kept["train"], names, seed, groups)
    places: dict[Split, str] = dict.fromkeys(names, "held out")
    empty = [split for split, files in kept.items() if not files]
    if empty:
        raise ValueError(f"no {noun} is left for the {empty[0]} split of {root}; there should be at least one")
    others = {**(left_out or {}), f"missing {noun}s": num_lost}
    return ClassFolder(tuple(classes.values()), kept, places, others, groups=groups)


def listed_classes(root: Path, rows: Sequence[TaggedRow]) -> list[str]:
    """Return the lines of `root/classes.txt`, if it exists, or all labels of rows, sorted."""
    listed = root / "classes.txt"
    if listed.is_file():
        return read_names(listed)
    return sorted({label for row in rows for label in row.labels})


def _named_columns(root: Path, columns: Sequence[str]) -> Sequence[str]:
    """Return the columns of labels, in the order of `root/classes.txt`, if it exists.

    Raises:
        ValueError: it has other names.
    """
    names = listed_classes(root, ()) or columns
    if other := sorted({*names} ^ {*columns}):
        raise ValueError(f"{root / 'classes.txt'} and the columns of the tables differ in {named(other)}")
    return names


def _groups(tables: Tables, root: Path, grouping: Grouping) -> Groups:
    """Return the group of every file that is not missing."""
    rows = [(row, row.path) for listed in tables.values() for row in listed if row.path is not None]
    paths = [path for _, path in rows]
    if grouping.column is None:
        return grouping.by_file(paths, root)
    return dict(zip(paths, grouping.of_values({str(path): row.group for row, path in rows}, root), strict=True))


def _check_labels(split: Split, rows: Sequence[TaggedRow], numbers: Mapping[str, int]) -> None:
    for row in rows:
        unknown = [label for label in row.labels if label not in numbers]
        if unknown:
            known = f"the {len(numbers)} classes, such as {next(iter(numbers), None)!r}"
            raise ValueError(
                f"{row.name} of the {split} split has the label {unknown[0]!r}, which is not one of {known}"
            )


# Tables in any usual form.


def read_tables(
    root: Path,
    extensions: Collection[str],
    *,
    separator: Separator | None = None,
    noun: str = "file",
    missing: RefuseOrSkip = "refuse",
    seed: int = 0,
    grouping: Grouping | None = None,
    hold_out: bool = True,
    expected: str = EXPECTED,
) -> ClassFolder:
    """List files with any number of labels each by CSV tables.

    The tables are `root/train.csv`, and perhaps `val.csv` and `test.csv`, under any usual names of splits; or the only
    CSV file in `root`, of which a fifth is held out for the test; or `root` itself, if it is a CSV file. A tenth is
    held out for validation, if there is no table for it.

    One column names the files, see `FILE_COLUMNS`: by the path from the table's folder, or by a file's name anywhere
    below it, with or without suffix. The labels are either in one column, see `LABEL_COLUMNS`, or every other column is
    a label, with 1 in the rows of the files that have it and 0 in the others. Labels in one column are separated by `;`
    or by `|`. Where neither occurs, a row has one label or none, which may not have spaces or commas then: these might
    separate labels, or belong to them, and only `separator` tells.

    The classes are the lines of `classes.txt`, if it exists, which where labels are columns has the names of these; or
    the columns, or all labels of training, sorted.

    With `hold_out=False`, for files to be scored, nothing is held out: all files of a single table are of the test, and
    of tables of splits none need be there. Groups are not asked for then.

    Args:
        root: the folder of the tables, or a table.
        extensions: lower-case suffixes of the files.
        separator: between labels; found in the tables if not given.
        noun: what a file is, for messages, such as `picture`.
        missing: whether to refuse missing files, or to leave them out and log their number.
        seed: decides which files are held out.
        grouping: which files are held out together; its column is not one of labels.
        hold_out: whether to hold files out where the tables have no split for them.
        expected: the message where there is no table, with `{root}` in it.

    Raises:
        FileNotFoundError: there is no table, or files are missing.
        ValueError: a table can be understood in two ways or in none, names a file twice or one of several, or has an
            unknown label; or a split would be empty.
    """
    single, paths = _find_tables(root, expected, needs_training=hold_out)
    if single:
        paths = {"train" if hold_out else "test": single}
    tables = {split: _Table.read(path, grouping, needs_groups=hold_out) for split, path in paths.items()}
    folder = next(iter(paths.values())).parent
    own = [*paths.values(), folder / "classes.txt"]
    files = _Files(folder, extensions, num_own=sum(path.is_file() for path in own))
    form = _form(list(tables.values()), separator)
    rows = {split: list(table.rows(form, files)) for split, table in tables.items()}
    naming = rows.get("train") or [row for listed in rows.values() for row in listed]
    names = _named_columns(folder, form.columns) if form.columns else listed_classes(folder, naming)
    used = {row.path for listed in rows.values() for row in listed}
    unused = {f"{noun}s without a row": sum(path not in used for path in files.paths)}
    classes = {name: name for name in names}
    held_out: Sequence[Split] = (("test", "val") if single else ("val",)) if hold_out else ()
    found = tagged_folder(
        classes,
        rows,
        folder,
        noun=noun,
        missing=missing,
        held_out=held_out,
        seed=seed,
        left_out={**files.left_out, **unused},
        grouping=grouping if hold_out else None,
    )
    return replace(found, sources={"test": ALL_FILES}) if single and not hold_out else found


def _find_tables(root: Path, expected: str, *, needs_training: bool) -> tuple[Path | None, dict[Split, Path]]:
    """Return the only table, or the tables of the splits."""
    if root.is_file():
        return root, {}
    paths = find_split_files(root, ".csv")
    if "train" in paths or (paths and not needs_training):
        return None, paths
    others = sorted(root.glob("*.csv")) if root.is_dir() else []
    if not others:
        raise FileNotFoundError(expected.format(root=root))
    if len(others) > 1:
        found = named([path.name for path in others])
        raise ValueError(f"{root} has the tables {found}; call the one for training train.csv, or name it as data.root")
    return others[0], {}


@dataclass(frozen=True)
class _Form:
    """How the labels are written: in columns of 0 and 1, or in one column with a separator."""

    columns: tuple[str, ...] = ()
    separator: str = ""


@dataclass(frozen=True)
class _Table:
    """The values of a table, not yet understood."""

    path: Path
    file: str
    """The column that names the files."""
    others: tuple[str, ...]
    values: Sequence[Mapping[str, str]]
    group: str | None = None
    """The column that tells the groups, if there is one."""

    @classmethod
    def read(cls, path: Path, grouping: Grouping | None = None, *, needs_groups: bool = True) -> _Table:
        """Read a table, and find the column of the files."""
        values = read_table(path, ())
        if not values:
            raise ValueError(f"{path} has no rows; it should have one for each file")
        header = [column for column in values[0] if column is not None]
        uneven = next((number for number, row in enumerate(values, 2) if None in row or None in row.values()), None)
        if uneven is not None:
            raise ValueError(f"row {uneven} of {path} has more or fewer values than the header")
        group = grouping.column if grouping else None
        if grouping and needs_groups:
            grouping.check_column(header, path)
        header = [column for column in header if column != group]
        files = [column for column in header if column.strip().lower() in FILE_COLUMNS]
        if len(files) != 1:
            raise ValueError(
                f"{path} should have one column that names the files, such as file or image_id; its columns are "
                f"{named(header)}"
            )
        others = tuple(column for column in header if column != files[0])
        if not others:
            raise ValueError(f"{path} has no column of labels beside {files[0]}; leave a table without labels out")
        return cls(path, files[0], others, values, group if needs_groups else None)

    @property
    def listed(self) -> str | None:
        """The column that lists labels, or None where every label has a column of its own."""
        lists = [column for column in self.others if column.strip().lower() in LABEL_COLUMNS]
        if lists and len(self.others) > 1:
            others = named([column for column in self.others if column != lists[0]])
            raise ValueError(
                f"{self.path} has the column {lists[0]} and others ({others}), so that the labels may be in either; "
                "leave one of the two out"
            )
        return lists[0] if lists else None

    def rows(self, form: _Form, files: _Files) -> Iterator[TaggedRow]:
        """Yield the rows with their labels."""
        seen: set[str | Path] = set()
        for number, values in enumerate(self.values, 2):
            name = values[self.file].strip()
            path = files.find(name)
            if not name or (path or name) in seen:
                wrong = (
                    f"names {name} a second time; put all labels of a file" if name else "names no file; put its name"
                )
                raise ValueError(f"row {number} of {self.path} {wrong} into one row")
            seen.add(path or name)
            group = None if self.group is None else values[self.group]
            if form.columns:
                yield TaggedRow(name, path, tuple(c for c in form.columns if self._is_one(values, c, number)), group)
            else:
                labels = [label.strip() for label in values[self.listed or ""].split(form.separator)]
                yield TaggedRow(name, path, tuple(label for label in labels if label), group)

    def _is_one(self, values: Mapping[str, str], column: str, number: int) -> bool:
        value = values[column].strip().lower()
        if value not in (*ZERO, *ONE):
            raise ValueError(
                f"row {number} of {self.path} has {value!r} in the column {column}, which should be 0 or 1; labels in "
                f"one column are read from a column called labels, and other columns must be left out"
            )
        return value in ONE


def _form(tables: Sequence[_Table], separator: Separator | None) -> _Form:
    """Return how the labels of all tables are written."""
    first = tables[0]
    for table in tables:
        if (table.listed is None) != (first.listed is None) or (
            first.listed is None and sorted(table.others) != sorted(first.others)
        ):
            raise ValueError(
                f"{table.path} and {first.path} have other columns: {named(table.others)}, and {named(first.others)}"
            )
    if first.listed is None:
        if separator is not None:
            raise ValueError(f"data.label_separator={separator} is for a column of labels, and {first.path} has none")
        return _Form(columns=first.others)
    cells = [row[table.listed or ""].strip() for table in tables for row in table.values]
    if separator is not None:
        return _Form(separator=SEPARATORS[separator])
    found = [sign for sign in ";|" if any(sign in cell for cell in cells)]
    if len(found) > 1:
        raise ValueError(
            f"the labels in {first.path} are separated by ; and by |; tell which by data.label_separator: semicolon or "
            "bar"
        )
    unclear = next((cell for cell in cells if not found and (" " in cell or "," in cell)), None)
    if unclear is not None:
        raise ValueError(
            f"{unclear!r} in {first.path} is one label or several; tell by data.label_separator: space or comma for "
            "several, semicolon for one"
        )
    return _Form(separator=found[0] if found else ";")


class _Files:
    """The files below a folder, by the names that tables may have for them."""

    def __init__(self, folder: Path, extensions: Collection[str], *, num_own: int) -> None:
        self.folder = folder
        self.paths, self.left_out = list_files(folder, extensions)
        self.left_out -= Counter({"files of other types": num_own})  # the tables
        self._known: dict[str, set[Path]] = defaultdict(set)
        for path in self.paths:
            relative = path.relative_to(folder)
            for name in (path.name, path.stem, relative.with_suffix("").as_posix()):
                self._known[name].add(path)

    def find(self, name: str) -> Path | None:
        """Return the file that a table means, or None if it is missing.

        Raises:
            ValueError: it may be one of several.
        """
        exact = self.folder / name
        if name and exact.is_file():
            return exact
        found = sorted(self._known.get(name, ()))
        if len(found) > 1:
            places = named([path.relative_to(self.folder).as_posix() for path in found], 3)
            raise ValueError(f"{name} in {self.folder} may be {places}; name files by their path from there")
        return found[0] if found else None
