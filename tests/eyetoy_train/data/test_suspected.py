"""Names of files that suggest groups which cross the splits, and names that do not."""

from __future__ import annotations

import random
import re
import uuid
from pathlib import Path

import pytest

from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.suspected import MOST_NAMES, find_suspected

DRAW = random.Random(0)
WORDNET = ("n01440764", "n02102040", "n02979186")
PETS = ("Abyssinian", "american_bulldog", "great_pyrenees")
HASHES = [f"{DRAW.getrandbits(32):08x}" for _ in range(20)]
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def hexadecimal(number: int, folder: str) -> str:
    return f"{random.Random(f'{number} {folder}').getrandbits(64):016x}"


def listed(name, classes=("cat", "dog", "eel"), count=60, labelled=True, restart=False):
    """Files of classes, a fifth of them for the test and a tenth for validation, in the order of random numbers.

    The numbers of the files go on from class to class, or start anew in each.
    """
    files = [
        (Path("root", folder, name(number + (0 if restart else label * count), folder)), label if labelled else None)
        for label, folder in enumerate(classes)
        for number in range(count)
    ]
    random.Random(1).shuffle(files)
    val, test = len(files) // 10, len(files) // 5
    return {"train": files[val + test :], "val": files[:val], "test": files[val : val + test]}


PLAIN = {
    "0001.png": lambda n, c: f"{n:04d}.png",
    "img_12.jpg": lambda n, c: f"img_{n}.jpg",
    "cat.34.jpg": lambda n, c: f"{c}.{n}.jpg",
    "IMG or DSC": lambda n, c: f"{('IMG', 'DSC', 'DSCN', 'MVI')[n % 4]}_{n:04d}.JPG",
    "by day": lambda n, c: f"IMG_2024010{n % 9 + 1}_{n * 997:06d}.jpg",
    "by minute": lambda n, c: f"Screenshot from 2024-01-0{n % 9 + 1} 12-{n % 7:02d}-{n:02d}.png",
    "images (3)": lambda n, c: f"{('images', 'download')[n % 2]} ({n}).jpg",
    "uuid": lambda n, c: f"{uuid.UUID(int=DRAW.getrandbits(128))}.jpg",
    "hash": lambda n, c: f"{hexadecimal(n, c)}.jpg",
    "flickr": lambda n, c: f"{n * 7919 + ord(c[0])}_{hexadecimal(n, c)}_b.jpg",
    "CIFAR": lambda n, c: f"{c}{('jet', 'bus', 'plane', 'liner')[n % 4]}_s_{n:06d}.png",
    "CIFAR of Kaggle": lambda n, c: f"{n:04d}_{c}.png",
    "batch_1": lambda n, c: f"batch_{n % 5}_num_{n}.jpg",
    "COCO": lambda n, c: f"{n * 7:012d}.jpg",
    "COCO 2014": lambda n, c: f"COCO_train2014_{n * 7:012d}.jpg",
    "VOC": lambda n, c: f"{2007 + n % 6}_{n:06d}.jpg",
    "Kinetics": lambda n, c: f"{hexadecimal(n, c)}_{n:06d}_{n + 10:06d}.mp4",
    "ISIC": lambda n, c: f"ISIC_{n * 31:07d}.jpg",
    "sources": lambda n, c: f"{('google', 'bing', 'flickr')[n % 3]}_{n}.jpg",
    "CUB": lambda n, c: f"Sooty_{c}_{n:04d}_{n * 7919}.jpg",
}


@pytest.mark.parametrize("name", PLAIN.values(), ids=PLAIN)
def test_plain_names_are_no_groups(name):
    classes = ("cat", "dog", "eel")
    assert find_suspected(listed(name, classes), classes) is None
    assert find_suspected(listed(name, classes, restart=True), classes) is None
    assert find_suspected(listed(name, labelled=False)) is None


@pytest.mark.parametrize(("classes", "name"), [(WORDNET, lambda n, c: f"{c}_{n * 31}.JPEG"),
                                               (PETS, lambda n, c: f"{c}_{n}.jpg"),
                                               (("0", "1", "2"), lambda n, c: f"{c}_{n}.png")])  # fmt: skip
def test_names_of_classes_are_no_groups(classes, name):
    assert find_suspected(listed(name, classes), classes) is None
    if not classes[0].isdigit():  # in one folder, as for detection
        flat = {
            split: [(Path("root", path.name), None) for path, _ in found]
            for split, found in listed(name, classes).items()
        }
        assert find_suspected(flat) is None


GROUPS = {
    "scene03_0001.jpg": (lambda n, c: f"scene{n // 10:02d}_{n % 10:04d}.jpg", "^([^_]+)_", r"scene\d\d"),
    "0_jackson_12.wav": (lambda n, c: f"{c}_{SPEAKERS[n % 6]}_{n // 6}.wav", "^[^_]+_([^_]+)_", "george"),
    "jackson_12.wav": (lambda n, c: f"{SPEAKERS[n % 6]}_{n // 6}.wav", "^([^_]+)_", "george"),
    "0_3_12.wav": (lambda n, c: f"{c}_{n % 6}_{n // 6}.wav", "^(.+)_", r"\w+_\d"),
    "patient7-slice04.png": (lambda n, c: f"patient{n // 10}-slice{n % 10:02d}.png", "^([^-]+)-", r"patient\d+"),
    "v_Biking_g01_c02.avi": (lambda n, c: f"v_{c}_g{n // 5:02d}_c{n % 5:02d}.avi", "^(.+)_", r"v_cat_g\d\d"),
    "HASH_nohash_0.wav": (lambda n, c: f"{HASHES[n % 20]}_nohash_{n // 20}.wav", "^([^_]+)_", r"\w{8}"),
    "1-100032-A-0.wav": (lambda n, c: f"1-{100000 + n // 3}-{'ABC'[n % 3]}-0.wav", None, r"1-1\d{5}"),
    "video3_frame_00012.jpg": (lambda n, c: f"video{n // 10}_frame_{n % 10:05d}.jpg", "^([^_]+)_", r"video\d+"),
    "P0003__1024__0___512.png": (lambda n, c: f"P{n // 4:04d}__1024__{n % 2}___{n % 4}.png", "^([^_]+)_", r"P\d{4}"),
    "84-1211-0007.flac": (lambda n, c: f"{84 + n // 20}-{1211 + n // 10}-{n % 10:04d}.flac", "^([^-]+)-", r"\d\d"),
    "s01f0003.jpg": (lambda n, c: f"s{n // 10:02d}f{n % 10:04d}.jpg", None, r"s\d\d"),
    "patient7/04.png": (lambda n, c: f"patient{n // 10}/{n % 10:02d}.png", "([^/]+)/[^/]+$", r"patient\d+"),
}


@pytest.mark.parametrize(("name", "pattern", "group"), GROUPS.values(), ids=GROUPS)
def test_names_of_groups_are_told_with_a_pattern_that_keeps_them_together(name, pattern, group):
    classes = ("0", "1", "2") if "12.wav" in name(0, "0") or "george_0" in name(0, "0") else ("cat", "dog", "eel")
    files = listed(name, classes)
    found = find_suspected(files, classes)
    assert found is not None
    assert re.fullmatch(group, found.group)
    assert pattern in (None, found.pattern)
    paths = [path for part in files.values() for path, _ in part]
    keys = Grouping(found.pattern).of_paths(paths, Path("root"))
    assert 1 < len(set(keys)) <= len(paths) / 2
    assert "train (" in found.describe(are_given=False)
    assert f"--data.group_pattern '{found.pattern}'" in found.describe(are_given=False)
    assert "move each group into one split" in found.describe(are_given=True)


def test_groups_that_are_in_one_split_each_are_no_reason_to_warn():
    files = {
        split: [(Path(f"scene{number}{scene}_{shot:04d}.jpg"), None) for scene in range(3) for shot in range(9)]
        for number, split in enumerate(("train", "val", "test"))
    }
    assert find_suspected(files) is None
    assert find_suspected({"train": files["train"]}) is None
    one = files | {"val": [*files["val"], (Path("scene00_9999.jpg"), None)]}  # of 55 files, too few to matter
    assert find_suspected(one) is None


def test_of_many_files_the_neighbours_by_name_are_looked_at():
    files = listed(lambda n, c: f"scene{n // 9:05d}_{n % 9:04d}.jpg", ("cat",), 2 * MOST_NAMES)
    found = find_suspected(files, ("cat",))
    assert found is not None
    assert found.num_more < MOST_NAMES // 9
