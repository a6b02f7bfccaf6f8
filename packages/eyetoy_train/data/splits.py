"""Names of the splits: one table for folders, lists, archives and the hub."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from eyetoy_train.types import Split
from eyetoy_train.utils.console import named
from eyetoy_train.utils.files import count_beside, list_folders

SPLIT_NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing"),
}
"""Usual names of the splits, the commonest first."""

OTHER_NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("trn",),
    "val": ("eval", "evaluation", "holdout", "heldout", "held out", "held_out", "hold out", "hold_out"),
    "test": ("tst", "eval", "evaluation", "holdout", "heldout", "held out", "held_out", "hold out", "hold_out"),
}
"""Names that hint at a split, but are not read as one: which one they mean differs."""
# Words that come before or after a split's name. A digit at a time: repeated runs of digits match in too many ways.
_EXTRA = r"(?:data|set|split|part|files?|samples?|images?|imgs?|pictures?|photos?|sounds?|clips?|videos?|\d)"

HELD_OUT: Mapping[Split, float] = {"test": 0.2, "val": 0.1}
"""Fraction of the samples that is held out where the data have no such split."""


def find_split(split: Split, present: Collection[str]) -> str | None:
    """Return the name by which a split is present, in lower case or not, or None if it is not."""
    names = _present_names(split, present)
    # The commonest name wins where several are present, such as `val` and `dev`.
    return names[0] if names else None


def find_only_split(split: Split, present: Collection[str], place: Path) -> str | None:
    """Return the name by which a split is present in a folder, as `find_split`; refuse several.

    Raises:
        ValueError: the split is there under several names, such as `train` and `training`.
    """
    names = _present_names(split, present)
    if len(names) > 1:
        raise ValueError(f"{place} has {' and '.join(names)}, which both name the {split} split; keep one of them")
    return names[0] if names else None


def hinted_splits(name: str) -> set[Split]:
    """Return the splits that a name may mean, as `val2017`, `train_images` and `holdout` do, or `Train` itself."""
    hinted: set[Split] = set()
    for split in SPLIT_NAMES:
        names = "|".join((*SPLIT_NAMES[split], *OTHER_NAMES[split]))
        if re.fullmatch(rf"(?:{_EXTRA}[ _.-]*)*(?:{names})(?:[ _.-]*{_EXTRA})*", name, re.IGNORECASE):
            hinted.add(split)
    return hinted


def find_split_files(folder: Path, suffix: str) -> dict[Split, Path]:
    """Return the files of a folder that are called as a split, such as `train.csv`, by split.

    Raises:
        ValueError: a split has several files.
    """
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    files = {path.stem: path for path in paths if path.suffix.lower() == suffix and path.is_file()}
    names = {split: find_only_split(split, files, folder) for split in SPLIT_NAMES}
    return {split: files[name] for split, name in names.items() if name}


def _present_names(split: Split, present: Collection[str]) -> list[str]:
    # `val` before `Val`, where a file system has both; then the others, in an order that is the same everywhere.
    ordered = sorted(present, key=lambda name: (name != name.lower(), name))
    return [name for usual in SPLIT_NAMES[split] for name in ordered if name.lower() == usual]


def beside_splits(folder: Path, names: Collection[str]) -> Counter[str]:
    """Count the files and folders beside the split folders of these names, by the reason why they are left out."""
    left_out = count_beside(folder, "files beside the split folders")
    if others := [path.name for path in list_folders(folder) if path.name not in names]:
        left_out[f"folders that are no split ({named(others)})"] += len(others)
    return left_out
