"""Bad annotations: each is named, left out if asked, and the rest is whole."""

from __future__ import annotations

import io
import json
import struct

import pytest
from PIL import Image

from eyetoy_image.dense.annotations import BadAnnotationsError
from eyetoy_image.detection import Detection
from eyetoy_image.detection.check import check
from eyetoy_image.detection.datasets.coco import read_coco
from eyetoy_image.detection.datasets.findings import find_bad, without

GOOD = {
    "id": 50,
    "image_id": 1,
    "category_id": 3,
    "bbox": [5, 4, 10, 20],
    "area": 200,
    "segmentation": [[5, 4, 15, 4, 15, 24, 5, 24]],
}
BAD = [
    ("unknown picture", {"image_id": 99}, "no picture has the id 99"),
    ("unknown class", {"category_id": 5}, "no class has the id 5"),
    ("broken box", {"bbox": [5, 4, 10]}, "must be x, y, width and height"),
    ("broken box", {"bbox": [5, 4, 10, float("nan")]}, "must be x, y, width and height"),
    ("zero area", {"bbox": [5, 4, 0, 20]}, "0 wide and 20 high"),
    ("zero area", {"segmentation": {"size": [30, 40], "counts": [1200]}}, "no pixels"),
    ("box outside", {"bbox": [35, 4, 10, 20]}, "leaves the picture of 40 x 30"),
    ("box outside", {"bbox": [-3, 4, 10, 20]}, "leaves the picture of 40 x 30"),
    ("box outside", {"bbox": [5, 14, 10, 20]}, "leaves the picture of 40 x 30"),
    ("broken polygon", {"segmentation": [[5, 4, 15, 4]]}, "three points or more; got 4 numbers"),
    ("broken polygon", {"segmentation": [[5, 4, 15, 4, 15, 24, 5]]}, "got 7 numbers"),
    ("broken polygon", {"segmentation": [[5, 4, 15, 4, 15, "x"]]}, "finite numbers alone; got 'x'"),
    ("mask of another size", {"segmentation": {"size": [40, 30], "counts": [600, 600]}}, "[40, 30]"),
    ("broken mask", {"segmentation": {"size": [30, 40], "counts": [600, 700]}}, "add up to the picture's 1200 pixels"),
    ("broken mask", {"segmentation": {"size": [30, 40], "counts": "0"}}, "add up to the picture's 1200 pixels"),
    ("broken mask", {"segmentation": {"size": [30, 40], "counts": "P"}}, "end in the middle of a number"),
    ("broken mask", {"segmentation": None}, "must be a list of polygons or run lengths; got None"),
]


def read(root, split="val"):
    return read_coco(root / "annotations" / f"instances_{split}.json", root / split)


@pytest.mark.parametrize(("kind", "change", "why"), BAD)
def test_each_is_found_and_named_and_nothing_else(write_tree, kind, change, why):
    coco = read(write_tree(annotations=[GOOD, GOOD | {"id": 51} | change]))
    (finding,) = find_bad(coco, coco.categories, with_masks=True)
    assert finding.kind == kind
    assert str(finding).startswith(f"{kind}: ")
    assert "annotation 51: " in str(finding)
    assert why in str(finding)
    kept = without(coco, [finding])
    assert [one.content["id"] for picture in kept.pictures for one in picture.annotations] == [50]


@pytest.mark.parametrize(
    "polygons",
    [
        [[5, 4, 15, 4, 15, 4]],  # a line
        [[5, 4, 15, 14, 10, 9]],  # across
        [[-8, 5, 5, -8, -8, -8]],  # beside a corner
        [[5, 4, 5.3, 4, 5.3, 24, 5, 24]],  # between the middles of two pixels
        [[50, 4, 60, 4, 60, 24, 50, 24], [5, -9, 15, -9, 15, -2]],  # off the picture
    ],
)
def test_polygons_without_a_pixel_are_found(write_tree, polygons):
    coco = read(write_tree(annotations=[GOOD | {"segmentation": polygons}]))
    (finding,) = find_bad(coco, coco.categories, with_masks=True)
    assert (finding.kind, finding.why) == ("zero area", "its mask has no pixels")
    assert find_bad(coco, coco.categories, with_masks=False) == []


def test_a_thin_polygon_with_pixels_is_none_of_them(write_tree):
    polygons = [[5, 4, 15, 4, 15, 4.9, 5, 4.9], [50, 4, 60, 4, 60, 24]]
    coco = read(write_tree(annotations=[GOOD | {"segmentation": polygons}]))
    assert find_bad(coco, coco.categories, with_masks=True) == []


def test_boxes_alone_need_no_masks(write_tree):
    coco = read(write_tree(annotations=[GOOD | {"segmentation": None}]))
    assert find_bad(coco, coco.categories, with_masks=False) == []


def test_a_box_may_leave_its_picture_by_the_rounding_of_a_tool(write_tree):
    coco = read(write_tree(annotations=[GOOD | {"bbox": [30, 10, 10.7, 20.9]}]))
    assert find_bad(coco, coco.categories, with_masks=True) == []


@pytest.fixture
def damaged(write_tree):
    """A set with every bad annotation, a file that is missing, one that is broken and one of another size."""
    bad = [GOOD | {"id": 100 + place} | change for place, (_, change, _) in enumerate(BAD)]
    root = write_tree(annotations=[GOOD, *bad, GOOD | {"id": 51, "image_id": 4, "bbox": [0, 0, 9, 9]}])
    (root / "train" / "two.jpg").unlink()
    (root / "val" / "two.jpg").write_bytes(b"no picture")
    Image.new("RGB", (21, 20)).save(root / "val" / "four.png")
    return root


def test_they_stop_a_run_before_its_first_step(recipe_of, damaged):
    with pytest.raises(BadAnnotationsError, match=r"1 missing file, 1 unknown picture, 1 unknown class, 2 broken box"):
        Detection(recipe_of(damaged)).prepare()


def test_or_they_are_left_out_and_counted_once(recipe_of, damaged, capsys):
    task = Detection(recipe_of(damaged, bad_annotations="skip"))
    task.prepare()
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if line.startswith("left out: ")]) == 2  # of train and of val
    assert "3 pictures, 19 annotations; wrong: 1 missing file, 1 unknown picture, 1 unknown class, " in said[0]
    assert "2 broken box, 2 zero area, 3 box outside, 3 broken polygon, " in said[0]
    assert said[0].endswith("1 mask of another size, 4 broken mask")
    assert [picture.id for picture in task.dataset("train").pictures] == [1, 4]
    task.dataset("val")
    assert capsys.readouterr().out == ""


def test_the_check_names_each_and_writes_a_clean_file(damaged, tmp_path, capsys):
    arguments = ["--data.source", "folder", "--data.root", str(damaged)]
    assert check([*arguments, "--split", "val", "--output", str(tmp_path / "clean")]) == 1
    said = capsys.readouterr().out
    for place, (kind, _, why) in enumerate(BAD):
        (line,) = [line for line in said.splitlines() if f"annotation {100 + place}: " in line]
        assert line.startswith(kind)
        assert why in line
    assert f"broken file: {damaged / 'val' / 'two.jpg'}" in said
    assert "it is 21 x 20 pixels, and 20 x 20 in the annotations" in said
    content = json.loads((tmp_path / "clean" / "instances_val.json").read_text())
    assert [entry["id"] for entry in content["images"]] == [1]
    assert [entry["id"] for entry in content["annotations"]] == [50]
    assert content["info"] == {"year": 2017}
    clean = [*arguments, "--data.annotations", json.dumps({"val": str(tmp_path / "clean" / "instances_val.json")})]
    assert check([*clean, "--split", "val"]) == 0


def test_the_check_says_what_it_cannot_check(tmp_path, capsys):
    with pytest.raises(SystemExit, match="^2$"):
        check(["--data.source", "folder", "--data.root", str(tmp_path / "nowhere")])
    assert "nowhere" in capsys.readouterr().err


def test_the_check_does_not_write_over_what_it_reads(tree, capsys):
    arguments = ["--data.source", "folder", "--data.root", str(tree), "--output", str(tree / "annotations")]
    before = (tree / "annotations" / "instances_val.json").read_bytes()
    with pytest.raises(SystemExit, match="^2$"):
        check(arguments)
    assert "would overwrite" in capsys.readouterr().err
    assert (tree / "annotations" / "instances_val.json").read_bytes() == before


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("is_upright", [True, False])
def test_one_rule_for_turned_pictures_in_the_check_and_in_a_run(write_tree, recipe_of, capsys, suffix, is_upright):
    name = f"portrait.{suffix}"
    size = {"width": 30, "height": 40} if is_upright else {"width": 40, "height": 30}
    root = write_tree(images=[{"id": 1, "file_name": name, **size}], annotations=[GOOD])
    exif = Image.Exif()
    exif[0x0112] = 6  # a phone held upright: 40 x 30 pixels are stored, and shown as 30 x 40
    for split in ("train", "val"):
        Image.new("RGB", (40, 30)).save(root / split / name, exif=exif)
    arguments = ["--data.source", "folder", "--data.root", str(root)]
    if is_upright:
        assert check(arguments) == 0
        assert Detection(recipe_of(root)).dataset("val")[0]["image"].shape == (3, 40, 30)
        return
    assert check(arguments) == 1
    said = "it is 30 x 40 pixels once turned by its EXIF orientation, and 40 x 30 in the annotations; annotations must"
    assert said in capsys.readouterr().out
    with pytest.raises(BadAnnotationsError, match=said):
        Detection(recipe_of(root)).prepare()


def test_a_png_with_its_orientation_behind_its_pixels_is_turned(tree):
    path = tree / "val" / "one.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = io.BytesIO()
    Image.new("RGB", (30, 40)).save(whole, "png", exif=exif)
    chunks, place = [], 8
    while place < len(whole.getvalue()):
        (length,) = struct.unpack(">I", whole.getvalue()[place : place + 4])
        chunks.append(whole.getvalue()[place : place + 12 + length])
        place += 12 + length
    assert [chunk[4:8] for chunk in chunks] == [b"IHDR", b"eXIf", b"IDAT", b"IEND"]
    path.write_bytes(whole.getvalue()[:8] + b"".join(chunks[place] for place in (0, 2, 1, 3)))
    coco = read(tree)
    for open_files in (True, False):
        assert find_bad(coco, coco.categories, with_masks=True, open_files=open_files) == []
