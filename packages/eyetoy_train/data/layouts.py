"""Class folders that are not what they seem: refused, because they would be read as something else without a word."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from eyetoy_train.data.splits import hinted_splits
from eyetoy_train.types import Split
from eyetoy_train.utils.console import named

RULES = "splits are called train, val and test, and hold a folder for each class"


def refuse_hidden_splits(root: Path, folders: Mapping[Split, Path | None], present: Mapping[str, Path]) -> None:
    """Refuse folders whose names look like those of splits that a data set would otherwise be without.

    Args:
        root: the folder of the data set.
        folders: the split folders that were found.
        present: all folders of `root`, by name.

    Raises:
        ValueError: `val2017` is beside `train`; or `train2017` is no class, being beside `val2017` or holding folders.
    """
    taken = {folder.name for folder in folders.values() if folder}
    hints = {name: hinted_splits(name) for name in present if name not in taken}
    if folders["train"]:
        lacking = {split for split, folder in folders.items() if not folder}
        found = [name for name, hinted in hints.items() if hinted & lacking]
    else:
        hinting = [name for name, hinted in hints.items() if hinted]
        trains = [name for name in hinting if "train" in hints[name]]
        held_out = [name for name in hinting if name not in trains]
        has_folders = any(path.is_dir() for name in trains for path in present[name].iterdir())
        found = hinting if trains and (held_out or has_folders) else []
    if found:
        raise ValueError(
            f"{root} has folders that look like splits and are not called so: {named(found)}; {RULES}; rename these, "
            "or move them away"
        )


def refuse_inner_splits(root: Path, folder: Path, paths: Iterable[Path], *, is_only: bool) -> None:
    """Refuse a class folder that holds splits, as in `root/set/train` and `root/cat/train`.

    Args:
        root: the folder of the data set.
        folder: the class folder.
        paths: its files.
        is_only: whether it is the only class.

    Raises:
        ValueError: it has folders for training and for a validation or test; for training alone if it is the only one.
    """
    depth = len(folder.parts)
    names = {path.parts[depth] for path in paths if len(path.parts) > depth + 1}
    hinted = set[Split]().union(*map(hinted_splits, names))
    if "train" in hinted and (len(hinted) > 1 or is_only):
        better = f"if it is the data set, name {folder} as data.root" if is_only else f"{RULES}, under {root}"
        raise ValueError(f"the folder {folder} would be a class, and holds the splits {named(sorted(names))}; {better}")


def refuse_shared_folders(folders: Sequence[Path]) -> None:
    """Refuse class folders one of which is another, or in another, through links: their files would come twice.

    Raises:
        ValueError: there are two such folders, of one split or of two.
    """
    real = sorted((folder.resolve(), folder) for folder in folders)
    # In this order, a folder is followed by those in it.
    for (outer, one), (inner, other) in itertools.pairwise(real):
        if inner.is_relative_to(outer):
            raise ValueError(
                f"{one} and {other} are the same folder, or one is in the other, through a link; a file must be of one "
                "class and of one split"
            )


def refuse_twins(folder: Path, names: Collection[str]) -> None:
    """Refuse names of classes that look the same.

    Raises:
        ValueError: two names differ in their Unicode form alone.
    """
    known: dict[str, str] = {}
    for name in names:
        if known.setdefault(composed(name), name) != name:
            raise ValueError(
                f"{folder} has two folders of the name {named([name])}, which differ in their Unicode form alone; "
                "join them"
            )


def composed(name: str) -> str:
    """Return a name in the form in which an accented letter is one character; macOS once stored it as two."""
    return unicodedata.normalize("NFC", name)
