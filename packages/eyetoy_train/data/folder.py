"""Class folders: the class of a file is the name of its folder.

Not `torchvision.datasets.ImageFolder`: sounds and videos need the same, and it neither reads split folders nor holds
files out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.held_out import Fold, Groups, Sample, divide_by_class, hold_out_by_class, missing_splits
from eyetoy_train.data.inventory import Inventory
from eyetoy_train.data.layouts import (
    composed,
    refuse_hidden_splits,
    refuse_inner_splits,
    refuse_shared_folders,
    refuse_twins,
)
from eyetoy_train.data.splits import SPLIT_NAMES, beside_splits, find_only_split
from eyetoy_train.types import Split
from eyetoy_train.utils.console import named
from eyetoy_train.utils.files import count_beside, list_files, list_folders

ALL_FILES = "all files"
"""Where the samples of the test are from, if a folder without split folders is read as a whole."""


@dataclass(frozen=True)
class ClassFolder:
    """The files of a data set with their classes, by split."""

    classes: tuple[str, ...]
    splits: dict[Split, tuple[Sample, ...]]
    sources: Mapping[Split, str] = field(default_factory=dict, compare=False)
    """Where the samples of a split were found, for messages: the name of a folder, or `held out`."""
    left_out: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Numbers of files and folders that are no samples, by the reason."""
    has_split_folders: bool = field(default=False, compare=False)
    """Whether the set itself says which samples are for what."""
    groups: Groups = field(default_factory=dict, compare=False, repr=False)
    """The group of every file, if there are groups: those of one group are held out together."""

    def without(self, left_out: Container[Path], reason: str = "") -> ClassFolder:
        """Return a copy without some files, which are counted as left out by the reason, if there is one.

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
        before, after = (sum(map(len, found.values())) for found in (self.splits, splits))
        lost = {reason: before - after} if reason else {}
        return replace(self, splits=splits, left_out={**self.left_out, **lost})

    def describe(self) -> str:
        """Return a line with the numbers of classes, of the samples of each split, and of what was left out."""
        sizes: dict[Split, int | str] = {split: len(samples) for split, samples in self.splits.items()}
        return Inventory(self.classes, sizes, places=self.sources, left_out=self.left_out).describe()


class EmptyClassError(ValueError):
    """A class has no file for training. The message names it."""


def read_class_folder(
    root: Path,
    extensions: Collection[str],
    *,
    seed: int = 0,
    fold: Fold | None = None,
    hold_out: bool = True,
    grouping: Grouping | None = None,
) -> ClassFolder:
    """List `root/SPLIT/CLASS/**/file` for the splits train, val and test, or `root/CLASS/**/file` without splits.

    Split folders may have any usual name, in upper or lower case, such as `Train` or `testing`. Without them, a fifth
    of every class is held out for the test and a tenth for validation. With train alone, or train and test, a tenth of
    train is held out for validation. `seed` decides which files.

    With `fold`, that fold of every class is for the test instead, and a tenth of the other folds for validation. So
    over all folds every file is for the test once, except for classes of a single file, which stay in training.

    With `hold_out=False`, for files to be scored, nothing is held out: without split folders all files are of the test,
    and none of the splits need be there.

    With `grouping`, whole groups of files are held out, such as all of a speaker, about as many files as without.

    Hidden files and folders, and those of systems, such as `.ipynb_checkpoints`, are neither classes nor samples. What
    is no sample is counted in `left_out`.

    Raises:
        FileNotFoundError: there is no such folder, or no file with one of the extensions in it.
        EmptyClassError: a class has no file for training.
        ValueError: a split has a class that train does not have, or two folders, such as `train` and `training`; or
            the folders are not what they seem, see `eyetoy_train.data.layouts`, or have splits where there is a fold;
            or a file has no group, or there are too few groups.
        OSError: a folder cannot be read.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; it should hold one folder per class")
    present = {path.name: path for path in list_folders(root)}
    folders = {split: present.get(find_only_split(split, present, root) or "") for split in SPLIT_NAMES}
    if _is_class(folders, present):
        folders = dict.fromkeys(folders)
    refuse_hidden_splits(root, folders, present)
    held_out = sorted(folder.name for folder in folders.values() if folder)
    if fold:
        _refuse_splits(root, held_out)
    if held_out and not folders["train"] and hold_out:
        raise FileNotFoundError(
            f"{root} has split folders ({', '.join(held_out)}) but none for training; it should be called train"
        )
    train_folder = folders["train"] or root
    # Splits that are only scored need no training set, which would name the classes.
    naming = [train_folder] if folders["train"] or not held_out else [folder for folder in folders.values() if folder]
    # Sorted: the order of a folder's entries differs between file systems, and a label must mean the same on each.
    classes = tuple(sorted({folder.name for place in naming for folder in list_folders(place)}))
    refuse_twins(train_folder, classes)
    left_out: Counter[str] = Counter()
    if held_out:
        left_out += beside_splits(root, held_out)
    read: dict[Split | None, Path] = {split: folder for split, folder in folders.items() if folder} or {None: root}
    found = {split: _class_folders(folder, classes) for split, folder in read.items()}
    together = [folder for members in found.values() for folder in members.values()]
    if any(folder.is_symlink() for folder in (*read.values(), *together)):
        refuse_shared_folders(together)
    listed = {split: _list(read[split], members, extensions, left_out) for split, members in found.items()}
    groups: Groups = {}
    if grouping and hold_out:
        groups = grouping.by_file((path for samples in listed.values() for path, _ in samples), root)
    splits = _split(listed, seed, fold, groups) if hold_out else _unsplit(listed)
    if hold_out:
        _refuse_untrained(train_folder, classes, splits["train"], extensions)
    places = {split: folder.name for split, folder in folders.items() if folder}
    sources = {split: places.get(split, _made_by(split, fold, hold_out=hold_out)) for split in splits}
    return ClassFolder(classes, splits, sources, left_out, bool(places), groups)


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
        raise FileExistsError(f"{root} exists already and stays as it is; name a folder that does not exist")
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


def _unsplit(listed: Mapping[Split | None, tuple[Sample, ...]]) -> dict[Split, tuple[Sample, ...]]:
    """Return the splits of the listed files; without any, all files for the test."""
    return {split: samples for split, samples in listed.items() if split} or {"test": listed[None]}


def _made_by(split: Split, fold: Fold | None, *, hold_out: bool) -> str:
    """Return in a few words where the samples of a split without a folder are from."""
    if split == "train":
        return "the rest"
    if fold and split == "test":
        return f"fold {fold.number} of {fold.count}"
    return "held out" if hold_out else ALL_FILES


def _refuse_untrained(
    folder: Path, classes: Sequence[str], samples: Sequence[Sample], extensions: Collection[str]
) -> None:
    """Raise an EmptyClassError that names the classes without a sample."""
    trained = {label for _, label in samples}
    untrained = [name for label, name in enumerate(classes) if label not in trained]
    if untrained:
        raise EmptyClassError(
            f"{folder} has classes without a file for training: {named(untrained)}; remove these folders, or add files "
            f"ending in {', '.join(sorted(extensions))}"
        )


def _is_class(folders: Mapping[Split, Path | None], present: Mapping[str, Path]) -> bool:
    """Whether the folder `train` is a class beside others, as with pictures of a bus, a car and a train."""
    train = folders["train"]
    if train is None or len(present) == 1 or folders["val"] or folders["test"]:
        return False
    return not list_folders(train)


def _class_folders(folder: Path, classes: Sequence[str]) -> dict[int, Path]:
    """Return the class folders of a split by the numbers of their classes."""
    labels = {composed(name): label for label, name in enumerate(classes)}
    present = list_folders(folder)
    unknown = [path.name for path in present if composed(path.name) not in labels]
    if unknown:
        raise ValueError(f"{folder} has classes that the training set has not: {named(unknown)}")
    refuse_twins(folder, [path.name for path in present])
    found = {labels[composed(path.name)]: path for path in present}
    return dict(sorted(found.items()))


def _list(
    folder: Path, members: Mapping[int, Path], extensions: Collection[str], left_out: Counter[str]
) -> tuple[Sample, ...]:
    left_out += count_beside(folder, "files beside the class folders")
    samples: list[Sample] = []
    for label, place in members.items():
        paths, others = list_files(place, extensions)
        refuse_inner_splits(folder, place, paths, is_only=len(members) == 1)
        samples += [(path, label) for path in paths]
        left_out += others
    if not samples:
        raise FileNotFoundError(
            f"found no file ending in {', '.join(sorted(extensions))} in the class folders of {folder}"
        )
    return tuple(samples)


def _refuse_splits(root: Path, names: Sequence[str]) -> None:
    if names:
        raise ValueError(
            f"data.folds divides a folder without splits, and {root} has {', '.join(names)}; leave it out, or move "
            "the class folders together"
        )


def _split(
    listed: Mapping[Split | None, tuple[Sample, ...]], seed: int, fold: Fold | None, groups: Groups
) -> dict[Split, tuple[Sample, ...]]:
    """Return the splits of the listed files, with what has to be held out of them."""
    if fold:
        rest, test = divide_by_class(listed[None], fold, seed, groups)
        return {**hold_out_by_class(rest, ("val",), seed, groups), "test": test}
    splits = {split: samples for split, samples in listed.items() if split}
    if names := missing_splits(splits):
        splits |= hold_out_by_class(splits.get("train") or listed[None], names, seed, groups)
    return splits
