"""Something-Something, UCF-101 and HMDB-51 in their true layouts, and what is told where a set is not there."""

from __future__ import annotations

import json

import pytest

from eyetoy_video.datasets import DATASETS
from eyetoy_video.datasets.hmdb51 import read_hmdb51
from eyetoy_video.datasets.something_something import read_something_something
from eyetoy_video.datasets.source import ListedSource, find_clips, hold_out
from eyetoy_video.datasets.ucf101 import read_ucf101
from eyetoy_video.recipe import VideoData

TEMPLATES = {"Holding [something] next to [something]": "2", "Folding [something]": "0", "Showing nothing": "10"}


@pytest.fixture
def something(tmp_path, copies):
    labels = {name.replace("[", "").replace("]", ""): number for name, number in TEMPLATES.items()}
    tables = {"labels": labels, "train": [], "validation": [], "test": []}
    for number in range(9):
        name = ("train", "validation", "test")[number // 3]
        about = {"label": "holding a cup", "template": list(TEMPLATES)[number % 3], "placeholders": ["a cup"]}
        tables[name].append({"id": str(1000 + number)} | (about if name != "test" else {}))
        suffix = ".mp4" if number == 4 else ".webm"
        copies(tmp_path / "20bn-something-something-v2" / f"{1000 + number}{suffix}")
    (tmp_path / "labels").mkdir()
    for name, table in tables.items():
        (tmp_path / "labels" / f"{name}.json").write_text(json.dumps(table))
    return tmp_path


def test_something_something_is_read_without_its_test(something, check_read):
    found = read_something_something(something)
    assert found.classes == ("Folding something", "Holding something next to something", "Showing nothing")
    assert [label for _, label in found.splits["train"]] == [1, 0, 2]
    assert [path.name for path, _ in found.splits["val"]] == ["1003.webm", "1004.mp4", "1005.webm"]
    assert check_read(found) == {"train": 3, "val": 3}


def test_tables_of_something_something_may_have_long_names(something):
    expected = read_something_something(something)
    for table in (something / "labels").iterdir():
        table.rename(something / f"something-something-v2-{table.name}")
    assert read_something_something(something) == expected


def test_a_template_that_is_no_class_is_refused(something):
    table = something / "labels" / "validation.json"
    table.write_text(table.read_text().replace("Folding [something]", "Eating [something]"))
    with pytest.raises(ValueError, match=r"validation.json has classes.*Eating something"):
        read_something_something(something)


@pytest.fixture
def ucf101(tmp_path, copies):
    """Two classes of 25 groups of two clips each; the lists of division 2 test groups 8 to 14."""
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Archery\n2 HandstandPushups\n")
    train, test = [], []
    for number, name in enumerate(("Archery", "HandstandPushups"), 1):
        stem = name.replace("stand", "Stand")  # as in the real lists
        for group in range(1, 26):
            for clip in (1, 2):
                path = f"{name}/v_{stem}_g{group:02d}_c{clip:02d}.avi"
                copies(tmp_path / "UCF-101" / path)
                (test if 8 <= group <= 14 else train).append(path if 8 <= group <= 14 else f"{path} {number}")
    (lists / "trainlist02.txt").write_text("\r\n".join([*train, ""]))
    (lists / "testlist02.txt").write_text("\n".join([*test, ""]))
    return tmp_path


def test_ucf101_is_split_by_its_lists_and_no_group_is_in_two_splits(ucf101, check_read):
    found = read_ucf101(ucf101, fold=2)
    assert found.classes == ("Archery", "HandstandPushups")
    assert check_read(found) == {"train": 64, "val": 8, "test": 28}
    groups = {split: {(label, path.stem[-7:-4]) for path, label in samples} for split, samples in found.splits.items()}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 50
    assert {group for _, group in groups["test"]} == {f"g{number:02d}" for number in range(8, 15)}
    assert read_ucf101(ucf101, fold=2) == found != read_ucf101(ucf101, fold=2, seed=1)


FILMS = ("April_09", "#20_wave_at_me", "Prelinger_(x)", "TrumanShow")


@pytest.fixture
def hmdb51(tmp_path, copies):
    """Two classes of 40 clips from four films; the lists mark 24 for training, 12 for the test and 4 for nothing."""
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    for name in ("brush_hair", "wave"):
        files = [f"{FILMS[number % 4]}_{name}_u_nm_np1_ba_goo_{number}.avi" for number in range(40)]
        copies(*(tmp_path / name / file for file in files))
        marks = ["1"] * 24 + ["2"] * 12 + ["0"] * 4
        (lists / f"{name}_test_split3.txt").write_text(
            "\n".join(f"{file} {mark} " for file, mark in zip(files, marks, strict=True))
        )
    return tmp_path


def test_hmdb51_is_split_by_its_marks_and_no_film_is_in_training_and_validation(hmdb51, check_read):
    found = read_hmdb51(hmdb51, fold=3)
    assert found.classes == ("brush_hair", "wave")
    assert check_read(found) == {"train": 36, "val": 12, "test": 24}
    films = {
        split: {(label, next(film for film in FILMS if path.name.startswith(film))) for path, label in samples}
        for split, samples in found.splits.items()
    }
    assert not films["train"] & films["val"]
    assert len(films["train"]) == 6


@pytest.mark.parametrize("name", ["._a.mp4", ".ipynb_checkpoints/b.mp4", "@eaDir/c.mp4"])
def test_hidden_files_are_no_clips(tmp_path, copies, name):
    copies(tmp_path / "part" / "a.mp4", tmp_path / "part" / name)
    assert find_clips(tmp_path) == {"a": tmp_path / "part" / "a.mp4"}


def test_hold_out_takes_whole_groups_of_every_class_and_never_all():
    samples = [(f"{label}/{group}/{clip}", label) for label, groups in ((0, 10), (1, 1)) for group in range(groups)
               for clip in range(4)]  # fmt: skip
    train, val = hold_out(samples, 0, {path: path[:3] for path, _ in samples})
    assert sorted(train + val) == sorted(samples)
    assert [label for _, label in val] == [0] * 4
    assert len({path[:3] for path, _ in val}) == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("kinetics", ["Kinetics is not in", "456 GB", "git clone https://github.com/cvdfoundation/kinetics-dataset"]),
        (
            "something_something",
            ["V2 is not in", "no labels.json", "19.4 GB", "www.qualcomm.com/", "tar -xz -C"],
        ),
        ("ucf101", ["UCF-101 is not in", "6.9 GB", "wget https://www.crcv.ucf.edu/data/UCF101/UCF101.rar"]),
        ("hmdb51", ["HMDB-51 is not in", "2.1 GB", "hmdb51_org.rar", "test_train_splits.rar"]),
        ("list", ["no list of clips for training", "train.csv, val.csv"]),
        ("folder", ["there is no folder"]),
    ],
)
def test_a_set_that_is_not_there_is_told_with_what_fetches_it(tmp_path, source, words):
    root = tmp_path / "nowhere"
    with pytest.raises(FileNotFoundError) as raised:
        DATASETS.open(VideoData(source=source, root=str(root)), 0).prepare()
    said = str(raised.value)
    assert str(root) in said
    assert not [word for word in words if word not in said]


def test_something_something_without_clips_is_told_with_what_fetches_them(something):
    folder = something / "20bn-something-something-v2"
    folder.rename(something / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"there is no {folder}"):
        read_something_something(something)


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_every_division_asks_for_its_own_lists(ucf101, hmdb51, fold):
    if fold != 2:
        with pytest.raises(FileNotFoundError, match=rf"trainlist0{fold}.txt"):
            read_ucf101(ucf101, fold)
    if fold != 3:
        with pytest.raises(FileNotFoundError, match=rf"_test_split{fold}.txt"):
            read_hmdb51(hmdb51, fold)


def test_the_same_seed_holds_out_the_same_whatever_is_missing(ucf101):
    found = read_ucf101(ucf101, fold=2)
    for path, _ in found.splits["train"][::3]:
        path.unlink()
    assert read_ucf101(ucf101, fold=2) == found
    kept = ListedSource(VideoData(root=str(ucf101), missing="skip"), lambda: found).folder
    assert kept.splits["val"] == found.splits["val"]
    assert len(kept.splits["train"]) == 64 - 22


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lists_of_windows_and_names_with_spaces_are_read(ucf101, hmdb51, something, mark, end):
    def read():
        return read_ucf101(ucf101, 2), read_hmdb51(hmdb51, 3), read_something_something(something)

    clean = read()
    for pattern in ("*list02.txt", "*_split3.txt", "*.json"):
        for table in ucf101.rglob(pattern):  # the three fixtures share a folder
            table.write_bytes(mark + table.read_text().replace("\n", end).encode())
    assert read() == clean
    train = ucf101 / "ucfTrainTestlist" / "trainlist02.txt"
    train.write_text(train.read_text() + "\nArchery/v_Archery_g99 a_c01.avi 1\n")
    names = [path.name for samples in read_ucf101(ucf101, 2).splits.values() for path, _ in samples]
    assert "v_Archery_g99 a_c01.avi" in names
