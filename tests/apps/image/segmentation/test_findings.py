"""Bad label maps: each is named, left out if asked, and counted."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from eyetoy_image.dense.annotations import BadAnnotationsError
from eyetoy_image.segmentation import Segmentation
from eyetoy_image.segmentation.check import check


def small(path):
    Image.new("L", (39, 30)).save(path)


def unknown(path):
    values = np.zeros((30, 40), dtype=np.uint8)
    values[:2, :3] = 7
    Image.fromarray(values).save(path)


BAD = [
    ("missing map", lambda path: path.unlink(), "it is not there"),
    ("broken map", lambda path: path.write_bytes(b"no picture"), "cannot identify"),
    ("colour map", lambda path: Image.new("RGB", (40, 30)).save(path), "its pixels are RGB"),
    ("map of another size", small, "39 x 30 pixels, and its picture 40 x 30"),
    ("unknown value", unknown, "6 pixels have values such as 7"),
]
each = pytest.mark.parametrize(("kind", "spoil", "why"), BAD, ids=[kind for kind, *_ in BAD])


@each
def test_it_stops_a_run_before_its_first_step(tree, recipe_of, kind, spoil, why):
    spoil(tree / "maps" / "val" / "1.png")
    with pytest.raises(BadAnnotationsError) as error:
        Segmentation(recipe_of(tree)).prepare()
    assert f"wrong: 1 {kind}:\n" in str(error.value)
    assert f"{kind}: {tree / 'maps' / 'val' / '1.png'}: " in str(error.value)
    assert why in str(error.value)


@each
def test_or_it_is_left_out_and_counted_once(tree, recipe_of, capsys, kind, spoil, why):
    spoil(tree / "maps" / "train" / "1.png")
    task = Segmentation(recipe_of(tree, bad_annotations="skip"))
    task.prepare()
    assert [picture.path.stem for picture in task.dataset("train").pictures] == ["0", "2"]
    assert len(task.dataset("val")) == 3
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(f"train of {tree}: 3 pictures; wrong: 1 {kind}")


def test_pictures_that_are_missing_or_broken_are_named(tree, recipe_of):
    (tree / "images" / "train" / "0.jpg").unlink()
    (tree / "images" / "train" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(BadAnnotationsError, match=r"wrong: 1 missing picture, 1 broken picture"):
        Segmentation(recipe_of(tree)).prepare()


def test_the_check_names_each_and_looks_into_pictures(tree, capsys):
    arguments = ["--data.source", "folder", "--data.root", str(tree)]
    assert check(arguments) == 0
    unknown(tree / "maps" / "train" / "2.png")
    picture = tree / "images" / "val" / "0.jpg"
    picture.write_bytes(picture.read_bytes()[:-20])  # its head is whole
    assert check(arguments) == 1
    said = capsys.readouterr().out
    assert f"unknown value: {tree / 'maps' / 'train' / '2.png'}" in said
    assert f"broken picture: {picture}" in said
    with pytest.raises(SystemExit, match="^2$"):
        check([*arguments, "--split", "test"])
    assert "has no split test" in capsys.readouterr().err
