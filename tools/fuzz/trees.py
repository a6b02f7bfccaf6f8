"""Random folders as users leave them, for every reader of folders: no file may be lost without a word.

A reader of a tree returns what it read, or refuses. A second listing, by `os.walk` and the rules of docs/data.md alone,
says what should come of each entry. A file that is neither a sample, nor counted in the line of the run, nor in a tree
that is refused, is a finding; so is a tree that one of both refuses and the other reads.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import itertools
import json
import os
import random
import re
import shutil
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder in memory, where thousands of small files take no time
HOME = Path(tempfile.mkdtemp(prefix="fuzzing-trees-", dir=MEMORY if MEMORY.is_dir() else None))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
SPELLINGS = {
    "train": ("train", "Train", "TRAIN", "training", "Training"),
    "val": ("val", "Val", "VAL", "valid", "validation", "Validation", "validate", "dev"),
    "test": ("test", "TEST", "testing", "Testing"),
}
SPLITS = {name.lower(): split for split, names in SPELLINGS.items() for name in names}
HINTS = {
    **{name: {"train"} for name in ("train2017", "train_images", "images_train", "01_train", "trainset", "trn")},
    **{name: {"val"} for name in ("val2017", "VAL_images", "valid-data", "02 val")},
    **{name: {"test"} for name in ("test2017", "test_set", "tst")},
    **{name: {"val", "test"} for name in ("holdout", "held_out", "eval", "Evaluation")},
}
HINTS = {name.lower(): splits for name, splits in HINTS.items()}
CLASSES = ("cat", "dog", "Cat", "DOG", "bus", "train station", "test-tube", "07", "a b", "-rf", "$HOME", "x" * 200)
ODD_CLASSES = ("e\u0301t\u00e9", "\u00e9t\u00e9", "train", "test", "dev", "new\nline", "\udcff\udcfe", *HINTS)
NAMES = (
    "a",
    "b",
    "0001",
    "two words",
    "-f",
    "$HOME",
    "e\u0301",
    "\u00e9",
    "new\nline",
    "\udcff",
    "y" * 200,
    "a.b",
    "'",
)
CLUTTER = (".DS_Store", "Thumbs.db", "desktop.ini", "THUMBS.DB", ".hidden")
CLUTTER_FOLDERS = (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", "__macosx")
OTHER_SUFFIXES = (".heic", ".txt", "", ".png.txt", ".bak", ".npy")
SUFFIXES = {
    "image": (".png", ".jpg", ".jpeg", ".JPG", ".WebP", ".bmp", ".TIF", ".tiff", ".gif", ".ppm", ".jfif", ".txt.png"),
    "sound": (
        ".wav",
        ".WAV",
        ".flac",
        ".ogg",
        ".aiff",
        ".caf",
        ".w64",
        ".mp3",
        ".opus",
        ".m4a",
        ".wma",
        ".au",
        ".a.MP3",
    ),
    "video": (".mp4", ".MP4", ".mkv", ".webm", ".avi", ".mov", ".gif", ".GIF", ".x.mp4"),
}


E, F = TypeVar("E"), TypeVar("F")


class SilentError(AssertionError):
    """A file was lost without a word, or a tree was refused or read where it should not be."""


class RefusedError(Exception):
    """The rules refuse a tree."""


def demand(right: bool, what: str) -> None:
    if not right:
        raise SilentError(what)


def seeds(make: Callable[[random.Random], dict[str, str | None]]) -> Callable[[random.Random], bytes]:
    """Return the maker of a reader's inputs: trees as JSON, of paths with their kinds."""
    return lambda draw: json.dumps(make(draw)).encode()


def build(content: bytes) -> Path:
    """Make the tree: `file` is empty, `folder`, `pipe`, `> TARGET` a link, and everything else the text of a file."""
    root = HOME / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, kind in json.loads(content).items():
        path = root / name
        with contextlib.suppress(OSError):  # an entry in the place of a folder, or one that is there already
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                path.mkdir(exist_ok=True)
            elif kind == "pipe":
                os.mkfifo(path)
            elif kind.startswith("> "):
                path.symlink_to(kind[2:])
            else:
                path.write_bytes(b"" if kind == "file" else kind.encode("latin-1"))
    return root


def refuse(wrong: bool, why: str) -> None:
    if wrong:
        raise RefusedError(why)


def one_of_each(names: list[str]) -> dict[str, str]:
    """Return the name of each split among some."""
    ours = [name for name in names if name.lower() in SPLITS]
    found = {SPLITS[name.lower()]: name for name in ours}
    refuse(len(found) < len(ours), "two of a split")
    return found


def is_clutter(name: str) -> bool:
    return name[0] == "." or name.lower() in ("__macosx", "@eadir", "thumbs.db", "desktop.ini")


def entries(folder: str) -> tuple[list[str], list[str], int]:
    """Return the names of the folders and the files in a folder, and the number of those that are hidden."""
    _, folders, files = next(os.walk(folder))
    hidden = sum(map(is_clutter, [*folders, *files]))
    kept = [sorted(name for name in names if not is_clutter(name)) for names in (folders, files)]
    return kept[0], kept[1], hidden


# Class folders.


def draw_classes(kind: str) -> Callable[[random.Random], dict[str, str | None]]:
    def make(draw: random.Random) -> dict[str, str]:
        odd = draw.choice((0, 0, 0.02, 0.1, 0.3))
        tree: dict[str, str] = {}
        classes = [draw.choice(ODD_CLASSES if draw.random() < odd else CLASSES) for _ in range(draw.randint(1, 4))]
        parents = [""]
        if draw.random() < 0.7:
            parents = [draw.choice(SPELLINGS["train"])] if draw.random() > odd / 2 else []
            parents += [draw.choice(SPELLINGS[split]) for split in ("val", "test") if draw.random() < 0.6]
            if draw.random() < odd:
                parents.append(draw.choice((*HINTS, "Train", "training", "val", "extra", "raw")))
        if draw.random() < odd / 3:
            parents = [f"set/{parent}" if draw.random() < 0.9 else parent for parent in parents]
        for parent in parents:
            held_out = SPLITS.get(parent.lower(), "train") != "train"
            for name in classes:
                if held_out and draw.random() < 0.1:
                    continue
                if draw.random() < odd:
                    name = draw.choice((unicodedata.normalize("NFD", name), name.upper(), f"{name}/train", f"{name}/x"))
                tree[f"{parent}/{name}".strip("/")] = "folder"
                for _ in range(draw.choice((0, 1, 2, 3, 6)) if draw.random() < odd else draw.randint(2, 9)):
                    below = draw.choice(("", "", "", "deep/", "deep/er/"))
                    tree[f"{parent}/{name}/{below}{_name(draw)}{draw.choice(SUFFIXES[kind])}".strip("/")] = "file"
        return litter(tree, draw, odd, SUFFIXES[kind])

    return make


def _name(draw: random.Random) -> str:
    return draw.choice(NAMES) if draw.random() < 0.2 else f"{draw.randrange(10**6)}"


def litter(tree: dict[str, str], draw: random.Random, odd: float, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Leave things in and beside the folders of a tree."""
    places = sorted({"", *(str(parent) for path in tree for parent in Path(path).parents if str(parent) != ".")})
    for _ in range(draw.choice((0, 1, 3, 8)) if odd else 0):
        place, name, suffix = draw.choice(places), _name(draw), draw.choice(suffixes)
        files = [path for path, kind in tree.items() if kind in ("file", "pipe")] or ["nothing"]
        path, kind = draw.choice((
            (draw.choice(CLUTTER), "file"),
            (f"._{name}{suffix}", "file"),
            (f"{draw.choice(CLUTTER_FOLDERS)}/{name}{suffix}", "file"),
            (f"{name}{draw.choice(OTHER_SUFFIXES)}", "file"),
            (f"{name}{suffix}", "file"),
            (f"{name}{suffix}", "pipe"),
            (f"{name}{suffix}", f"> {HOME}/root/{draw.choice(files)}"),
            (f"{name}{suffix}", "> nowhere"),
            (f"{name}{suffix}", f"> {name}{suffix}"),
            (name, f"> {HOME}/root/{draw.choice(places)}"),
            (f"link{name}", "> ."),
            (f"folder{suffix}/{name}{suffix}", "file"),
        ))  # fmt: skip
        tree.setdefault(f"{place}/{path}".lstrip("/"), kind)
    return tree


def expect_classes(root: str, suffixes: set[str]) -> tuple[dict[str, dict[str, str]], int]:
    """Return the class of every sample by split (`""` for all where they are to be held out), and how many entries not.

    Raises:
        RefusedError: a rule refuses the tree.
    """
    found, left_out = _expect_splits(root)
    places = {split: f"{root}/{name}" for split, name in found.items()} or {"": root}
    classes = entries(places.get("train", root))[0]
    samples: dict[str, dict[str, str]] = {}
    real: list[str] = []
    for split, place in places.items():
        members, loose, hidden = entries(place)
        left_out += len(loose) + hidden
        known = {composed(name): name for name in classes}
        one_form = len(known) == len(classes) and len(set(map(composed, members))) == len(members)
        refuse(not one_form, "two forms of a name")
        refuse(not set(map(composed, members)) <= known.keys(), "an unknown class")
        samples[split] = {}
        for name in members:
            paths, others = _expect_files(f"{place}/{name}", suffixes)
            samples[split] |= dict.fromkeys(paths, known[composed(name)])
            left_out += others
            inner = {os.path.relpath(path, f"{place}/{name}").split("/")[0] for path in paths}
            meant = {split for one in inner for split in meaning(one) if os.path.isdir(f"{place}/{name}/{one}")}
            refuse("train" in meant and (len(meant) > 1 or len(members) == 1), "splits in a class")
            real.append(os.path.realpath(f"{place}/{name}") + "/")
    real.sort()
    refuse(any(other.startswith(one) for one, other in itertools.pairwise(real)), "shared folders")
    refuse(not all(samples.values()), "a split without a file")
    training = samples["train"] if found else samples[""]
    refuse(set(training.values()) != set(classes), "a class without a file")
    least = 3 if not found else 2 if "val" not in found else 1
    refuse(max(Counter(training.values()).values()) < least, "too few to hold any out")
    return samples, left_out


def _expect_splits(root: str) -> tuple[dict[str, str], int]:
    """Return the name of each split's folder, none where the folders are classes; and what is left out beside them."""
    folders, files, hidden = entries(root)
    found = one_of_each(folders)
    inside = entries(f"{root}/{found['train']}")[0] if "train" in found else []
    if list(found) == ["train"] and len(folders) > 1 and not inside:
        found = {}  # a class of trains
    meant = {name: meaning(name) for name in folders if meaning(name) and name not in found.values()}
    if "train" in found:
        refuse(any(hinted - found.keys() for hinted in meant.values()), "a split of another name")
    else:
        trains = [name for name, hinted in meant.items() if "train" in hinted]
        deep = any(os.path.isdir(entry) for name in trains for entry in os.scandir(f"{root}/{name}"))
        refuse(bool(trains) and (deep or len(trains) < len(meant)), "splits of other names")
        refuse(bool(found), "nothing to train on")
    return found, hidden + len(files) + len(folders) - len(found) if found else 0


def _expect_files(folder: str, suffixes: set[str]) -> tuple[list[str], int]:
    """Return the samples below a class folder, and the number of what is left out."""
    paths, left_out = [], 0
    for place, below, names in os.walk(folder):
        for other in list(below):
            if is_clutter(other) or os.path.islink(f"{place}/{other}"):
                below.remove(other)
                left_out += 1
        for name in names:
            path = f"{place}/{name}"
            is_odd = os.path.exists(path) and not os.path.isfile(path)
            if is_clutter(name) or is_odd or os.path.splitext(name)[1].lower() not in suffixes:
                left_out += 1
            else:
                paths.append(path)
    return paths, left_out


def meaning(name: str) -> set[str]:
    """Return the splits that a name may mean."""
    split = SPLITS.get(name.lower())
    return {split} if split else HINTS.get(name.lower(), set())


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def compare(root: Path, expect: Callable[[str], tuple[E, int]], read: Callable[[Path], tuple[F, str]]) -> tuple[E, F]:
    """Return the samples that are expected and those that are read, if both say that the same number is left out.

    Args:
        root: the tree.
        expect: returns the samples and the number of what is left out, by the rules; or raises `RefusedError`.
        read: returns the samples that a task reads, and the line that it logs; or refuses the tree.
    """
    expected, reason = None, ""
    try:
        expected = expect(str(root))
    except RefusedError as refused:
        reason = str(refused)
    try:
        found, said = read(root)
    except (ValueError, OSError) as error:
        demand(bool(reason), f"refused by {str(error)[:300]!r}, and should be read")
        demand(not str(error).startswith("[Errno") and len(str(error)) > 20, f"no sentence: {error}")
        raise
    if expected is None:
        raise SilentError(f"read, and should be refused: {reason}")
    demand(said_left_out(said) == expected[1], f"left out are {expected[1]}, and it says {said!r}")
    return expected[0], found


def check_classes(root: Path, kind: str, read: Callable[[Path], tuple[Any, str]]) -> None:
    """Compare what a task reads with what is expected of its folder."""
    suffixes = {os.path.splitext(f"x{suffix}")[1].lower() for suffix in SUFFIXES[kind]}
    samples, source = compare(root, lambda folder: expect_classes(folder, suffixes), read)
    found: dict[str, dict[str, str]] = {
        split: {str(path): source.classes[label] for path, label in source.split(split) or ()}
        for split in ("train", "val", "test")
    }
    total = sum(len(source.split(split) or ()) for split in found)
    together = {path: label for members in found.values() for path, label in members.items()}
    demand(total == len(together), "a file is in two splits")
    expected = {path: label for members in samples.values() for path, label in members.items()}
    demand(together == expected, f"samples differ: {sorted(set(together.items()) ^ set(expected.items()))[:3]}")
    for split in samples.keys() & {"val", "test"}:
        demand(found[split] == samples[split], f"{split} differs")


def said_left_out(said: str) -> int:
    """Return the sum of the numbers that the line of a run says it left out."""
    line = next((line for line in said.split("\n") if line.startswith("data: ")), None)
    if line is None:
        raise SilentError(f"no line about the data: {said!r}")
    _, _, reasons = line.partition("; left out: ")
    reasons = re.sub(r"\(.*?\)(?=,|$)", "", reasons)
    return sum(int(number) for number in re.findall(r"(?:^|, )(\d+) ", reasons))


def heard(prepare: Callable[[], None]) -> str:
    """Return what is logged on stderr meanwhile."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        prepare()
    return said.getvalue()
