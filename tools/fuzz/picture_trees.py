"""Random folders of pictures with annotations, with label maps, and of tar files, and what should come of each."""

from __future__ import annotations

import io
import json
import os
import random
import re
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from trees import SPELLINGS, SPLITS, RefusedError, compare, demand, entries, is_clutter, litter, one_of_each, refuse

ODD_MEMBERS = ("x/.DS_Store", "link", "folder", "new\nline.jpg", "__MACOSX/0.jpg")
ODD_ENDS = (".json", ".png", ".JPG", ".cls", "b.cls", "")
"""Of names in a tar file."""
SUFFIXES = (".png", ".PNG", ".jpg", ".tif")
OTHER_SPLITS = ("holdout", "val2017", "extra", "trn", "unlabelled")


def _png(mode: str) -> str:
    """Return a picture of two pixels, and so of two classes where it is a label map: one alone is refused."""
    file, picture = io.BytesIO(), Image.new(mode, (2, 1))
    picture.putpixel((1, 0), (1, 1, 1) if mode == "RGB" else 1)
    picture.save(file, "PNG")
    return file.getvalue().decode("latin-1")


PICTURE, MAP = _png("RGB"), _png("L")

EMPTY = json.dumps({"images": [], "annotations": [], "categories": [{"id": 0, "name": "cat"}]})

Expect = Callable[[str], tuple[dict[str, Counter[str]], int]]
"""Returns the names of the samples by split, and the number of what is left out; or raises `RefusedError`."""


def check(root: Path, expect: Expect, read: Callable[[Path], tuple[dict[str, Counter[str]], str]]) -> None:
    """Compare what a task reads with what is expected."""
    expected, found = compare(root, expect, read)
    if "val" not in expected and "val" in found:  # held out, by a hash that is not worked out here
        found = {**found, "train": found["train"] + found["val"]}
        del found["val"]
    demand(found == expected, f"samples differ: {found} and {expected}")


def is_empty(path: str) -> bool:
    """Whether there is no file, or nothing in it."""
    return not os.path.isfile(path) or not os.path.getsize(path)


def _spelled(split: str, draw: random.Random) -> str:
    return draw.choice(SPELLINGS[split]) if draw.random() < 0.5 else split


def _oddness(draw: random.Random) -> float:
    return draw.choice((0, 0, 0, 0.1, 0.3))


# Pictures with annotations in COCO's format.


def draw_coco(draw: random.Random) -> dict[str, str]:
    odd, tree = _oddness(draw), {}
    splits = [split for split in SPELLINGS if draw.random() >= (odd / 3 if split == "train" else 0.3)]
    for split in splits:
        name = _spelled(split, draw)
        folder = name if draw.random() < 0.7 else _spelled(split, draw)
        names = [
            f"{draw.choice(('', '', 'sub/'))}{n}{draw.choice((*SUFFIXES, '.jp2'))}" for n in range(draw.randint(1, 5))
        ]
        categories = ["cat", "dog", "bus"][: draw.randint(2, 3)]
        if draw.random() < odd / 3:
            draw.shuffle(categories)
        # Training pictures without a box are left out, but not if they are held out, which a hash decides.
        share = 1 if split == "train" and "val" not in splits else 0.8
        boxes = [(n, draw.randrange(2)) for n in range(len(names)) if draw.random() < share]
        tree[f"annotations/instances_{name}.json"] = json.dumps({
            "images": [{"id": n, "file_name": file, "height": 1, "width": 2} for n, file in enumerate(names)],
            "categories": [{"id": n, "name": category} for n, category in enumerate(categories)],
            "annotations": [
                {"id": n, "image_id": image, "category_id": label, "bbox": [0, 0, 1, 1], "iscrowd": 0}
                for n, (image, label) in enumerate(boxes)
            ],
        })  # fmt: skip
        tree |= {f"{folder}/{file}": PICTURE for file in names if draw.random() >= odd / 10}
    if draw.random() < odd:
        other = draw.choice((*OTHER_SPLITS, "Val", "TEST", "training"))
        path = draw.choice((f"annotations/instances_{other}.json", f"{other}/1.png", f"annotations/{other}.json"))
        tree.setdefault(path, PICTURE if path.endswith("png") else EMPTY)
    return litter(tree, draw, odd, SUFFIXES)


def expect_coco(root: str) -> tuple[dict[str, Counter[str]], int]:
    folders, files, left_out = entries(root)
    pictures = one_of_each(folders)
    inner, names, hidden = entries(f"{root}/annotations") if "annotations" in folders else ([], [], 0)
    tables = {found[1]: name for name in names if (found := re.fullmatch("instances_(.*)[.]json", name, re.DOTALL))}
    found = one_of_each(list(tables))
    refuse("train" not in found or not found.keys() <= pictures.keys(), "a file or a folder is missing")
    left_out += hidden + len(inner) + len(files) + len(names) - len(found)
    left_out += len(folders) - len(found) - ("annotations" in folders)
    samples, known = {}, {}
    for split in ("train", "val", "test"):
        if split not in found:
            continue
        with open(f"{root}/annotations/{tables[found[split]]}", encoding="utf-8") as file:
            content = json.load(file)
        place = f"{root}/{pictures[split]}"
        listed = {f"{place}/{entry['file_name']}" for entry in content["images"]}
        categories = {entry["id"]: entry["name"] for entry in content["categories"]}
        known = known or categories
        boxed = {entry["image_id"] for entry in content["annotations"]}
        refuse(any(known.get(number, name) != name for number, name in categories.items()), "one id, two classes")
        refuse(not {entry["category_id"] for entry in content["annotations"]} <= known.keys(), "an unknown class")
        refuse(any(map(is_empty, listed)), "no picture")
        used = [entry["id"] for entry in content["images"] if split != "train" or entry["id"] in boxed]
        refuse(split == "train" and not used, "nothing to learn")
        samples[split] = Counter(str(number) for number in used)
        left_out += len(listed) - len(used)
        for folder, below, others in os.walk(place):
            for other in list(below):
                if is_clutter(other) or os.path.islink(f"{folder}/{other}"):
                    below.remove(other)
                    left_out += 1
            left_out += sum(f"{folder}/{other}" not in listed for other in others)
    return samples, left_out


# Pictures with label maps.


def draw_maps(draw: random.Random) -> dict[str, str]:
    odd, tree = _oddness(draw), {"classes.txt": "sky\nsea\n"}
    for split in ("train", "val", "test"):
        if draw.random() < (odd / 3 if split == "train" else 0.3):
            continue
        pictures, maps = (_spelled(split, draw) for _ in range(2))
        for number in range(draw.randint(1, 5)):
            if draw.random() >= odd / 10:
                tree[f"images/{pictures}/{number}{draw.choice(SUFFIXES)}"] = PICTURE
            if draw.random() >= odd / 10:
                tree[f"maps/{maps}/{number}{draw.choice(('.png', '.PNG'))}"] = MAP
            if draw.random() < odd / 20:
                tree[f"images/{pictures}/{number}.bmp"] = PICTURE
    if draw.random() < odd:
        other, number = draw.choice((*OTHER_SPLITS, "Val", "TEST", "training")), draw.randrange(4)
        tree[draw.choice((f"images/{other}/{number}.png", f"maps/{other}/{number}.png"))] = MAP
    return litter(tree, draw, odd, SUFFIXES)


def expect_maps(root: str) -> tuple[dict[str, Counter[str]], int]:
    folders, files, left_out = entries(root)
    left_out += len([name for name in files if name != "classes.txt"])
    left_out += len([name for name in folders if name not in ("images", "maps")])
    sides: dict[str, dict[str, str]] = {}
    for side in ("images", "maps"):
        inner, loose, hidden = entries(f"{root}/{side}") if side in folders else ([], [], 0)
        sides[side] = one_of_each(inner)
        left_out += hidden + len(loose) + len(inner) - len(sides[side])
    refuse("train" not in sides["images"], "nothing to train on")
    left_out += len(sides["maps"].keys() - sides["images"].keys())
    samples = {}
    for split, name in sides["images"].items():
        pairs = []
        for side, place, suffixes in (
            ("images", f"{root}/images/{name}", (".png", ".jpg", ".tif", ".bmp")),
            ("maps", f"{root}/maps/{sides['maps'].get(split, split)}", (".png",)),
        ):
            inner, loose, hidden = entries(place) if os.path.isdir(place) else ([], [], 0)
            kept = [
                file
                for file in loose
                if os.path.splitext(file)[1].lower() in suffixes
                and (os.path.isfile(f"{place}/{file}") or not os.path.exists(f"{place}/{file}"))
            ]
            left_out += len(inner) + hidden + len(loose) - len(kept)
            stems = Counter(os.path.splitext(file)[0] for file in kept)
            refuse(max(stems.values(), default=0) > 1, "two files of a name")
            refuse(any(is_empty(f"{place}/{file}") for file in kept), f"no file of {side}")
            pairs.append(stems)
        refuse(pairs[0] != pairs[1], "a picture or a map alone")
        refuse(not pairs[0], "a split without pictures")
        samples[split] = pairs[0]
    return samples, left_out


# Pictures in tar files.


def draw_tars(draw: random.Random) -> dict[str, str]:
    odd = _oddness(draw)
    with_mark = "\ufeffcat\ndog".encode().decode("latin-1")
    tree = {"classes.txt": draw.choice(("cat\ndog\n", "cat\r\ndog\n\n", with_mark))}
    for split in ("train", "val", "test"):
        if draw.random() < (odd / 3 if split == "train" else 0.1):
            continue
        for number in range(draw.randint(1, 2)):
            start = draw.choice(("", "", "set-", "my_"))
            end = draw.choice((".tar", ".tar", ".TAR", ".tar.gz"))
            tree[f"{start}{_spelled(split, draw)}-{number:03d}{end}"] = _tar(draw, odd)
    if draw.random() < odd:
        name = draw.choice(("constrain.tar", "val-test-0.tar", "holdout.tar", "train.zip", "train.tar.zst", "a.tar"))
        tree[name] = _tar(draw, 0)
    return litter(tree, draw, odd, (".tar", ".jpg", ".tgz"))


def _tar(draw: random.Random, odd: float) -> str:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number in range(draw.randint(1, 4)):
            key = f"{draw.choice(('', './', 'deep/'))}{number:04d}"
            names = [f"{key}{draw.choice(('.jpg', '.png', '.JPG'))}", f"{key}.cls"]
            if draw.random() < odd / 2:
                names.append(draw.choice((*ODD_MEMBERS, *(f"{key}{end}" for end in ODD_ENDS), f"._{number:04d}.jpg")))
            if draw.random() < odd / 5:
                names = names[1:]
            if draw.random() < odd / 5:
                names = [*names[1:], names[0]]
            for name in names:
                member = tarfile.TarInfo(name)
                label = str(draw.choice((0, 1, 1, 9)) if draw.random() < odd / 3 else draw.randrange(2)).encode()
                content = label if name.endswith(".cls") else b"x"
                member.size = len(content)
                if name in ("link", "folder"):
                    member.size = 0
                    member.type = (
                        tarfile.DIRTYPE if name == "folder" else draw.choice((tarfile.SYMTYPE, tarfile.LNKTYPE))
                    )
                    member.linkname = f"{key}.cls"
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue().decode("latin-1")


def expect_tars(root: str) -> tuple[dict[str, Counter[str]], int]:
    folders, files, left_out = entries(root)
    found: dict[str, list[str]] = {}
    for name in (*files, *folders):
        stem = re.sub(r"\.(tar|tar\.gz|tgz)$", "", name.lower())
        words = {SPLITS.get(word) for word in re.split("[^a-z]+", stem)} - {None}
        if stem == name.lower() or not words:
            left_out += 1
            continue
        refuse(len(words) > 1, "two splits in a name")
        if os.path.exists(f"{root}/{name}") and not os.path.isfile(f"{root}/{name}"):
            left_out += 1
        else:
            found.setdefault(words.pop(), []).append(name)
    refuse(not {"train", "val"} <= found.keys() or "classes.txt" not in files, "a split or the classes are missing")
    left_out -= 1  # classes.txt
    samples = {}
    for split, names in found.items():
        samples[split] = Counter()
        for name in names:
            samples[split] += _expect_tar(f"{root}/{name}")
    return samples, left_out


def _expect_tar(path: str) -> Counter[str]:
    try:
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            contents = [archive.extractfile(member).read() if member.isreg() else b"" for member in members]
    except (tarfile.TarError, OSError) as error:
        raise RefusedError("no tar file") from error
    groups: list[tuple[str, dict[str, bytes]]] = []
    for member, content in zip(members, contents, strict=True):
        parts = [part for part in member.name.split("/") if part != "."]
        if member.isdir() or any(is_clutter(part) for part in parts):
            continue
        refuse(not member.isreg(), "a link")
        folder, name = os.path.split(member.name)
        stem, _, extension = name.partition(".")
        key = os.path.join(folder, stem)
        if not groups or groups[-1][0] != key:
            groups.append((key, {}))
        refuse(extension.lower() in groups[-1][1], "two files of an extension")
        groups[-1][1][extension.lower()] = content
    for _, files in groups:
        refuse(len({"jpg", "png"} & files.keys()) != 1, "no picture, or two")
        refuse(files.get("cls") not in (b"0", b"1"), "no class")
    return Counter(key for key, _ in groups)
