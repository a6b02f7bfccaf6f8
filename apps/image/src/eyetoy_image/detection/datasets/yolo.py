"""Read annotations of YOLO's format: a text file for each picture, with a line for each object.

A line has the number of a class, from 0, and a box as x and y of its centre, width and height, in fractions of the
picture's width and height. A line of more numbers has a polygon instead of a box, of alternating x and y; or a box and
keypoints, where `data.yaml` has `kpt_shape`. A picture without a file, or with an empty one, has no objects.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from eyetoy_image.detection.datasets.objects import Annotation, Category, Picture
from eyetoy_image.detection.datasets.tree import Listed, Tree, split_up, stored_size
from eyetoy_train import Split
from eyetoy_train.data.splits import SPLIT_NAMES
from eyetoy_train.utils.console import named
from eyetoy_train.utils.untrusted import MAX_BYTES, read_class_names, read_yaml

NAMES = "classes.txt"
MOST = 1.01
"""Largest value of a line; fractions of tools that round exceed 1 by little."""


def read_yolo(tree: Tree) -> Listed:
    """Read `images/SPLIT` and `labels/SPLIT`, or `SPLIT/images` and `SPLIT/labels`, or files side by side.

    Splits are those of `data.yaml` if it names folders that there are, otherwise of folders called by them. Classes are
    those of `data.yaml` or `classes.txt`; without either, numbers up to the largest one of the training set. Keypoints
    are left out.

    Raises:
        FileNotFoundError: there are splits, but none for training.
        ValueError: the files of classes contradict each other or themselves, a split has no label file, or `data.yaml`
            names splits that are no folders, and no folder is called by a split.
    """
    settings = _read_settings(tree.root)
    keypoints = _num_keypoint_values(tree.root, settings)
    folders, missing = _split_folders(tree.root, settings)
    splits = [_split_of(path, folders, tree) for path in tree.pictures]
    if missing and not any(splits):
        raise ValueError(
            f"data.yaml in {tree.root} names {named(missing)}; these are no folders there, and none is called train; "
            "name folders of pictures below it, such as train: images/train"
        )
    labels = [label_file(path) for path in tree.pictures]
    found = split_up(tree, splits, [_read(*pair, keypoints) for pair in zip(tree.pictures, labels, strict=True)])
    without = {path for path, label in zip(tree.pictures, labels, strict=True) if label is None}
    for split, pictures in found.splits.items():
        if pictures and all(picture.path in without for picture in pictures):
            raise ValueError(
                f"none of the {len(pictures)} {split} pictures in {tree.root} has a label file; that of "
                f"{tree.name(pictures[0].path)} should be {tree.name(label_places(pictures[0].path)[0])}"
            )
    names = _read_names(tree, settings)
    if names is None:
        numbers = [
            one.content["category_id"]
            for picture in found.splits["train"]
            for one in picture.annotations
            if not one.fault
        ]
        names = [str(number) for number in range(max(numbers, default=-1) + 1)]
    strays = set(tree.ending_in(".txt")) - {label for label in labels if label is not None}
    strays = {path for path in strays if path.name != NAMES and "labels" in path.parent.parts}
    found.left_out.update({"label files without a picture": len(strays)} if strays else {})
    notes = [f"{len(without)} pictures have no label file, and count as pictures without objects"] if without else []
    if missing:
        notes.append(f"data.yaml names {named(missing)}, which is no folder there")
    if keypoints:
        notes.append("keypoints are left out")
    return replace(found, categories=tuple(map(Category, range(len(names)), names)), notes=tuple(notes))


def label_places(picture: Path) -> list[Path]:
    """Return where the label file of a picture may be, the usual place first."""
    # The last folder of that name, as in /my/images/set/images/train/1.jpg.
    parts = list(picture.with_suffix(".txt").parts)
    places = [place for place, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if not places:
        return [picture.with_suffix(".txt")]
    last = places[-1]
    return [Path(*parts[:last], "labels", *parts[last + 1 :]), picture.with_suffix(".txt")]


def label_file(picture: Path) -> Path | None:
    """Return the label file of a picture, or None if it has none."""
    return next((path for path in label_places(picture) if path.is_file()), None)


def _read(picture: Path, labels: Path | None, keypoints: int) -> Picture:
    """Return a picture with its objects."""
    try:
        height, width = stored_size(picture)
        if labels is None:
            return Picture(0, picture, height, width, ())
        if labels.stat().st_size > MAX_BYTES:
            raise ValueError(f"{labels} must have at most {MAX_BYTES:,} bytes; got {labels.stat().st_size:,}")
        lines = enumerate(labels.read_text(encoding="utf-8-sig").splitlines(), 1)
        objects = [
            _object(line, f"in line {number} of {labels.name}", height, width, keypoints)
            for number, line in lines
            if line.strip()
        ]
        return Picture(0, picture, height, width, tuple(objects))
    except (OSError, ValueError) as error:
        why = f"cannot read {labels}: {error}" if isinstance(error, UnicodeError) else str(error)
        return Picture(0, picture, 1, 1, (), fault=why)


def _object(line: str, place: str, height: int, width: int, keypoints: int) -> Annotation:
    """Return the object of a line, which may end in `keypoints` numbers; its `category_id` is that of its class."""
    try:
        number, *values = (float(value) for value in line.split())
    except ValueError:
        return Annotation(0, {"id": place}, fault=f"a line must have numbers alone; got {line[:60]!r}")
    if keypoints and len(values) == 4 + keypoints:
        values = values[:4]
    is_polygon = not keypoints and len(values) >= 6 and len(values) % 2 == 0
    if len(values) != 4 and not is_polygon:
        more = f"the {keypoints} numbers of its keypoints" if keypoints else "a polygon"
        joined = "and, if at all," if keypoints else "or"
        why = f"a line must have a class, and a box of four numbers {joined} {more}; got {len(values) + 1} numbers"
        return Annotation(0, {"id": place}, fault=why)
    far = next((value for value in values if not 1 - MOST <= value <= MOST), None)  # also where it is not a number
    if far is not None:
        why = f"values must be fractions of the picture's width and height, from 0 to 1; got {far:g}"
        return Annotation(0, {"id": place}, fault=why)
    if not (math.isfinite(number) and number >= 0 and number == int(number)):
        return Annotation(0, {"id": place}, fault=f"the class must be a whole number from 0 on; got {number:g}")
    content: dict[str, Any] = {"id": place, "category_id": int(number), "iscrowd": 0}
    if not is_polygon:
        x, y, wide, high = values
        box = [(x - wide / 2) * width, (y - high / 2) * height, wide * width, high * height]
        return Annotation(0, content | {"bbox": box})
    xs, ys = [value * width for value in values[::2]], [value * height for value in values[1::2]]
    polygon = [side for point in zip(xs, ys, strict=True) for side in point]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return Annotation(0, content | {"bbox": box, "segmentation": [polygon]})


def _read_settings(root: Path) -> Mapping[str, Any]:
    """Return the content of the YAML file that names the classes; an empty dict without one.

    Raises:
        ValueError: there are several, or it is no YAML.
    """
    found: dict[Path, Any] = {}
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        try:
            content = read_yaml(path)
        except yaml.YAMLError as error:
            raise ValueError(f"cannot read {path}: {error}") from error
        if isinstance(content, dict) and "names" in content:
            found[path] = content
    if len(found) > 1:
        raise ValueError(f"{' and '.join(map(str, found))} both name classes; keep one of them")
    return next(iter(found.values()), {})


def _num_keypoint_values(root: Path, settings: Mapping[str, Any]) -> int:
    """Return how many numbers of a line are keypoints, by `kpt_shape`, their number and the values of each.

    Raises:
        ValueError: it is no such pair.
    """
    shape = settings.get("kpt_shape")
    if shape is None:
        return 0
    if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) and n > 0 for n in shape)):
        raise ValueError(f"kpt_shape in data.yaml of {root} must be two whole numbers, such as [17, 3]; got {shape!r}")
    return int(shape[0] * shape[1])


def _split_folders(root: Path, settings: Mapping[str, Any]) -> tuple[dict[Split, Path], list[str]]:
    """Return the folders of pictures that `data.yaml` names, by split, and the names of those that are not there.

    A test that is not there is left out, as files of YOLO's format often name one; without any other there are none.

    Raises:
        ValueError: two splits have one folder, or one has a list of pictures.
    """
    folders: dict[Split, Path] = {}
    missing: dict[Split, str] = {}
    for split, names in SPLIT_NAMES.items():
        said = next((settings[name] for name in names if settings.get(name)), None)
        if said is None:
            continue
        # Written for another machine, and often for another folder, as in ../train/images.
        parts = [part for part in PurePosixPath(str(said).replace("\\", "/")).parts if part not in ("..", ".", "/")]
        folder = root.joinpath(*parts)
        texts = said if isinstance(said, list) else [said]
        if split != "test" and any(str(one).lower().endswith(".txt") for one in texts):
            raise ValueError(
                f"data.yaml in {root} names a list of pictures, {split}: {said}, and lists are not read; put the "
                "pictures of each split into a folder, and name it there"
            )
        if isinstance(said, str) and folder.is_dir():
            folders[split] = folder
        else:
            missing[split] = f"{split}: {said}"
    if "train" not in folders or missing.keys() - {"test"}:
        return {}, list(missing.values())
    for split, folder in folders.items():
        for other, taken in folders.items():
            if split != other and folder.is_relative_to(taken):
                raise ValueError(
                    f"data.yaml in {root} has {folder} for {split} and {taken} for {other}; they must differ"
                )
    return folders, list(missing.values())


def _split_of(path: Path, folders: Mapping[Split, Path], tree: Tree) -> Split | None:
    named = next((split for split, folder in folders.items() if path.is_relative_to(folder)), None)
    called = tree.split_of(path)
    return named or (None if called in folders else called)


def _read_names(tree: Tree, settings: Mapping[str, Any]) -> Sequence[str] | None:
    """Return the names of the classes, or None if no file has them.

    Raises:
        ValueError: files contradict each other, the names are not numbered from 0 on, or one has an empty line.
    """
    found: dict[str, list[str]] = {}
    if settings:
        said = settings["names"]
        keys = list(range(len(said))) if isinstance(said, list | dict) else []
        if isinstance(said, dict) and sorted(said, key=str) != sorted(keys, key=str):
            raise ValueError(f"names in data.yaml of {tree.root} must be numbered from 0 on; got {list(said)[:10]}")
        if not keys:
            raise ValueError(f"names in data.yaml of {tree.root} must be a list of names; got {said!r}")
        found["data.yaml"] = [str(said[key]) for key in keys]
        count = settings.get("nc", len(keys))
        if count != len(keys):
            raise ValueError(f"data.yaml of {tree.root} says nc: {count}, and has {len(keys)} names")
    for path in tree.ending_in(".txt"):
        if path.name == NAMES:
            found[tree.name(path)] = read_class_names(path)
    for place, names in found.items():
        first = next(iter(found))
        if names != found[first]:
            raise ValueError(f"{first} and {place} in {tree.root} name other classes: {found[first]} and {names}")
        if len(set(names)) < len(names):
            doubled = Counter(names).most_common(1)[0][0]
            raise ValueError(f"{place} in {tree.root} has the class {doubled} twice")
    return next(iter(found.values()), None)
