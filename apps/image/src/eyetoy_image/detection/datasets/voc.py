"""Read annotations of PASCAL VOC's format (Everingham et al., 2010): an XML file for each picture.

Coordinates count pixels from 1, and a box has its last row and column: the largest one of a picture of 640 x 480 goes
from 1, 1 to 640, 480. Objects that are marked difficult are taken as COCO's crowds: they are not learned, and
detections on them do not count.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

from eyetoy_image.detection.datasets.objects import Annotation, Category, Picture
from eyetoy_image.detection.datasets.tree import Listed, Tree, split_up, stored_size
from eyetoy_train import Split
from eyetoy_train.data.splits import SPLIT_NAMES
from eyetoy_train.utils.untrusted import read_names, read_xml

LISTS = ("ImageSets", "Main")
PICTURES = ("jpegimages", "images")
"""Usual names of the folder of pictures, in lower case; SegmentationClass has files of the same names."""
SIDES = ("xmin", "ymin", "xmax", "ymax")
DIFFICULT = ("1", "1.0", "true", "yes")
NOT_DIFFICULT = ("", "0", "0.0", "false", "no", "unspecified")
"""How tools say whether an object is difficult, in lower case."""


def read_voc(tree: Tree) -> Listed:
    """Read `Annotations/*.xml` and `JPEGImages`, or XML files beside pictures, or in other folders.

    Splits are those of `ImageSets/Main/train.txt`, `val.txt` and `test.txt` if there is one, otherwise of folders of
    these names. The picture of `a.xml` is called `a`, or as the file says.

    Raises:
        FileNotFoundError: there are splits, but none for training.
        ValueError: a picture is in two splits, or has two files.
    """
    files = tree.ending_in(".xml")
    lists = _read_lists(tree)
    splits: list[Split | None]
    if lists:
        listed = {name for names in lists.values() for name in names}
        by_name = {path.stem: path for path in files}
        # A name without a file stays in the list, and is reported as a missing file.
        files = [by_name.get(name, tree.root / "Annotations" / f"{name}.xml") for name in sorted(listed)]
        split_of = {name: split for split, names in lists.items() for name in names}
        splits = [split_of[path.stem] for path in files]
        unlisted = len(by_name.keys() - listed)
    else:
        splits, unlisted = [tree.split_of(path) for path in files], 0
    pictures = [_read(path, tree) for path in files]
    _refuse_doubles(pictures)
    found = split_up(tree, splits, pictures)
    found.left_out.update({"files that no list names": unlisted} if unlisted else {})
    unused = len(set(tree.pictures).difference(picture.path for picture in pictures)) if not lists else 0
    found.left_out.update({"pictures without an XML file": unused} if unused else {})
    difficult = sum(one.is_crowd for picture in pictures for one in picture.annotations)
    notes = (f"{difficult} objects are marked difficult: neither learned nor scored",) if difficult else ()
    return replace(_with_classes(found), notes=notes)


def _read_lists(tree: Tree) -> dict[Split, list[str]]:
    """Return the names of pictures by split; an empty dict without lists.

    Raises:
        ValueError: there are lists in several folders, or a name is in the lists of two splits.
    """
    folders = sorted({path.parent for path in tree.ending_in(".txt") if path.parent.parts[-2:] == LISTS})
    if len(folders) > 1:
        raise ValueError(f"{tree.root} has several sets: {', '.join(map(str, folders))}; take one as data.root")
    if not folders:
        return {}
    folder = folders[0]
    lists: dict[Split, list[str]] = {}
    for split, names in SPLIT_NAMES.items():
        candidates = [*names, *(("trainval",) if split == "train" else ())]  # with val.txt missing, val is held out
        path = next((path for name in candidates if (path := folder / f"{name}.txt").is_file()), None)
        if path is not None:
            lists[split] = read_names(path)
    seen: dict[str, Split] = {}
    for split, listed in lists.items():
        for name in listed:
            if seen.setdefault(name, split) != split:
                raise ValueError(f"{folder} has {name} in the lists of {seen[name]} and of {split}; it can be in one")
    return lists


def _read(path: Path, tree: Tree) -> Picture:
    """Return the picture of an XML file; its annotations are numbered from 1."""
    try:
        root = read_xml(path)
        picture = _picture_of(path, root, tree)
        height, width = _size(root) or stored_size(picture)
        objects = [_object(entry, number, path) for number, entry in enumerate(root.iter("object"), 1)]
        return Picture(0, picture, height, width, tuple(objects))
    except (OSError, ValueError) as error:
        return Picture(0, path, 1, 1, (), fault=str(error))


def _picture_of(path: Path, root: Element, tree: Tree) -> Path:
    """Return the picture of an XML file, the one of its name or the one that it names.

    Raises:
        ValueError: there is none, or several.
    """
    said = (root.findtext("filename") or "").replace("\\", "/").rpartition("/")[2].strip()
    found = tree.by_stem.get(path.stem) or tree.by_stem.get(Path(said).stem) or []
    for closer in (
        [one for one in found if one.parent == path.parent],
        [one for one in found if one.parent.name.lower() in PICTURES and tree.split_of(one) == tree.split_of(path)],
        [one for one in found if tree.split_of(one) == tree.split_of(path)],
    ):
        if closer:
            found = closer
            break
    if len(found) != 1:
        what = "several pictures" if found else "no picture"
        raise ValueError(f"{path}: {what} in {tree.root} of the name {path.stem}, or {said or 'none'} in the file")
    return found[0]


def _size(root: Element) -> tuple[int, int] | None:
    """Return the height and width that a file says; None if it says none, or zero as some tools do."""
    sides = [_number_of(root.find("size"), name) for name in ("height", "width")]
    if not all(side is not None and side >= 1 for side in sides):
        return None
    return int(sides[0] or 0), int(sides[1] or 0)


def _object(entry: Element, number: int, path: Path) -> Annotation:
    """Return an object; its `category_id` is the name of its class until all names are known."""
    name = (entry.findtext("name") or "").strip()
    difficult = (entry.findtext("difficult") or "").strip()
    is_difficult = difficult.lower() in DIFFICULT
    content = {"id": f"{number} of {path.name}", "category_id": name, "iscrowd": int(is_difficult)}
    fault = ""
    if not is_difficult and difficult.lower() not in NOT_DIFFICULT:
        fault = f"its difficult must be 0 or 1; got {difficult!r}"
    box = entry.find("bndbox")
    sides = [_number_of(box, side) for side in SIDES]
    if any(side is None for side in sides):
        said = {side: None if box is None else box.findtext(side) for side in SIDES}
        return Annotation(number, content, fault=f"its bndbox must have four numbers; got {said}")
    left, top, right, bottom = (side for side in sides if side is not None)
    # One more than the difference, as both ends belong to the box. But a box whose ends are one pixel is a slip of the
    # mouse: its area stays 0, and `find_bad` reports it.
    wide, high = right - left + (right > left), bottom - top + (bottom > top)
    x, y = left - 1, top - 1
    # Tools that count from 0 have boxes that begin there.
    if -1 <= x < 0:
        x, wide = 0.0, wide + x
    if -1 <= y < 0:
        y, high = 0.0, high + y
    return Annotation(number, content | {"bbox": [x, y, wide, high]}, fault=fault)


def _with_classes(found: Listed) -> Listed:
    """Number the classes of the training set in the order of their names; others keep their names, and are reported."""
    names = {one.content["category_id"] for picture in found.splits["train"] for one in picture.annotations}
    numbers = {name: number for number, name in enumerate(sorted(names - {""}), 1)}

    def numbered(picture: Picture) -> Picture:
        contents = [(one, one.content["category_id"]) for one in picture.annotations]
        changed = [
            replace(one, content={**one.content, "category_id": numbers.get(name, name)}) for one, name in contents
        ]
        return replace(picture, annotations=tuple(changed))

    splits = {split: tuple(map(numbered, pictures)) for split, pictures in found.splits.items()}
    return replace(found, categories=tuple(Category(number, name) for name, number in numbers.items()), splits=splits)


def _number_of(parent: Element | None, name: str) -> float | None:
    try:
        value = float((parent.findtext(name) if parent is not None else None) or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _refuse_doubles(pictures: list[Picture]) -> None:
    seen: set[Path] = set()
    for picture in pictures:
        if picture.path in seen:
            raise ValueError(f"{picture.path} has two XML files; remove one of them")
        seen.add(picture.path)
