"""Samples of a group are held out together, in splits and folds."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eyetoy_train import read_class_folder
from eyetoy_train.data.group_choice import choose_folds, choose_splits
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.held_out import Fold, hold_out_groups
from eyetoy_train.data.inventory import Inventory
from eyetoy_train.data.source import DatasetRegistry, FolderSource

SHARES = {"train": 0.7, "test": 0.2, "val": 0.1}
SPEAKERS = ("anna", "bert", "cleo", "dora", "emil", "fred")

seeds = st.integers(0, 10**6)
several = settings(deadline=None, max_examples=25)


def drawn(seed: int) -> tuple[list[str], list[tuple[int, ...]]]:
    """The groups of samples, and their classes: one, or any number."""
    draw = random.Random(seed)
    most = draw.choice((1, 2))
    sizes = [draw.randint(1, draw.choice((2, 30))) for _ in range(draw.randint(3, 12))]
    keys = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    own = {key: draw.sample(range(4), draw.choice((1, 2))) for key in dict.fromkeys(keys)}  # so few groups have a class
    counts = [1 if most == 1 else draw.randint(0, most) for _ in keys]
    pairs = zip(keys, counts, strict=True)
    return keys, [tuple(sorted(draw.sample(own[key], min(count, len(own[key]))))) for key, count in pairs]


@several
@given(seed=seeds)
def test_groups_are_in_one_split_each_and_every_class_is_trained(seed):
    keys, labels = drawn(seed)
    samples = list(range(len(keys)))
    try:
        found = hold_out_groups(samples, keys, labels, ("test", "val"), seed)
    except ValueError as error:  # the classes need these groups in training
        if "must be in training" not in str(error):
            raise
        return
    assert sorted(sample for part in found.values() for sample in part) == samples
    of_split = [{keys[sample] for sample in part} for part in found.values()]
    assert all(of_split)
    assert sum(map(len, of_split)) == len(set(keys))
    assert {one for sample in found["train"] for one in labels[sample]} == {one for each in labels for one in each}
    order = random.Random(seed).sample(samples, len(samples))
    chosen = choose_splits([keys[place] for place in order], [labels[place] for place in order], SHARES, seed)
    assert all(chosen[keys[sample]] == split for split, part in found.items() for sample in part)


@several
@given(seed=seeds)
def test_held_out_splits_have_their_shares_but_for_less_than_a_group(seed):
    keys, _ = drawn(seed)
    chosen = choose_splits(keys, [(0,)] * len(keys), SHARES, seed)
    counts = Counter(chosen[key] for key in keys)
    for split in ("test", "val"):
        assert abs(counts[split] - SHARES[split] * len(keys)) < max(Counter(keys).values())


@several
@given(count=st.integers(2, 4), seed=seeds)
def test_over_all_folds_a_group_is_tested_once_and_its_classes_are_trained(count, seed):
    keys, labels = drawn(seed)
    try:
        folds = choose_folds(keys, labels, count, seed)
    except ValueError as error:
        if f"data.folds={count} needs as many groups" not in str(error):
            raise
        return
    assert set(folds.values()) == set(range(1, count + 1))
    having = {one: {key for key, each in zip(keys, labels, strict=True) if one in each} for one in range(4)}
    alone = {key for found in having.values() if len(found) == 1 for key in found}
    assert folds.keys() == set(keys) - alone
    if all(len(each) == 1 for each in labels):  # with more, it can be impossible
        assert all(
            len({folds[key] for key in found}) > 1 for found in having.values() if len(found) > 1 and not found & alone
        )


def test_seeds_choose_other_groups_and_classes_are_even():
    keys = [speaker for speaker in SPEAKERS for _ in range(20)]
    chosen = [choose_splits(keys, [(place % 10,) for place in range(120)], SHARES, seed) for seed in range(8)]
    assert {tuple(sorted(Counter(one.values()).items())) for one in chosen} == {(("test", 1), ("train", 4), ("val", 1))}
    assert len({one["anna"] for one in chosen}) > 1
    # Two kinds of groups, each with a class of its own: half of the test is of each.
    keys = [f"g{place // 5}" for place in range(200)]
    labels = [(place // 5 % 2,) for place in range(200)]
    chosen = choose_splits(keys, labels, SHARES, 0)
    parts = Counter((chosen[key], *label) for key, label in zip(keys, labels, strict=True))
    wanted = {"train": 70, "test": 20, "val": 10}
    assert parts == {(split, label): count for split, count in wanted.items() for label in (0, 1)}


def write(root: Path, names: dict[str, list[str]]) -> Path:
    for folder, files in names.items():
        (root / folder).mkdir(parents=True)
        for name in files:
            (root / folder / name).parent.mkdir(exist_ok=True)
            (root / folder / name).write_text("x")
    return root


def spoken(root: Path) -> Path:
    """Two words of six speakers, four times."""
    words = ("no", "yes")
    return write(root, {word: [f"{word}_{who}_{take}.txt" for who in SPEAKERS for take in range(4)] for word in words})


def speakers(samples) -> set[str]:
    return {path.name.split("_")[1] for path, _ in samples}


@pytest.mark.parametrize("pattern", [r"_([a-z]+)_", r"/[a-z]+_([a-z]+)_\d", r"^(no|yes)_(?P<group>[^_]+)"])
def test_speakers_of_a_folder_are_held_out_whole_and_told(tmp_path, pattern):
    root = spoken(tmp_path / "words_of_us")
    source = FolderSource.of_classes(root, [".txt"], 3, grouping=Grouping(pattern))
    splits = source.folder.splits
    found = [speakers(splits[split]) for split in ("train", "val", "test")]
    assert sorted(who for part in found for who in part) == list(SPEAKERS)
    sizes = {split: len(samples) for split, samples in splits.items()}
    assert (
        source.inventory(sizes, samples=splits)
        .describe()
        .endswith("train 32 of 4 groups (the rest), val 8 of 1 group (held out), test 8 of 1 group (held out)")
    )
    assert not list(source.inventory(sizes, samples=splits).warnings())
    assert source.unsplit().folder.groups == {}  # to score files, they need no groups
    assert read_class_folder(root, [".txt"], seed=3).splits["test"] != splits["test"]


def test_folds_and_given_splits_keep_speakers_together(tmp_path):
    root, grouping = spoken(tmp_path / "words"), Grouping("_(.+)_")
    folds = [read_class_folder(root, [".txt"], fold=Fold(number, 3), grouping=grouping) for number in (1, 2, 3)]
    assert sorted(who for fold in folds for who in speakers(fold.splits["test"])) == list(SPEAKERS)
    for fold in folds:
        parts = [speakers(samples) for samples in fold.splits.values()]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 6
    (root / "yes").rename(root / "train_yes")
    (root / "no").rename(root / "test_yes")
    for split in ("train", "test"):
        (root / split).mkdir()
        (root / f"{split}_yes").rename(root / split / "yes")
    source = FolderSource.of_classes(root, [".txt"], 0, grouping=grouping)
    assert not speakers(source.folder.splits["train"]) & speakers(source.folder.splits["val"])
    warnings = list(source.inventory({}, samples=source.folder.splits).warnings())
    assert warnings[0].startswith("5 of 5 groups are in train and in test, as the set divides them, whose score")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"_([a-d]\w+)_", r"^data.group_pattern='_\(.*finds no group in 16 of 48: no_emil_0.txt, no_emil_1.txt, "),
        (r"(words)/", "paths below data.root, finds no group in 48 of 48: no/no_anna_0.txt"),
        (r"^(x?)", "finds no group in 48 of 48"),
        (r"(yes|no)_", r"^train, test and val need a group each, and the samples have 2 \(no, yes\); take smaller gro"),
        (r"^((?:yes|no)_[af])?", "finds no group in 32 of 48"),
        (r"_(", r"^data.group_pattern='_\(' is no regular expression: missing \)"),
        (r"_.+_", r"must have the group's name in parentheses, such as \^\(\[\^_\]\+\)_$"),
    ],
)
def test_patterns_without_groups_are_refused(tmp_path, pattern, message):
    root = spoken(tmp_path / "words")
    with pytest.raises(ValueError, match=message):
        read_class_folder(root, [".txt"], grouping=Grouping(pattern))


def test_groups_that_cannot_be_held_out_are_refused(tmp_path):
    classes = {name: [f"{name}_{number}.txt" for number in range(4)] for name in "abcd"}
    root = write(tmp_path / "set", classes)
    with pytest.raises(ValueError, match=r"^no groups can be held out for test and val: 4 of 4 groups must be in trai"):
        read_class_folder(root, [".txt"], grouping=Grouping("(.)_"))
    with pytest.raises(ValueError, match=r"^data.folds=2 .* 4, of which 4 stay in training as the only ones of a clas"):
        read_class_folder(root, [".txt"], fold=Fold(1, 2), grouping=Grouping("(.)_"))
    with pytest.raises(ValueError, match=r"^data.group_pattern and data.group_column both tell the groups"):
        Grouping.of(SimpleNamespace(group_pattern="(.)", group_column="who"))


def test_sets_that_hold_nothing_out_by_groups_refuse_them():
    registry = DatasetRegistry("nowhere", {"folder": "a:b", "hub": "a:b", "own": "a:b"})
    for options, known in (({"group_pattern": "(.)"}, "folder, hub"), ({"group_column": "who"}, "hub")):
        with pytest.raises(ValueError, match=rf"^data.{next(iter(options))} is for data.source {known}, and .* is own"):
            registry.open(SimpleNamespace(source="own", **options), 0)


def test_a_class_that_no_held_out_group_has_is_named(tmp_path):
    files = {"a": [f"g{group}_{number}.txt" for group in range(6) for number in range(3)], "b": ["g0_9.txt"]}
    folder = read_class_folder(write(tmp_path / "set", files), [".txt"], grouping=Grouping("^(..)"))
    labels = {split: {label for _, label in samples} for split, samples in folder.splits.items()}
    assert labels == {"train": {0, 1}, "val": {0}, "test": {0}}
    assert [line.split(",")[0] for line in Inventory(folder.classes, {}, labels).warnings()] == [
        "classes without a sample in val",
        "classes without a sample in test",
    ]
