"""Class folders, with and without splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from eyetoy_train import ClassificationRecipe, FolderClassification, UnreadableFileError, read_class_folder
from eyetoy_train.data.folder import Fold
from eyetoy_train.data.source import DatasetOptions, DatasetRegistry


def make(root: Path, **files: int) -> Path:
    for folder, count in files.items():
        for index in range(count):
            path = root / folder.replace("__", "/") / f"{index}.TXT"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
    return root


class FolderTask(FolderClassification):
    """A task whose files hold no more than a text; the text `broken` cannot be read."""

    def __init__(self, root: Path, unreadable: str = "refuse") -> None:
        data = SimpleNamespace(root=str(root), unreadable=unreadable, cache=False)
        super().__init__(ClassificationRecipe(), data, [".txt"])

    def load_sample(self, source, *, training):
        if source.read_text() == "broken":
            raise UnreadableFileError(f"{source} is broken")
        return torch.zeros(1)

    def plot(self, axes, x):
        raise NotImplementedError


def test_split_folders_are_taken_as_they_are(tmp_path):
    root = make(tmp_path, train__cat=5, train__dog=4, validation__dog=2, test__cat=3)
    folder = read_class_folder(root, [".txt"])
    assert folder.classes == ("cat", "dog")
    assert {split: len(samples) for split, samples in folder.splits.items()} == {"train": 9, "val": 2, "test": 3}
    assert {label for _, label in folder.splits["val"]} == {1}


def test_without_split_folders_shares_of_every_class_are_held_out(tmp_path):
    folder = read_class_folder(make(tmp_path, cat=20, dog=10), [".txt"])
    counts = {split: [label for _, label in samples].count(0) for split, samples in folder.splits.items()}
    assert counts == {"train": 14, "val": 2, "test": 4}
    files = [path for samples in folder.splits.values() for path, _ in samples]
    assert len(files) == len(set(files)) == 30


def test_of_a_small_class_one_file_at_least_is_held_out_for_each(tmp_path):
    found = read_class_folder(make(tmp_path, a=3, b=20), [".txt"])
    assert {split: [label for _, label in samples].count(0) for split, samples in found.splits.items()} == {
        "train": 1,
        "val": 1,
        "test": 1,
    }


def test_without_a_validation_folder_a_tenth_of_train_is_held_out_and_test_stays(tmp_path):
    root = make(tmp_path, train__cat=20, test__cat=3)
    folder = read_class_folder(root, [".txt"])
    assert {split: len(samples) for split, samples in folder.splits.items()} == {"train": 18, "val": 2, "test": 3}


def test_the_seed_decides_what_is_held_out(tmp_path):
    root = make(tmp_path, cat=30)
    splits = [read_class_folder(root, [".txt"], seed=seed).splits for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_other_files_and_nested_folders(tmp_path):
    root = make(tmp_path, train__cat__deep=2, train__cat=1, val__cat=1)
    (root / "train" / "cat" / "notes.md").write_text("x")
    assert len(read_class_folder(root, [".txt"]).splits["train"]) == 3


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, FileNotFoundError, "no folder"),
        ({"train__cat": 1, "val__dog": 1}, ValueError, "dog"),
        ({"val__cat": 1}, FileNotFoundError, "none for training"),
    ],
)
def test_folders_that_cannot_be_used_are_refused_by_name(tmp_path, files, error, message):
    root = make(tmp_path / "root", **files)
    with pytest.raises(error, match=message):
        read_class_folder(root, [".txt"])


def test_a_folder_without_files_of_the_kind_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\.png"):
        read_class_folder(make(tmp_path, cat=2), [".png"])


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("Train", "Val", "Test"), ("TRAINING", "DEV", "TESTING"), ("training", "Validation", "test")],
)
def test_split_folders_are_found_in_upper_and_lower_case(tmp_path, train, val, test):
    files = {train: 3, val: 2, test: 1}
    found = read_class_folder(
        make(tmp_path, **{f"{split}__{name}": n for split, n in files.items() for name in ("a", "b")}), [".txt"]
    )
    assert found.classes == ("a", "b")
    assert {split: len(samples) for split, samples in found.splits.items()} == {"train": 6, "val": 4, "test": 2}
    assert found.describe() == f"2 classes; samples: train 6 ({train}), val 4 ({val}), test 2 ({test})"


def test_the_line_about_a_folder_says_what_is_held_out(tmp_path):
    found = read_class_folder(make(tmp_path, Train__a=20), [".txt"])
    assert found.describe() == "1 class; samples: train 18 (Train), val 2 (held out)"


@pytest.mark.parametrize("names", [("train", "training"), ("Val", "dev"), ("TEST", "test")])
def test_two_folders_of_one_split_are_refused_by_name(tmp_path, names):
    root = make(tmp_path, **{f"{name}__a": 2 for name in ("train", *names)})
    with pytest.raises(ValueError, match="both name the") as refused:
        read_class_folder(root, [".txt"])
    assert all(name in str(refused.value) for name in names)


@pytest.mark.parametrize("name", ["train", "Train"])
def test_a_folder_of_trains_beside_other_classes_is_a_class(tmp_path, name):
    assert read_class_folder(make(tmp_path, bus=4, **{name: 4}), [".txt"]).classes == tuple(sorted(("bus", name)))


def test_held_out_folders_beside_classes_need_one_for_training(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\(Test\) but none for training"):
        read_class_folder(make(tmp_path, a=4, b=4, Test=3), [".txt"])


def test_to_score_files_none_are_held_out(tmp_path):
    found = read_class_folder(make(tmp_path / "new", a=1, b=2), [".txt"], hold_out=False)
    assert found.describe() == "2 classes; samples: test 3 (all files)"
    root = make(tmp_path / "split", val__a=2, test__b=1)
    found = read_class_folder(root, [".txt"], hold_out=False)  # of which a run could not be trained
    assert found.classes == ("a", "b")
    assert {split: [label for _, label in samples] for split, samples in found.splits.items()} == {
        "val": [0, 0],
        "test": [1],
    }


def test_prepare_says_which_splits_were_read(tmp_path, capsys):
    FolderTask(make(tmp_path, Train__a=20, Test__a=3)).prepare()
    said = capsys.readouterr()
    assert "train 18 (Train), val 2 (held out), test 3 (Test)" in said.err
    assert not said.out


HIDDEN = (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".cache")


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("place", ["", "a", "a/deep"])
def test_hidden_folders_are_neither_classes_nor_samples(tmp_path, name, place):
    clean = read_class_folder(make(tmp_path, a=10, a__deep=2, b=10), [".txt"])
    make(tmp_path / place / name, **{".": 3})
    found = read_class_folder(tmp_path, [".txt"])
    assert found == clean
    assert found.describe().endswith("left out: 1 hidden or system folders")


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_folders_of_a_split_are_no_classes(tmp_path, name):
    root = make(tmp_path, train__a=3, val__a=2)
    clean = read_class_folder(root, [".txt"])
    for place in (root, root / "train", root / "val"):
        make(place / name, **{".": 2})
    assert read_class_folder(root, [".txt"]) == clean


def test_hidden_files_and_those_of_systems_are_no_samples_and_are_counted(tmp_path):
    root = make(tmp_path, a=10, b=10)
    clean = read_class_folder(root, [".txt", ".db"])
    for name in ("._0.TXT", ".DS_Store", "Thumbs.db", "notes.md"):
        (root / "a" / name).write_text("x")
    found = read_class_folder(root, [".txt", ".db"])
    assert found == clean
    assert found.describe().endswith("left out: 1 files of other types, 3 hidden or system files")


def test_a_hidden_folder_above_the_data_is_the_users_choice(tmp_path):
    assert read_class_folder(make(tmp_path / ".cache" / "data", a=10), [".txt"]).classes == ("a",)


@pytest.mark.parametrize("files", [{"a": 5, "b": 5}, {"train__a": 5, "train__b": 5}, {"train__a": 5, "val__a": 2}])
@pytest.mark.parametrize("stray", [None, "photo.jfif", "._0.txt"])
def test_a_class_without_a_file_for_training_is_refused_by_name(tmp_path, files, stray):
    root = make(tmp_path, **files)
    empty = root / ("train/unsorted" if "train__a" in files else "unsorted")
    empty.mkdir()
    if stray:
        (empty / stray).write_text("x")
    with pytest.raises(ValueError, match=r"classes without a file for training: unsorted; .* ending in \.txt"):
        read_class_folder(root, [".txt"])


@pytest.mark.parametrize(("count", "held_out"), [(1, 0), (2, 0), (3, 1)])
def test_a_class_too_small_to_hold_files_out_stays_in_training(tmp_path, count, held_out):
    found = read_class_folder(make(tmp_path, big=20, small=count), [".txt"])
    counts = {split: [label for _, label in samples].count(1) for split, samples in found.splits.items()}
    assert counts == {"train": count - 2 * held_out, "val": held_out, "test": held_out}


def test_beside_a_folder_for_training_two_files_are_enough_to_hold_one_out(tmp_path):
    found = read_class_folder(make(tmp_path, train__one=1, train__two=2, test__two=1), [".txt"])
    assert {split: len(samples) for split, samples in found.splits.items()} == {"train": 2, "val": 1, "test": 1}


def test_where_no_class_has_files_to_hold_out_it_is_said(tmp_path):
    with pytest.raises(ValueError, match="no class has enough files to hold some out for test and val: it takes 3"):
        read_class_folder(make(tmp_path, a=2, b=1), [".txt"])


@pytest.mark.parametrize("broken", ["train", "val"])
def test_a_class_that_skipping_leaves_nothing_to_train_on_is_refused_by_name(tmp_path, capsys, broken):
    root = make(tmp_path, train__a=3, train__b=2, val__a=2, val__b=2)
    for path in (root / broken / "b").iterdir():
        path.write_text("broken")
    task = FolderTask(root, unreadable="skip")
    if broken == "train":
        with pytest.raises(ValueError, match="no file for training can be read of the classes b"):
            task.prepare()
        return
    task.prepare()
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "data: 2 classes; samples: train 5 (train), val 2 (val); left out: 2 unreadable files",
        "data: samples of each class, train / val: a 3 / 2; b 2 / 0",
        "warning: classes without a sample in val, whose score there says nothing of them: b",
    ]


def test_over_all_folds_every_file_is_for_the_test_once_and_every_class_in_equal_parts(tmp_path):
    root, sizes = make(tmp_path, cat=23, dog=12, rare=3), {"cat": 23, "dog": 12, "rare": 3}
    folds = [read_class_folder(root, [".txt"], fold=Fold(number, 5)) for number in range(1, 6)]
    tests = [sample for folder in folds for sample in folder.splits["test"]]
    everything = [sample for samples in folds[0].splits.values() for sample in samples]
    assert sorted(tests) == sorted(everything)
    for folder in folds:
        assert sorted(sample for samples in folder.splits.values() for sample in samples) == sorted(everything)
        for label, size in enumerate(sizes.values()):
            count = sum(sample[1] == label for sample in folder.splits["test"])
            assert count in (size // 5, size // 5 + 1)
        assert 1 <= sum(sample[1] == 0 for sample in folder.splits["val"]) <= 3
    counts = [len(folds[1].splits[split]) for split in ("val", "test")]
    assert folds[1].describe().endswith("val {} (held out), test {} (fold 2 of 5)".format(*counts))


def test_folds_depend_on_the_seed_and_not_on_other_classes(tmp_path):
    few, many = make(tmp_path / "few", a=20, b=20), make(tmp_path / "many", a=20, b=33)

    def test_of(root, seed=0):
        found = read_class_folder(root, [".txt"], seed=seed, fold=Fold(2, 4)).splits["test"]
        return [path.relative_to(root) for path, label in found if label == 0]

    assert test_of(few) == test_of(many)
    assert test_of(few) != test_of(few, seed=1)


def test_folds_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^data.fold must be from 1 to data.folds=5; got 0"):
        Fold(0, 5)
    with pytest.raises(ValueError, match=r"^data.folds must be at least 2; got 1"):
        Fold(1, 1)
    with pytest.raises(ValueError, match=r"has train, val; leave it out"):
        read_class_folder(make(tmp_path / "a", train__a=4, val__a=4), [".txt"], fold=Fold(1, 2))
    alone = make(tmp_path / "b", a=1, b=1)
    with pytest.raises(ValueError, match=r"^fold 1 of 2 is empty"):
        read_class_folder(alone, [".txt"], fold=Fold(1, 2))
    # A class of one file stays in training, and is not lost.
    found = read_class_folder(make(tmp_path / "c", a=1, b=20), [".txt"], fold=Fold(1, 20))
    assert 0 in {label for _, label in found.splits["train"]}


@dataclass(kw_only=True)
class OwnData(DatasetOptions):
    """The data of an app."""

    source: str = "folder"


def test_folds_of_other_sets_are_refused():
    registry = DatasetRegistry("nowhere", {"folder": "a:b", "hub": "a:b", "own": "a:b"}, with_folds=("own",))
    with pytest.raises(ValueError, match=r"^data.folds divides the files of a folder, and data.source is hub"):
        registry.open(OwnData(source="hub", folds=5), 0)
    with pytest.raises(ValueError, match=r"^data.fold=2 is one of the parts that data.folds makes"):
        registry.open(OwnData(fold=2), 0)
    with pytest.raises(ModuleNotFoundError):
        registry.open(OwnData(source="own", fold=2), 0)
