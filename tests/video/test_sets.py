"""Sets of videos in their true layouts, small and really encoded, and what is told where they are not whole."""

from __future__ import annotations

import json

import pytest

from eyetoy_train import ClassFolder
from eyetoy_video.files import read_clips
from eyetoy_video.recipe import VideoData
from eyetoy_video.sampling import ClipSampling
from eyetoy_video.sets import list_clips, missing_files, without_missing
from eyetoy_video.sets.hmdb51 import read_hmdb51
from eyetoy_video.sets.kinetics import read_kinetics
from eyetoy_video.sets.listing import hold_out
from eyetoy_video.sets.lists import read_lists, write_lists
from eyetoy_video.sets.something_something import read_something_something
from eyetoy_video.sets.ucf101 import read_ucf101

HEAD = "label,youtube_id,time_start,time_end,split"


def counts(found: ClassFolder) -> dict[str, int]:
    return {split: len(samples) for split, samples in found.splits.items()}


def check_disjoint(found: ClassFolder) -> None:
    paths = [path for samples in found.splits.values() for path, _ in samples]
    assert len(paths) == len(set(paths))


def check_read(found: ClassFolder) -> None:
    """All clips are there and can be read; no clip is in two splits."""
    check_disjoint(found)
    assert not any(missing_files([path for path, _ in samples]) for samples in found.splits.values())
    for samples in found.splits.values():
        assert read_clips(samples[0][0], ClipSampling(2)).shape == (2, 3, 64, 96)


@pytest.fixture
def kinetics(tmp_path, copies):
    """The official lists, and clips as CVDF's archives hold them."""
    root = tmp_path / "k400"
    clips = {"train": 30, "val": 4, "test": 2}
    (root / "annotations").mkdir(parents=True)
    for split, count in clips.items():
        rows = [HEAD]
        for number in range(count):
            label, name = ("riding a bike", "abseiling")[number % 2], f"-{split}_{number:06d}"
            rows.append(f"{label},{name},{number},{number + 10},{split}")
            copies(root / split / f"part_{number % 3}" / f"{name}_{number:06d}_{number + 10:06d}.mp4")
        (root / "annotations" / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return root


def test_kinetics_is_read_by_its_official_lists(kinetics):
    found = read_kinetics(kinetics)
    assert found.classes == ("abseiling", "riding a bike")
    assert counts(found) == {"train": 30, "val": 4, "test": 2}
    for split, samples in found.splits.items():
        for number, (path, label) in enumerate(samples):
            assert path.name == f"-{split}_{number:06d}_{number:06d}_{number + 10:06d}.mp4"
            assert label == 1 - number % 2
    check_read(found)


def test_lists_of_kinetics_may_lie_beside_the_clips_and_be_called_validate(kinetics, copies):
    for table in (kinetics / "annotations").iterdir():
        table.rename(kinetics / table.name)
    (kinetics / "val.csv").rename(kinetics / "validate.csv")
    (kinetics / "val").rename(kinetics / "validation")
    unlabelled = (kinetics / "test.csv").read_text().splitlines()
    (kinetics / "test.csv").write_text("\n".join(line.partition(",")[2] for line in unlabelled))
    replaced = kinetics / "replacement" / "all" / "-train_000000_000000_000010.mp4"
    copies(replaced)
    found = read_kinetics(kinetics)
    assert counts(found) == {"train": 30, "val": 4}, "a list without labels is no test"
    assert found.splits["train"][0][0] == replaced
    check_read(found)


def test_a_tenth_of_kinetics_is_held_out_where_there_is_no_validation(kinetics):
    (kinetics / "annotations" / "val.csv").unlink()
    found = read_kinetics(kinetics)
    assert counts(found) == {"train": 26, "val": 4, "test": 2}, "two of fifteen in each class"
    assert read_kinetics(kinetics) == found != read_kinetics(kinetics, seed=1)
    check_read(found)


def test_kinetics_is_read_as_torchvision_arranges_it(tmp_path, copies):
    for split, count in (("train", 10), ("val", 2), ("test", 1)):
        for name in ("abseiling", "riding_a_bike"):
            copies(*(tmp_path / split / name / f"{number}.mp4" for number in range(count)))
    found = read_kinetics(tmp_path)
    assert found.classes == ("abseiling", "riding_a_bike")
    assert counts(found) == {"train": 20, "val": 4, "test": 2}
    check_read(found)


@pytest.mark.parametrize("separator", [" ", ",", ", ", "\t"])
def test_kinetics_is_read_by_lists_of_paths_and_labels(tmp_path, copies, separator):
    copies(*(tmp_path / "my clips" / f"a,{number}.mp4" for number in range(6)))
    for split, numbers in (("train", (0, 1, 2)), ("val", (3,)), ("test", (4, 5))):
        lines = [f"my clips/a,{number}.mp4{separator}{number % 3}" for number in numbers]
        (tmp_path / f"{split}.csv").write_text("\n".join([*lines, ""]))
    found = read_kinetics(tmp_path)
    assert found.classes == ("0", "1", "2")
    assert [label for _, label in found.splits["test"]] == [1, 2]
    check_read(found)


def test_lists_take_a_prefix_names_of_classes_and_absolute_paths(tmp_path, copies):
    elsewhere = tmp_path / "elsewhere"
    copies(*(elsewhere / f"{number}.mp4" for number in range(20)), tmp_path / "other.mp4")
    lists = tmp_path / "lists"
    lists.mkdir()
    rows = [f"{number}.mp4 {number % 2}" for number in range(20)]
    (lists / "train.csv").write_text("\n".join([*rows, f"{tmp_path / 'other.mp4'} 1"]))
    (lists / "classes.txt").write_text("walking a dog\nwaving\n")
    found = read_lists(lists, prefix=str(elsewhere))
    assert found.classes == ("walking a dog", "waving")
    assert counts(found) == {"train": 19, "val": 2}
    check_read(found)


def test_labels_in_lists_may_be_names_and_a_single_list_is_for_training(tmp_path, copies):
    copies(*(tmp_path / f"{number}.mp4" for number in range(12)))
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(f"{number}.mp4,{('wave', 'clap')[number % 2]}" for number in range(12)))
    found = read_lists(table)
    assert found.classes == ("clap", "wave")
    assert counts(found) == {"train": 10, "val": 2}
    check_read(found)


def test_lists_that_are_written_are_read_back(kinetics, tmp_path):
    found = read_kinetics(kinetics)
    write_lists(tmp_path / "clean", found)
    assert read_lists(tmp_path / "clean") == found
    one = ClassFolder(found.classes, {"val": found.splits["val"]})
    write_lists(tmp_path / "one" / "val.csv", one)
    lines = (tmp_path / "one" / "val.csv").read_text().splitlines()
    assert lines == [f"{path} {label}" for path, label in found.splits["val"]]
    with pytest.raises(ValueError, match=r"all.csv is one list, and there are train, val, test"):
        write_lists(tmp_path / "all.csv", found)


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ("a.mp4", "b.mp4 0", "train.csv, line 1 should be a path and a label.*'a.mp4'"),
        ("a.mp4 0\n\nb.mp4", "b.mp4 0", "train.csv, line 3 should be.*'b.mp4'"),
        ("a.mp4 0", "b.mp4 1", "val.csv has classes that the training set has not: 1"),
        ("a.mp4 wave", "b.mp4 clap", "val.csv has classes that the training set has not: clap"),
    ],
)
def test_wrong_lists_are_refused_in_words(tmp_path, train, val, message):
    (tmp_path / "train.csv").write_text(train)
    (tmp_path / "val.csv").write_text(val)
    with pytest.raises(ValueError, match=message):
        read_lists(tmp_path)


def test_official_lists_without_a_column_are_refused(kinetics):
    table = kinetics / "annotations" / "val.csv"
    table.write_text("label,youtube_id,time_end,split\nabseiling,x,10,val\n")
    with pytest.raises(ValueError, match=r"val.csv should have the columns label, youtube_id.*it lacks time_start"):
        read_kinetics(kinetics)


@pytest.mark.parametrize("missing", ["refuse", "skip"])
def test_missing_clips_are_counted_and_named(kinetics, missing, capsys):
    lost = sorted((kinetics / "train" / "part_1").iterdir())
    for path in lost:
        path.unlink()
    (kinetics / "val" / "part_0" / "-val_000000_000000_000010.mp4").unlink()
    found = read_kinetics(kinetics)
    assert counts(found) == {"train": 30, "val": 4, "test": 2}
    if missing == "refuse":
        with pytest.raises(FileNotFoundError) as raised:
            without_missing(found, kinetics, missing)
        said = str(raised.value)
        assert said.endswith("--data.missing skip leaves them out")
    else:
        assert counts(without_missing(found, kinetics, missing)) == {"train": 20, "val": 3, "test": 2}
        said = capsys.readouterr().out
        assert said.startswith("left out: ")
    assert f"10 of 30 in train: {kinetics / 'train' / lost[0].name}" in said
    assert "and 5 more" in said
    assert f"1 of 4 in val: {kinetics / 'val' / '-val_000000_000000_000010.mp4'}\n" in f"{said}\n"
    assert "in test" not in said


def test_a_split_of_which_nothing_is_there_is_refused(kinetics):
    for path in (kinetics / "val").rglob("*.mp4"):
        path.unlink()
    with pytest.raises(ValueError, match="'val'"):
        without_missing(read_kinetics(kinetics), kinetics, "skip")


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


def test_something_something_is_read_without_its_test(something):
    found = read_something_something(something)
    assert found.classes == ("Folding something", "Holding something next to something", "Showing nothing")
    assert [label for _, label in found.splits["train"]] == [1, 0, 2]
    assert [path.name for path, _ in found.splits["val"]] == ["1003.webm", "1004.mp4", "1005.webm"]
    assert counts(found) == {"train": 3, "val": 3}
    check_read(found)


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


def test_ucf101_is_split_by_its_lists_and_no_group_is_in_two_splits(ucf101):
    found = read_ucf101(ucf101, fold=2)
    assert found.classes == ("Archery", "HandstandPushups")
    assert counts(found) == {"train": 64, "val": 8, "test": 28}
    groups = {split: {(label, path.stem[-7:-4]) for path, label in samples} for split, samples in found.splits.items()}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 50
    assert {group for _, group in groups["test"]} == {f"g{number:02d}" for number in range(8, 15)}
    assert read_ucf101(ucf101, fold=2) == found != read_ucf101(ucf101, fold=2, seed=1)
    check_read(found)


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


def test_hmdb51_is_split_by_its_marks_and_no_film_is_in_training_and_validation(hmdb51):
    found = read_hmdb51(hmdb51, fold=3)
    assert found.classes == ("brush_hair", "wave")
    assert counts(found) == {"train": 36, "val": 12, "test": 24}
    films = {
        split: {(label, next(film for film in FILMS if path.name.startswith(film))) for path, label in samples}
        for split, samples in found.splits.items()
    }
    assert not films["train"] & films["val"]
    assert len(films["train"]) == 6
    check_read(found)


def test_hold_out_takes_whole_groups_of_every_class_and_never_all():
    samples = [(f"{label}/{group}/{clip}", label) for label, groups in ((0, 10), (1, 1)) for group in range(groups)
               for clip in range(4)]  # fmt: skip
    train, val = hold_out(samples, lambda path: path.split("/")[1], 0)
    assert sorted(train + val) == sorted(samples)
    assert [label for _, label in val] == [0] * 4
    assert len({path.split("/")[1] for path, _ in val}) == 1


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
        list_clips(VideoData(source=source, root=str(root)), 0)
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
    kept = without_missing(found, ucf101, "skip")
    assert kept.splits["val"] == found.splits["val"]
    assert len(kept.splits["train"]) == 64 - 22
