"""Kinetics in its three layouts, lists of paths and labels, and clips that are not there."""

from __future__ import annotations

import os

import pytest

from eyetoy_train import ClassFolder
from eyetoy_video.datasets.kinetics import read_kinetics
from eyetoy_video.datasets.lists import read_lists, write_lists
from eyetoy_video.datasets.source import ListedSource
from eyetoy_video.recipe import VideoData

HEAD = "label,youtube_id,time_start,time_end,split"


def counts(found: ClassFolder) -> dict[str, int]:
    return {split: len(samples) for split, samples in found.splits.items()}


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


def test_kinetics_is_read_by_its_official_lists(kinetics, check_read):
    found = read_kinetics(kinetics)
    assert found.classes == ("abseiling", "riding a bike")
    assert check_read(found) == {"train": 30, "val": 4, "test": 2}
    for split, samples in found.splits.items():
        for number, (path, label) in enumerate(samples):
            assert path.name == f"-{split}_{number:06d}_{number:06d}_{number + 10:06d}.mp4"
            assert label == 1 - number % 2


def test_lists_of_kinetics_may_lie_beside_the_clips_and_be_called_validate(kinetics, copies, check_read):
    for table in (kinetics / "annotations").iterdir():
        table.rename(kinetics / table.name)
    (kinetics / "val.csv").rename(kinetics / "Validate.csv")
    (kinetics / "val").rename(kinetics / "VALIDATION")
    unlabelled = (kinetics / "test.csv").read_text().splitlines()
    (kinetics / "test.csv").write_text("\n".join(line.partition(",")[2] for line in unlabelled))
    replaced = kinetics / "replacement" / "all" / "-train_000000_000000_000010.mp4"
    copies(replaced)
    found = read_kinetics(kinetics)
    assert check_read(found) == {"train": 30, "val": 4}, "a list without labels is no test"
    assert found.splits["train"][0][0] == replaced


def test_a_tenth_of_kinetics_is_held_out_where_there_is_no_validation(kinetics, check_read):
    (kinetics / "annotations" / "val.csv").unlink()
    found = read_kinetics(kinetics)
    assert check_read(found) == {"train": 26, "val": 4, "test": 2}, "two of fifteen in each class"
    assert read_kinetics(kinetics) == found != read_kinetics(kinetics, seed=1)


def test_kinetics_is_read_as_torchvision_arranges_it(tmp_path, copies, check_read):
    for split, count in (("train", 10), ("val", 2), ("test", 1)):
        for name in ("abseiling", "riding_a_bike"):
            copies(*(tmp_path / split / name / f"{number}.mp4" for number in range(count)))
    found = read_kinetics(tmp_path)
    assert found.classes == ("abseiling", "riding_a_bike")
    assert check_read(found) == {"train": 20, "val": 4, "test": 2}


@pytest.mark.parametrize("separator", [" ", ",", ", ", "\t"])
def test_kinetics_is_read_by_lists_of_paths_and_labels(tmp_path, copies, separator, check_read):
    copies(*(tmp_path / "my clips" / f"a,{number}.mp4" for number in range(6)))
    for split, numbers in (("train", (0, 1, 2)), ("val", (3,)), ("test", (4, 5))):
        lines = [f"my clips/a,{number}.mp4{separator}{number % 3}" for number in numbers]
        (tmp_path / f"{split}.csv").write_text("\n".join([*lines, ""]))
    found = read_kinetics(tmp_path)
    assert found.classes == ("0", "1", "2")
    assert [label for _, label in found.splits["test"]] == [1, 2]
    assert check_read(found) == {"train": 3, "val": 1, "test": 2}


def test_lists_take_a_prefix_names_of_classes_and_absolute_paths(tmp_path, copies, check_read):
    elsewhere = tmp_path / "elsewhere"
    copies(*(elsewhere / f"{number}.mp4" for number in range(20)), tmp_path / "other.mp4")
    lists = tmp_path / "lists"
    lists.mkdir()
    rows = [f"{number}.mp4 {number % 2}" for number in range(20)]
    (lists / "train.csv").write_text("\n".join([*rows, f"{tmp_path / 'other.mp4'} 1"]))
    (lists / "classes.txt").write_text("walking a dog\nwaving\n")
    found = read_lists(lists, prefix=str(elsewhere))
    assert found.classes == ("walking a dog", "waving")
    assert check_read(found) == {"train": 19, "val": 2}


def test_labels_in_lists_may_be_names_and_a_single_list_is_for_training(tmp_path, copies, check_read):
    copies(*(tmp_path / f"{number}.mp4" for number in range(12)))
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(f"{number}.mp4,{('wave', 'clap')[number % 2]}" for number in range(12)))
    found = read_lists(table)
    assert found.classes == ("clap", "wave")
    assert check_read(found) == {"train": 10, "val": 2}


def test_lists_that_are_written_are_read_back(kinetics, tmp_path):
    found = read_kinetics(kinetics)
    write_lists(tmp_path / "clean", found, kinetics)
    assert read_lists(tmp_path / "clean") == found
    one = ClassFolder(found.classes, {"val": found.splits["val"]})
    write_lists(tmp_path / "one" / "val.csv", one, kinetics)
    lines = (tmp_path / "one" / "val.csv").read_text().splitlines()
    assert lines == [f"{path} {label}" for path, label in found.splits["val"]]
    with pytest.raises(ValueError, match=r"all.csv is one list, and there are train, val, test"):
        write_lists(tmp_path / "all.csv", found, kinetics)


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
    with pytest.raises(ValueError, match=r"val.csv should have the columns label, youtube_id.*and lacks time_start"):
        read_kinetics(kinetics)


def present(found, root, missing):
    return ListedSource(VideoData(root=str(root), missing=missing), lambda: found).folder


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
            present(found, kinetics, missing)
        said = str(raised.value)
        assert said.endswith("data.missing: skip leaves them out")
    else:
        assert counts(present(found, kinetics, missing)) == {"train": 20, "val": 3, "test": 2}
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
        present(read_kinetics(kinetics), kinetics, "skip")


def test_two_lists_of_one_split_are_refused_by_name(tmp_path):
    for name in ("train", "Training"):
        (tmp_path / f"{name}.csv").write_text("a.mp4 0\n")
    with pytest.raises(ValueError, match=r"train and Training, which both name the train split"):
        read_lists(tmp_path)


# A line, the path that it means, and its label.
LINES = """\
a.mp4,riding a bike  =>  a.mp4  :  riding a bike
my clips/a, b.MP4 , riding a bike   =>  my clips/a, b.MP4  :  riding a bike
my clips/a, b.mp4 3  =>  my clips/a, b.mp4  :  3
my clips/a, b.mp4,3  =>  my clips/a, b.mp4  :  3
"a.mp4","run"  =>  a.mp4  :  run
"a, b.mp4",run  =>  a, b.mp4  :  run
a.mp4,"run, jump"  =>  a.mp4  :  run, jump
"a b.mp4" 3  =>  a b.mp4  :  3
"""


@pytest.mark.parametrize("row", LINES.splitlines())
@pytest.mark.parametrize("header", ["", "path,label\n", "Video class\n"])
def test_lines_of_lists_as_spreadsheets_and_people_write_them(tmp_path, row, header):
    line, meant = row.split("  =>  ")
    path, label = meant.split("  :  ")
    for name in ("train", "val"):
        (tmp_path / f"{name}.csv").write_text(f"{header}{line}\n")
    found = read_lists(tmp_path)
    assert [file for file, _ in found.splits["train"]] == [tmp_path / path]
    assert found.classes[-1] == label


def test_times_of_kinetics_may_be_written_with_a_point(kinetics, check_read):
    clean = read_kinetics(kinetics)
    table = kinetics / "annotations" / "train.csv"
    lines = table.read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    table.write_text("\n".join([lines[0], *(f"{a},{b},{c}.0,{d}.0,{e}" for a, b, c, d, e in rows)]))
    assert read_kinetics(kinetics) == clean
    table.write_text(f"{lines[0]}\nrun,abc,soon,20,train\n")
    with pytest.raises(ValueError, match=r"train.csv has a clip whose times are not seconds: run, abc, soon"):
        read_kinetics(kinetics)


@pytest.mark.parametrize("name", ["{}_{:06d}_{:06d}", "{}_{}_{}"])
@pytest.mark.parametrize("folder", ["train", "clips", "videos/all", "."])
def test_clips_of_kinetics_lie_where_tools_put_them(tmp_path, copies, folder, name, check_read):
    lines = [f"{('run', 'jump')[i % 2]},id{i},{10 * i}.0,{10 * i + 10}.0" for i in range(6)]
    for split, chosen in (("train", lines[:4]), ("val", lines[4:])):
        table = "\n".join(["label,youtube_id,time_start,time_end", *chosen, ""])
        (tmp_path / f"{split}.csv").write_text(table)
    copies(*(tmp_path / folder / f"{name.format(f'id{i}', 10 * i, 10 * i + 10)}.mp4" for i in range(6)))
    assert check_read(read_kinetics(tmp_path)) == {"train": 4, "val": 2}


def test_a_clip_of_the_own_split_comes_before_others_of_its_name(kinetics, copies):
    copies(kinetics / "aside" / "-val_000000_000000_000010.mp4", kinetics / "zzz" / "-val_000000_000000_000010.mp4")
    first = read_kinetics(kinetics).splits["val"][0][0]
    assert first == kinetics / "val" / "part_0" / "-val_000000_000000_000010.mp4"


# How tables are written by other programs: each keeps the meaning.
WRITTEN = {
    "with a mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "by Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "with spaces": lambda text: text.replace(",", ", ").encode(),
    "in quotes": lambda text: "".join(
        ",".join(f'"{value}"' for value in line.split(",")) + "\n" for line in text.splitlines()
    ).encode(),
    "with empty lines": lambda text: text.replace("\n", "\n\n").encode(),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_official_lists_are_read_however_they_are_written(kinetics, written):
    clean = read_kinetics(kinetics)
    for table in (kinetics / "annotations").iterdir():
        table.write_bytes(WRITTEN[written](table.read_text()))
    assert read_kinetics(kinetics) == clean


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("classes", ["", "walking\nwaving\n"])
def test_lists_are_read_however_they_are_written(tmp_path, written, classes):
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_bytes(WRITTEN[written]("a b.mp4,0\nc.mp4,1\n"))
    if classes:
        (tmp_path / "classes.txt").write_bytes(WRITTEN["with a mark"](classes))
    found = read_lists(tmp_path)
    assert found.splits["train"] == ((tmp_path / "a b.mp4", 0), (tmp_path / "c.mp4", 1))
    assert found.classes == (("walking", "waving") if classes else ("0", "1"))


def test_an_empty_line_among_the_names_of_numbered_classes_is_refused(tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text("a.mp4,0\nb.mp4,1\n")
    (tmp_path / "classes.txt").write_text("walking\n\nwaving\n\n")
    with pytest.raises(ValueError, match="classes.txt should name .* has an empty line before its last name"):
        read_lists(tmp_path)
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text("a.mp4,walking\nb.mp4,waving\n")
    assert read_lists(tmp_path).classes == ("walking", "waving")


ODD = [os.fsdecode(b"caf\xe9"), "a\u2028b", "a\x85b", "$5_%", "שלום 🐱", "a, b"]


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_names_in_lists_are_read_back(tmp_path, name):
    found = ClassFolder((name, "other"), dict.fromkeys(("train", "val"), ((tmp_path / name / "a.mp4", 0),)))
    write_lists(tmp_path / "lists", found, tmp_path)
    assert read_lists(tmp_path / "lists") == found
    before = (tmp_path / "lists" / "train.csv").read_bytes()
    for root in (tmp_path / "lists", tmp_path / "lists" / "train.csv"):  # what was read stays as it is
        with pytest.raises(ValueError, match=r"--output would overwrite .*lists.classes.txt; give another folder"):
            write_lists(tmp_path / "lists", ClassFolder(("a",), {"train": ()}), root)
    assert (tmp_path / "lists" / "train.csv").read_bytes() == before


def test_a_name_with_a_line_break_is_in_no_list(tmp_path):
    found = ClassFolder(("a\nb",), {"train": ((tmp_path / "a.mp4", 0),)})
    with pytest.raises(ValueError, match=r"a\\nb has a line break, which a list cannot hold"):
        write_lists(tmp_path / "lists", found, tmp_path)
