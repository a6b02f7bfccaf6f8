"""Class folders: the class of a file is the name of its folder.

Not `torchvision.datasets.ImageFolder`: sounds and videos need the same, and it neither reads split folders nor holds
files out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eyetoy_train.data.splits import HELD_OUT, SPLIT_NAMES, find_only_split
from eyetoy_train.types import Split
from eyetoy_train.utils.seeds import derive_seed

Sample = tuple[Path, Any]
"""A file and its label: the number of a class, or the numbers of several."""


@dataclass(frozen=True)
class ClassFolder:
    """The files of a data set with their classes, by split."""

    classes: tuple[str, ...]
    splits: dict[Split, tuple[Sample, ...]]
    sources: Mapping[Split, str] = field(default_factory=dict, compare=False)
    """Where the samples of a split were found, for messages: the name of a folder, or `held out`."""

    def without(self, left_out: Container[Path]) -> ClassFolder:
        """Return a copy without some files.

        Raises:
            ValueError: a split would be empty.
        """
        splits = {
            split: tuple(sample for sample in samples if sample[0] not in left_out)
            for split, samples in self.splits.items()
        }
        empty = [split for split, samples in splits.items() if not samples]
        if empty:
            raise ValueError(f"no file of the split {empty[0]!r} can be read")
        return replace(self, splits=splits)

    def describe(self) -> str:
        """Return a line with the numbers of classes and of the samples of each split."""
        parts = [
            f"{split} {len(samples):,}" + (f" ({self.sources[split]})" if split in self.sources else "")
            for split, samples in self.splits.items()
        ]
        return f"{len(self.classes):,} {'class' if len(self.classes) == 1 else 'classes'}; samples: {', '.join(parts)}"


def read_class_folder(root: Path, extensions: Collection[str], *, seed: int = 0) -> ClassFolder:
    """List `root/SPLIT/CLASS/**/file` for the splits train, val and test, or `root/CLASS/**/file` without splits.

    Split folders may have any usual name, in upper or lower case, such as `Train` or `testing`. Without them, a fifth
    of every class is held out for the test and a tenth for validation. With train alone, or train and test, a tenth of
    train is held out for validation. `seed` decides which files.

    Raises:
        FileNotFoundError: there is no such folder, or no file with one of the extensions in it.
        ValueError: a split has a class that train does not have, or two folders, such as `train` and `training`.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; it should hold one folder per class")
    present = {path.name: path for path in root.iterdir() if path.is_dir()}
    folders = {split: present.get(find_only_split(split, present, root) or "") for split in SPLIT_NAMES}
    if _is_class(folders, present):
        folders = dict.fromkeys(folders)
    held_out = sorted(folder.name for folder in folders.values() if folder)
    if held_out and not folders["train"]:
        raise FileNotFoundError(
            f"{root} has split folders ({', '.join(held_out)}) but none for training; it should be called train"
        )
    train_folder = folders["train"] or root
    # Sorted: the order of a folder's entries differs between file systems, and a label must mean the same on each.
    classes = tuple(sorted(folder.name for folder in train_folder.iterdir() if folder.is_dir()))
    splits = {split: _list(folder, classes, extensions) for split, folder in folders.items() if folder}
    if "train" not in splits:
        splits = _hold_out(_list(root, classes, extensions), ("test", "val"), seed)
    elif "val" not in splits:
        splits |= _hold_out(splits["train"], ("val",), seed)
    sources = {split: folder.name if (folder := folders[split]) else "held out" for split in splits}
    return ClassFolder(classes, splits, sources if train_folder != root else {})


def write_once(root: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a data set in `root`, unless it exists or another run makes it at the same time."""
    if not root.exists():
        with suppress(FileExistsError):  # raised by `move_into_place` for the run that finishes second
            write(root)


@contextmanager
def written_aside(root: Path) -> Iterator[Path]:
    """Give an empty, hidden folder beside `root`, which is renamed to `root` when the block ends.

    So `root` is the whole data set or not there: whoever interrupts the writing leaves nothing behind.

    Raises:
        FileExistsError: `root` is there, before the block or after it; it stays as it is.
    """
    if root.exists() or root.is_symlink():
        raise FileExistsError(f"{root} is there already and stays as it is; name a folder that does not exist")
    root.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as aside:
        tree = Path(aside) / root.name
        tree.mkdir()
        yield tree
        try:
            tree.rename(root)
        except OSError as error:
            if root.exists():
                raise FileExistsError(f"{root} was made by somebody else meanwhile: use it, or remove it") from error
            raise


def _is_class(folders: Mapping[Split, Path | None], present: Mapping[str, Path]) -> bool:
    """Whether the folder `train` is a class beside others, as with pictures of a bus, a car and a train."""
    train = folders["train"]
    if train is None or len(present) == 1 or folders["val"] or folders["test"]:
        return False
    return not any(path.is_dir() for path in train.iterdir())


def _list(folder: Path, classes: tuple[str, ...], extensions: Collection[str]) -> tuple[Sample, ...]:
    unknown = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in classes)
    if unknown:
        raise ValueError(f"{folder} has classes that the training set has not: {', '.join(unknown)}")
    samples = tuple(
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))  # sorted, or the held-out files would depend on the file system
        if path.suffix.lower() in extensions and not path.is_dir()
    )
    if not samples:
        raise FileNotFoundError(
            f"found no file ending in {', '.join(sorted(extensions))} in the class folders of {folder}"
        )
    return samples


def _hold_out(samples: tuple[Sample, ...], names: Sequence[Split], seed: int) -> dict[Split, tuple[Sample, ...]]:
    """Move a fraction of every class, at least one file, to each split of `names`; the rest is for training.

    For example a class of 10 files has 2 for the test, 1 for validation and 7 for training.
    """
    splits: dict[Split, list[Sample]] = {name: [] for name in ("train", *names)}
    for label in sorted({label for _, label in samples}):
        members = [sample for sample in samples if sample[1] == label]
        # A seed for each class: files added to one class do not change the split of the others.
        random.Random(derive_seed(seed, "split", label)).shuffle(members)
        total = len(members)  # fractions are of the whole class, not of the files left by the split before
        for name in names:
            count = max(round(total * HELD_OUT[name]), 1)  # at least one, or a rare class would have no score
            splits[name] += members[:count]
            members = members[count:]
        splits["train"] += members
    return {name: tuple(sorted(members)) for name, members in splits.items()}
