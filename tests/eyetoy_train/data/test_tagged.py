"""Tables of files with any number of labels: the forms that are read, and those that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.tagged import read_tables


def make(root: Path, *files: str, **tables: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    for name, text in tables.items():
        (root / f"{name}.csv").write_text(text)
    return root


def labels(root: Path, split: str = "train", **options) -> dict[str, tuple[str, ...]]:
    found = read_tables(root, [".png"], **options)
    names = {path.relative_to(root if root.is_dir() else root.parent): label for path, label in found.splits[split]}
    return {path.as_posix(): tuple(found.classes[number] for number in label) for path, label in names.items()}


FILES = ("a.png", "b.png", "deep/c.png")
VAL = "file,labels\nv.png,cat\n"
EXPECTED = {"a.png": ("cat", "hot dog"), "b.png": (), "deep/c.png": ("cat",)}
SPACED = {"a.png": ("cat", "dog"), "b.png": (), "deep/c.png": ("cat",)}


@pytest.mark.parametrize(
    ("table", "options", "expected"),
    [
        ("file,labels\na.png,cat;hot dog\nb.png,\ndeep/c.png,cat\n", {}, EXPECTED),
        ("Labels,Filename\nhot dog | cat |cat,a.png\n,b.png\ncat,c.png\n", {}, EXPECTED),
        ("image_id,tags\na,cat;hot dog\nb,\ndeep/c,cat\n", {}, EXPECTED),
        ("image_id,cat,hot dog\na,1,1\nb,0,0\nc,1.0,0.0\n", {}, EXPECTED),
        ("image_id,labels\na,cat dog\nb,\nc,cat\n", {"separator": "space"}, SPACED),
        ('file,labels\na.png,"dog, cat"\nb.png,\nc.png,cat\n', {"separator": "comma"}, SPACED),
    ],
)
def test_usual_tables_are_read(table, options, expected, tmp_path):
    make(tmp_path, *FILES, labels=table)
    found = read_tables(tmp_path / "labels.csv", [".png"], **options)
    together = {}
    for split in ("train", "val", "test"):
        assert len(found.splits[split]) == 1  # held out of three
        together |= labels(tmp_path, split, **options)
    assert together == expected
    assert found == read_tables(tmp_path, [".png"], **options)
    assert found.describe().endswith("samples: train 1, val 1 (held out), test 1 (held out)")


def test_one_label_with_spaces_needs_the_separator_that_it_is_without(tmp_path):
    make(tmp_path, *FILES, "v.png", train="file,label\na.png,hot dog\nb.png,cat\nc.png,cat\n", val=VAL)
    with pytest.raises(ValueError, match=r"^'hot dog' in .*train.csv is one label or several; tell by"):
        read_tables(tmp_path, [".png"])
    assert labels(tmp_path, separator="semicolon")["a.png"] == ("hot dog",)
    assert labels(tmp_path, separator="space")["a.png"] == ("dog", "hot")
    make(tmp_path, val="file,labels\nv.png,bird\n")
    with pytest.raises(ValueError, match="v.png of the val split has the label 'bird', which is not one of the 2"):
        read_tables(tmp_path, [".png"], separator="semicolon")


def test_splits_and_what_is_left_out(tmp_path):
    make(tmp_path, *FILES, "v.png", "e.png", train="file,labels\na.png,cat\nb.png,dog\nc.png,\nd.png,cat\n", val=VAL)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"1 of 4 files of the train split are not in .*\nd.png"):
        read_tables(tmp_path, [".png"])
    found = read_tables(tmp_path, [".png"], missing="skip")
    assert found.describe() == (
        "2 classes; samples: train 3, val 1; left out: 1 files of other types, 1 files without a row, 1 missing files"
    )


AMBIGUOUS = {
    "file,labels\na.png,cat;dog\nb.png,cat|dog\n": "are separated by ; and by |",
    "file,labels,width\na.png,cat,3\n": "has the column labels and others (width)",
    "file,image,labels\na.png,a.png,cat\n": "should have one column that names the files",
    "pictures,labels\na.png,cat\n": "should have one column that names the files",
    "file\na.png\n": "has no column of labels beside file",
    "file,labels\na.png,cat\na.png,dog\n": "row 3 of .* names a.png a second time",
    "file,labels\na.png,cat\na,dog\n": "row 3 of .* names a a second time",
    "file,cat,dog\na.png,1,0\nb.png,2,0\n": "row 3 of .* has '2' in the column cat, which should be 0 or 1",
    "file,labels\na.png,cat\nb.png\n": "row 3 of .* has more or fewer values",
    "file,labels\na.png,cat\nb.png,x,y\n": "row 3 of .* has more or fewer values",
    "file,labels\n": "has no rows",
    "file,cat,dog,cat\na.png,1,0,0\n": "has the column cat twice",
    "file,labels\ntwice.png,cat\n": "twice.png in .* may be deep/twice.png, other/twice.png",
}


@pytest.mark.parametrize("table", AMBIGUOUS)
def test_what_can_be_understood_in_two_ways_or_none_is_refused(table, tmp_path):
    make(tmp_path, *FILES, "deep/twice.png", "other/twice.png", labels=table)
    expected = AMBIGUOUS[table].replace("|", r"\|").replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=expected):
        read_tables(tmp_path, [".png"])


def test_tables_of_other_forms_and_several_without_a_split_are_refused(tmp_path):
    make(tmp_path, *FILES, "v.png", train="file,cat,dog\na.png,1,0\n", val=VAL)
    with pytest.raises(ValueError, match=r"val.csv and .*train.csv have other columns: labels, and cat, dog"):
        read_tables(tmp_path, [".png"])
    make(tmp_path, val="file,dog,cat\nv.png,1,0\n")
    assert labels(tmp_path, "val") == {"v.png": ("dog",)}
    with pytest.raises(ValueError, match=r"data.label_separator=space is for a column of labels"):
        read_tables(tmp_path, [".png"], separator="space")
    (tmp_path / "train.csv").rename(tmp_path / "one.csv")
    (tmp_path / "val.csv").rename(tmp_path / "two.csv")
    with pytest.raises(ValueError, match=r"has the tables one.csv, two.csv; call the one for training train.csv"):
        read_tables(tmp_path, [".png"])
    with pytest.raises(FileNotFoundError, match="has no table of files and labels"):
        read_tables(tmp_path / "deep", [".png"])


def test_classes_are_listed_with_or_without_a_byte_order_mark(tmp_path):
    make(tmp_path, *FILES, "v.png", train="file,labels\na.png,cat;dog\nb.png,dog\nc.png,\n", val=VAL)
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "classes.txt").write_text("dog\n\ncat\n", encoding=encoding)
        assert read_tables(tmp_path, [".png"]).classes == ("dog", "cat")


def test_columns_of_labels_come_in_the_order_of_the_list(tmp_path):
    make(
        tmp_path,
        *FILES,
        "v.png",
        train="file,cat,dog\na.png,1,0\nb.png,0,1\nc.png,0,0\n",
        val="file,cat,dog\nv.png,1,0\n",
    )
    assert read_tables(tmp_path, [".png"]).classes == ("cat", "dog")
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    assert read_tables(tmp_path, [".png"]).classes == ("dog", "cat")
    assert labels(tmp_path, "val") == {"v.png": ("cat",)}
    (tmp_path / "classes.txt").write_text("dog\nhorse\ncat\n")
    with pytest.raises(ValueError, match=r"classes.txt and the columns of the tables differ in horse"):
        read_tables(tmp_path, [".png"])


def test_files_that_are_only_scored_are_not_held_out_and_need_no_groups(tmp_path):
    make(tmp_path, *FILES, "v.png", all="file,labels\na.png,cat\nb.png,dog\ndeep/c.png,\n")
    for grouping in (None, Grouping(column="who"), Grouping("^(nobody)$")):
        for root in (tmp_path, tmp_path / "all.csv"):
            found = read_tables(root, [".png"], grouping=grouping, hold_out=False)
            assert (found.classes, found.sources) == (("cat", "dog"), {"test": "all files"})
            assert [label for _, label in found.splits["test"]] == [(0,), (1,), ()]
    (tmp_path / "all.csv").write_text("file,cat,who\na.png,1,me\n")
    assert read_tables(tmp_path, [".png"], grouping=Grouping(column="who"), hold_out=False).classes == ("cat",)
    (tmp_path / "all.csv").rename(tmp_path / "test.csv")
    make(tmp_path, val="file,cat,who\nb.png,0,\n")
    found = read_tables(tmp_path, [".png"], grouping=Grouping(column="who"), hold_out=False)
    assert {split: len(files) for split, files in found.splits.items()} == {"val": 1, "test": 1}
    assert not found.sources


def test_patients_of_a_table_are_held_out_whole(tmp_path):
    names = [f"p{number // 3}_{number % 3}.png" for number in range(18)]
    rows = "\n".join(f"{name},{'ab'[place % 2]},{name[:2]}" for place, name in enumerate(names))
    root = make(tmp_path, *names, all=f"file,labels,who\n{rows}")
    make(tmp_path, pairs="file,labels\n" + "\n".join(row[: row.rindex(",")] for row in rows.split("\n")))
    for table, grouping in (("all", Grouping(column="who")), ("pairs", Grouping("^(..)_"))):
        found = read_tables(root / f"{table}.csv", [".png"], grouping=grouping)
        assert found.classes == ("a", "b")
        parts = [{path.name[:2] for path, _ in found.splits[split]} for split in ("train", "val", "test")]
        assert [len(found.splits[split]) for split in ("train", "val", "test")] == [12, 3, 3]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 6
        assert found.groups[tmp_path / "p3_1.png"] == "p3"
    with pytest.raises(ValueError, match=r"has no column 'whom', which data.group_column names; it has file, lab"):
        read_tables(root / "all.csv", [".png"], grouping=Grouping(column="whom"))
    (tmp_path / "all.csv").write_text(f"file,labels,who\n{rows.replace(',p5', ',', 1)}")
    with pytest.raises(ValueError, match=r"^the column who of .* is empty for 1 of 18 samples: .*p5_0.png"):
        read_tables(root / "all.csv", [".png"], grouping=Grouping(column="who"))
