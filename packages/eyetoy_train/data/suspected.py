"""Find names of files that suggest groups, such as frames of one video, of which some are in two splits.

A guess: it only leads to a warning. Plain numbers, random names, dates and names of classes are no groups.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from eyetoy_train.data.groups import Grouping
from eyetoy_train.types import Split
from eyetoy_train.utils.text import shown

MOST_NAMES = 10_000
"""Of more files the first ones by name are looked at, where those of a group are neighbours."""
LEAST_SHARE = 0.5
"""Of the files, in groups of several; and of the classes, with several groups."""
LEAST_CROSSING = 0.1
"""Of the held-out files, in groups that training has, too."""
LEAST_NAMES = 3
"""Of persons and the like, if the groups have no numbers."""

ENDING = r"\)?\.[^.]+$"
PATTERNS = (
    # The number at the end, perhaps with letters, and numbers before it: scene03 of scene03_0001; v_Biking_g01 of
    # v_Biking_g01_c02; P0001 of P0001__1024__0.
    rf"^(.+?)(?:[ _.-]+\d+)*(?:[ _.(-]+[a-zA-Z]*\d+)?{ENDING}",
    # The number at the end alone: 0_3 of 0_3_12.
    rf"^(.+?)(?:[ _.(-]+[a-zA-Z]*\d+)?{ENDING}",
    # A number after letters after a number: s01 of s01f0003.
    rf"^(.*\d)[a-zA-Z]+\d+{ENDING}",
    # The last one or two parts, whatever they are: 100032 of 1-100032-A-0.
    rf"^(.+?)(?:[ _.-]+[^ _.-]+)?{ENDING}",
    rf"^(.+?)(?:[ _.-]+[^ _.-]+){{0,2}}{ENDING}",
    # The folder in the class folder.
    r"([^/]+)/[^/]+$",
)
"""For `data.group_pattern`, tried in this order."""

SIMPLE = (r"^([^_]+)_", r"^([^-]+)-", r"^(.+)_", r"^(.+)-", r"^[^_]+_([^_]+)_", r"^(.+)[ _.-]")
"""Patterns that are easy to read."""
SPOKEN = r"^[^_.-]+[_.-]([a-zA-Z]+)[_.-]\d+\.[^.]+$"
"""For names such as 0_jackson_12: a class, a person, a number."""

PARTS = re.compile(r"[ _.\-+()/]+")
DATE = re.compile(
    r"(?<!\d)(19|20)\d\d([ _.-]?[01]\d([ _.-]?[0-3]\d(([ _.T-]|at)*[0-2]\d([ _.:h-]?[0-5]\d){0,2})?)?)?(?!\d)"
)
"""A year, a day or a moment."""
WORDNET = re.compile(r"n\d{8}")
NO_NAMES = re.compile(
    r"audio|bing|camera|capture|clip|download|dscf?|dscn|file|flickr|frame|google|gopr|images?|imag?|kaggle|mvi|pexels|"
    r"photo|pic|picture|pixabay|pxl|rec|recording|sample|screen|screenshot|shot|sound|unsplash|untitled|vid|video|web"
)
"""Words for any file, and not for a person."""
NO_GROUPS = re.compile(r"aug|batch|copy|fold|page|part|set|shard|split|test|train|val|version")
"""Words for any part of a set, with a number or without."""


@dataclass(frozen=True)
class Suspected:
    """Groups that names of files suggest, and that are in several splits."""

    pattern: str
    """For `data.group_pattern`."""
    group: str
    """One of them."""
    files: Mapping[Split, str]
    """A file of it in each of two splits."""
    num_more: int
    """How many others are so."""

    def describe(self, *, are_given: bool) -> str:
        """Return the warning.

        Args:
            are_given: whether the set itself says which samples are for what.
        """
        places = " and in ".join(f"{split} ({shown(name)})" for split, name in self.files.items())
        others = "1 other group is" if self.num_more == 1 else f"{self.num_more:,} other groups are"
        more = f", and {others} so, too" if self.num_more else ""
        cure = (
            "move each group into one split"
            if are_given
            else f"--data.group_pattern '{self.pattern}' keeps each group in one split"
        )
        return (
            f"names suggest groups that are in several splits: {shown(self.group)} is in {places}{more}. If files of a "
            f"group are alike, as those of a speaker, a video, a scene or a patient, the score is too good: {cure}"
        )


def find_suspected(files: Mapping[Split, Sequence[tuple[Path, Any]]], classes: Sequence[str] = ()) -> Suspected | None:
    """Return the groups that names suggest, if they are in several splits; None if there is nothing to suspect.

    Args:
        files: by split, files and the numbers of their classes; other labels than numbers are not looked at.
        classes: names of the classes.
    """
    if len(files) < 2 or "train" not in files:
        return None
    every = ((path.name, path, label, split) for split, found in files.items() for path, label in found)
    looked_at = [_File(*one[1:]) for one in heapq.nsmallest(MOST_NAMES, every, key=itemgetter(0))]
    for pattern in PATTERNS:
        keys = _keys(looked_at, pattern)
        if keys and _may_be_groups(looked_at, keys, classes):
            spoken = _keys(looked_at, SPOKEN)
            if 0 < len(set(spoken)) < len(set(keys)) and _may_be_groups(looked_at, spoken, classes):
                keys, pattern = spoken, SPOKEN
            return _crossing(looked_at, *_simplest(looked_at, keys, pattern))
    return None


@dataclass(frozen=True)
class _File:
    path: Path
    label: Any
    split: Split

    @property
    def place(self) -> Hashable:
        """Its class; without one, nothing."""
        return self.label if isinstance(self.label, int) else None


def _keys(files: Sequence[_File], pattern: str) -> list[str]:
    """Return the groups by a pattern, or none if a file has none."""
    try:
        return Grouping(pattern).of_paths([file.path for file in files], Path())
    except ValueError:
        return []


def _simplest(files: Sequence[_File], keys: list[str], pattern: str) -> tuple[list[str], str]:
    """Return keys of the same groups by a pattern that is easy to read, where one of `SIMPLE` does as well."""
    for simple in SIMPLE:
        found = _keys(files, simple)
        if found and len(set(zip(keys, found, strict=True))) == len(set(keys)) == len(set(found)):
            return found, simple
    return keys, pattern


def _may_be_groups(files: Sequence[_File], keys: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether keys look like those of groups: most with several files, several in a class, and no names of classes."""
    sizes = Counter(keys)
    # A name that is its own group is none, even if files of other classes have it, too.
    in_groups = sum(sizes[key] > 1 and key != file.path.stem for file, key in zip(files, keys, strict=True))
    if len(sizes) < 2 or in_groups < LEAST_SHARE * len(files):
        return False
    if all(map(str.isdigit, sizes)):
        # A plain number that every class has once, as in 0001_cat and 0001_dog.
        pairs = Counter((key, file.place) for file, key in zip(files, keys, strict=True))
        if sum(size for size in pairs.values() if size > 1) < LEAST_SHARE * len(files):
            return False
    in_class: dict[Hashable, set[str]] = defaultdict(set)
    for file, key in zip(files, keys, strict=True):
        in_class[file.place].add(key)
    if sum(len(found) > 1 for found in in_class.values()) < LEAST_SHARE * len(in_class):
        return False
    telling = _telling(files, keys, classes)
    named = {words for words in telling.values() if words}
    if sum(sizes[key] for key, words in telling.items() if words) < LEAST_SHARE * len(files) or len(named) < 2:
        return False
    if sum(any(map(str.isdigit, words)) for words in named) >= LEAST_SHARE * len(named):
        return True
    # Names without numbers: of persons, if they are in several classes; of kinds of a class, if they are in one.
    seen: dict[str, set[Hashable]] = defaultdict(set)
    for file, key in zip(files, keys, strict=True):
        seen[telling[key]].add(file.place)
    several = sum(len(found) > 1 for words, found in seen.items() if words)
    return len(named) >= LEAST_NAMES and several >= LEAST_SHARE * len(named)


def _telling(files: Sequence[_File], keys: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """Return what in each key tells groups apart: no class, no date, and no word that all keys have."""
    parts = {key: [part for part in PARTS.split(DATE.sub("", key)) if part] for key in set(keys)}
    common = set.intersection(*(set(map(str.casefold, found)) for found in parts.values()))
    of_class: dict[str, set[str]] = defaultdict(set)
    for file, key in zip(files, keys, strict=True):
        if file.place is not None:
            name = classes[file.label] if file.label < len(classes) else ""
            of_class[key].update((name.casefold(), *map(str.casefold, PARTS.split(name))))
        if key != file.path.parent.name:
            of_class[key].add(file.path.parent.name.casefold())
    return {key: " ".join(_informing(found, common, of_class[key])) for key, found in parts.items()}


def _informing(parts: Sequence[str], common: set[str], of_class: set[str]) -> list[str]:
    kept: list[str] = []
    before = ""
    for part in map(str.casefold, parts):
        word = part.rstrip("0123456789") if part not in common else part
        # The number after a word is its own: batch_1.
        is_part = NO_GROUPS.fullmatch(word) or (part.isdigit() and NO_GROUPS.fullmatch(before))
        is_known = part in of_class or WORDNET.fullmatch(part) or NO_NAMES.fullmatch(part)
        if part not in common and not is_part and not is_known:
            kept.append(part)
        before = word
    return kept


def _crossing(files: Sequence[_File], keys: Sequence[str], pattern: str) -> Suspected | None:
    """Return the groups that are in several splits, if many held-out files are of such."""
    found: dict[str, dict[Split, str]] = defaultdict(dict)
    for file, key in zip(files, keys, strict=True):
        found[key].setdefault(file.split, file.path.name)
    trained = {key for key, places in found.items() if "train" in places}
    held_out: list[str] = [key for file, key in zip(files, keys, strict=True) if file.split != "train"]
    shared = [key for key in held_out if key in trained]
    if not shared or len(shared) < LEAST_CROSSING * len(held_out):
        return None
    group = min(shared)
    other = next(split for split in found[group] if split != "train")
    places: dict[Split, str] = {split: found[group][split] for split in ("train", other)}
    return Suspected(pattern, group, places, len(set(shared)) - 1)
