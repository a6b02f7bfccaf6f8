"""Bad label maps: each is named, left out if asked, and counted."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from eyetoy_image.dense.annotations import BadAnnotationsError
from eyetoy_image.segmentation import Segmentation
from eyetoy_image.segmentation.check import check
from eyetoy_image.segmentation.datasets.label_maps import read_values


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
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "ignored" not in line]
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


def test_masks_of_0_and_255_are_refused_with_the_option_that_reads_them(binary, recipe_of, capsys):
    told = r"values 0 and 255 alone, and 255 is ignored.* data.values: \[0, 255\]"
    for choice in ("refuse", "skip"):
        with pytest.raises(BadAnnotationsError, match=told):
            Segmentation(recipe_of(binary, bad_annotations=choice)).prepare()
    arguments = ["--data.source", "folder", "--data.root", str(binary)]
    assert check(arguments) == 1
    assert re.search(told, capsys.readouterr().out)
    assert check([*arguments, "--data.values", "[0, 255]"]) == 0
    assert "ignored" not in capsys.readouterr().out


def test_a_split_of_ignored_values_alone_is_refused_before_the_first_step(tree, recipe_of):
    for path in tree.glob("maps/val/*.png"):
        Image.fromarray(np.full((30, 40), 255, dtype=np.uint8)).save(path)
    with pytest.raises(BadAnnotationsError, match=r"val of .*: the label maps have ignored values alone \(255\)"):
        Segmentation(recipe_of(tree)).prepare()


def test_maps_whose_other_class_is_ignored_are_refused(tree, recipe_of):
    for path in (tree / "maps").rglob("*.png"):
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(path)
    (tree / "classes.txt").unlink(missing_ok=True)
    Segmentation(recipe_of(tree)).prepare()
    with pytest.raises(BadAnnotationsError, match="values 0 and 1 alone, and 0 is ignored: there is no second class"):
        Segmentation(recipe_of(tree, ignored=[0])).prepare()


@pytest.mark.parametrize("named", [True, False])
def test_values_that_are_not_consecutive_are_classes_in_their_order(binary, recipe_of, named):
    if not named:
        (binary / "classes.txt").unlink()
    task = Segmentation(recipe_of(binary, values=[255, 0]))
    task.prepare()
    assert list(task.classes) == (["ground", "rust"] if named else ["255", "0"])
    assert task.dataset("val")[0]["labels"][0, [0, -1]].tolist() == [1, 0]


def test_values_need_one_for_each_name(binary, recipe_of):
    with pytest.raises(ValueError, match=r"for each of the 2 classes .* got \[0, 128, 255\]"):
        Segmentation(recipe_of(binary, values=[0, 128, 255])).prepare()
    with pytest.raises(ValueError, match=r"data.values must be distinct values from 0 to 255"):
        recipe_of(binary, values=[7, 7])


def test_void_on_every_map_is_one_line_with_the_option_that_ignores_it(tree, repaint, recipe_of, capsys):
    repaint(0, 1, 2, 7)
    arguments = ["--data.source", "folder", "--data.root", str(tree), "--split", "train"]
    assert check(arguments) == 1
    said = f"train of {tree}: value 7 in 3 maps (25.0% of the pixels) is no class; where that means no label, add "
    assert capsys.readouterr().out.splitlines()[2:] == [f"{said}--data.ignored '[7, 255]'"]
    assert check([*arguments, "--all"]) == 1
    assert capsys.readouterr().out.count("unknown value: ") == 3
    with pytest.raises(BadAnnotationsError) as error:
        Segmentation(recipe_of(tree)).prepare()
    assert said in str(error.value)
    assert check([*arguments, "--data.ignored", "[7, 255]"]) == 0


def test_many_unknown_values_are_not_taken_for_void(tree, repaint, capsys):
    repaint(*range(8))
    assert check(["--data.source", "folder", "--data.root", str(tree), "--split", "train"]) == 1
    assert "--data.ignored" in capsys.readouterr().out  # 3 to 7
    repaint(*range(10))
    assert check(["--data.source", "folder", "--data.root", str(tree), "--split", "train"]) == 1
    said = capsys.readouterr().out
    assert "--data.ignored" not in said
    assert said.count("unknown value: ") == 3


def test_ignored_values_and_their_share_are_logged(tree, recipe_of, capsys):
    Segmentation(recipe_of(tree)).prepare()
    line = "train of {}: 25.0% of the pixels are ignored, those of value 255"
    assert line.format(tree) in capsys.readouterr().out
    check(["--data.source", "folder", "--data.root", str(tree), "--data.ignored", "[255, 2, 9]"])
    assert f"train of {tree}: 50.0% of the pixels are ignored, those of value 2, 255" in capsys.readouterr().out


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_maps_of_few_bits_have_the_values_that_were_stored(tmp_path, bits):
    values = np.arange(16, dtype=np.uint8).reshape(2, 8) % 2**bits
    packed = np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(2, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in packed)  # 0: the row is stored as it is
    header = struct.pack(">IIBBBBB", 8, 2, bits, 0, 0, 0, 0)
    written = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + header, b"IDAT" + zlib.compress(rows), b"IEND"):
        written += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "map.png").write_bytes(written)
    assert read_values(tmp_path / "map.png").tolist() == values.tolist()
