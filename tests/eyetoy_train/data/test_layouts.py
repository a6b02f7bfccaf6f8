"""Folders as users leave them: each file is a sample, is counted as left out, or the run is refused by a sentence."""

from __future__ import annotations

import io
import os
import shutil
import unicodedata
from collections import Counter

import pytest

from eyetoy_train import read_class_folder
from eyetoy_train.data.inventory import Inventory
from eyetoy_train.data.splits import hinted_splits
from eyetoy_train.utils.console import log, named
from eyetoy_train.utils.files import list_files

ACCENTED = "\u00e9t\u00e9"
DECOMPOSED = unicodedata.normalize("NFD", ACCENTED)


def make(root, *names, count=6):
    """Make folders, each with files."""
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / name / f"{number}.txt").write_text("x")
    return root


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("val2017", "VAL_images", "02 val", "validation-set", "images.val"), {"val"}),
        (("train2017", "trainset", "01_train", "Training", "trn"), {"train"}),
        (("test_data", "tst"), {"test"}),
        (("holdout", "Held_Out", "eval", "evaluation2"), {"val", "test"}),
        (("trains", "constrain", "test-tube", "train station", "device", "07", "", "9" * 5000), set()),
    ],
)
def test_names_that_hint_at_a_split(names, splits):
    assert {name: hinted_splits(name) for name in names} == dict.fromkeys(names, splits)


@pytest.mark.parametrize(
    ("folders", "named_in_the_error"),
    [
        (("train/a", "val2017/a"), "val2017"),
        (("Train/a", "val/a", "holdout/a"), "holdout"),
        (("train2017/a", "val2017/a"), "train2017, val2017"),
        (("train_images/a", "other/a"), "train_images"),
        (("set/train/a", "set/val/a"), "set would be a class, and holds the splits train, val; .* data.root"),
        (("set/train/a",), "set would be a class"),
        (("a/train", "a/test", "b/train"), "a would be a class, and holds the splits test, train; splits are called"),
        (("train/a/train", "train/a/val", "train/b"), "a would be a class"),
        ((ACCENTED, DECOMPOSED), "differ in their Unicode form alone"),
        (("train/a", "val/a", "val/b"), "classes that the training set has not: b"),
    ],
)
def test_folders_that_are_not_what_they_seem_are_refused_by_name(tmp_path, folders, named_in_the_error):
    with pytest.raises(ValueError, match=named_in_the_error):
        read_class_folder(make(tmp_path, *folders), [".txt"])


@pytest.mark.parametrize(
    "folders", [("train/a", "val/a", "train_old/b"), ("train station", "test tube"), ("dev1", "dev2")]
)
def test_names_that_hint_at_nothing_that_is_missing_are_read(tmp_path, folders):
    assert read_class_folder(make(tmp_path, *folders), [".txt"]).splits


@pytest.mark.parametrize(
    ("link", "target"), [("c", "a"), ("c", "."), ("a/../c", "a/deep"), ("val", "train"), ("val/a", "../train/a")]
)
def test_a_link_to_a_folder_that_is_read_already_is_refused(tmp_path, link, target):
    root = make(tmp_path, *(("train/a", "train/b", "val/b") if "val" in link else ("a", "a/deep", "b")))
    if link == "val":
        shutil.rmtree(root / "val")
    (root / link).symlink_to(target)
    with pytest.raises(ValueError, match="a file must be of one class and of one split"):
        read_class_folder(root, [".txt"])


def test_links_to_folders_and_files_elsewhere_are_followed_once(tmp_path):
    make(tmp_path / "elsewhere", "b", "more")
    root = make(tmp_path / "root", "a")
    (root / "b").symlink_to("../elsewhere/b")
    (root / "a" / "more").symlink_to("../../elsewhere/more")
    (root / "a" / "link.txt").symlink_to("../../elsewhere/more/0.txt")
    found = read_class_folder(root, [".txt"])
    assert sum(map(len, found.splits.values())) == 13
    assert found.left_out == {"linked folders": 1}


def test_all_that_is_no_sample_is_counted(tmp_path):
    root = make(tmp_path, "Train/a", "val/a", "raw/a", "old", ".git", "Train/__MACOSX", "Train/a/.ipynb_checkpoints")
    for place in ("", "Train", "Train/a", "val"):
        for name in ("notes.md", "loose.jfif", "._x.txt"):
            (root / place / name).write_text("x")
    (root / "val" / "loose.txt").write_text("x")
    os.mkfifo(root / "val" / "a" / "pipe.txt")
    assert read_class_folder(root, [".txt"]).left_out == {
        "files beside the split folders": 2,
        "folders that are no split (old, raw)": 2,
        "files beside the class folders": 5,
        "files of other types": 2,
        "hidden or system files": 4,
        "hidden or system folders": 3,
        "pipes and devices": 1,
    }


def test_the_two_unicode_forms_of_a_class_are_one_across_splits(tmp_path):
    found = read_class_folder(make(tmp_path, f"train/{DECOMPOSED}", f"val/{ACCENTED}", count=2), [".txt"])
    assert found.classes == (DECOMPOSED,)
    assert {split: [label for _, label in samples] for split, samples in found.splits.items()} == {
        "train": [0, 0],
        "val": [0, 0],
    }


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path, monkeypatch):
    make(tmp_path, "a", "a/closed")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="closed"):
        list_files(tmp_path, [".txt"])


@pytest.mark.parametrize(
    ("changed", "warnings"),
    [
        ({}, []),
        ({"val": {0}}, ["classes without a sample in val, whose score there says nothing of them: b, c"]),
        ({"test": {0, 1}}, ["classes without a sample in test, whose score there says nothing of them: c"]),
        (
            {"train": {0, 1}},
            ["classes without a sample for training, which no model can learn: c; val or test have some of c"],
        ),
        (
            {"train": {0, 1}, "val": {0, 1}, "test": {0, 1}},
            ["classes without a sample for training, which no model can learn: c"],
        ),
    ],
)
def test_classes_that_a_split_lacks_are_named(changed, warnings):
    labels = {split: {0, 1, 2} for split in ("train", "val", "test")} | changed
    assert list(Inventory(("a", "b", "c"), {}, labels).warnings()) == warnings


def test_of_many_classes_the_smallest_and_the_largest_are_listed():
    names = [f"c{number}" for number in range(30)]
    labels = {"val": Counter({29: 7}), "train": Counter({number: 100 * number for number in range(1, 30)})}
    assert Inventory(names, {}, labels).describe_classes() == (
        "samples of each class, train / val, of the smallest: c0 0 / 0; c1 100 / 0; c2 200 / 0; of the largest: "
        "c27 2,700 / 0; c28 2,800 / 0; c29 2,900 / 7"
    )
    few = {"train": Counter({0: 3, 1: 1}), "test": Counter({1: 2})}
    assert Inventory(["a", "b\n"], {}, few).describe_classes() == (
        "samples of each class, train / test: a 3 / 0; b\\n 1 / 2"
    )
    assert Inventory(["a"], {"train": "a stream"}, {"val": {0}}).describe_classes() == ""  # their numbers are not known


def test_names_that_differ_in_case_alone_and_files_in_two_splits_are_named(tmp_path, capsys):
    files = {"train": [(tmp_path / "x", 0), (tmp_path / "y", 0)], "val": [(tmp_path / "y", 0)], "test": []}
    Inventory(("Cat", "cat", "dog"), {"val": 1, "train": "a stream of 2 parts"}, {}, {}, {"ends": 0}, files).tell()
    assert capsys.readouterr().err.splitlines() == [
        "data: 3 classes; samples: train a stream of 2 parts, val 1",
        f"warning: 1 files are in train and in val, whose score is then too good: {tmp_path / 'y'}",
        "warning: classes whose names differ in upper and lower case alone: Cat, cat",
    ]


def test_names_that_are_no_text_can_be_logged():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    log("skipped: \udcff \u00e9", file=file)
    assert file.buffer.getvalue() == b"skipped: \\udcff \\xe9\n"
    assert named(["a\nb", "\u00e9"]) == "a\\nb, \u00e9"
    assert named([str(number) for number in range(12)], 2) == "0, 1 and 10 more"
