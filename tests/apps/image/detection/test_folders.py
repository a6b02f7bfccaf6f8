"""PASCAL VOC's and YOLO's format: what is read of each, what is left out, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from eyetoy_image.dense.annotations import BadAnnotationsError
from eyetoy_image.detection import Detection, DetectionData
from eyetoy_image.detection.check import check
from eyetoy_image.detection.datasets import DATASETS

WIDTH, HEIGHT = 40, 30
CAT, CUP = [4, 3, 20, 10], [0, 0, 40, 30]
"""Boxes as x, y, width and height."""


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(path)


def voc_object(name: str, box: list, difficult: int | str = 0) -> str:
    x, y, width, height = box
    sides = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
    tags = "".join(f"<{side}>{value}</{side}>" for side, value in sides.items())
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{tags}</bndbox></object>"


def write_xml(path: Path, *objects: str, filename: str = "", head: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    path.write_text(f"{head}<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>")


def write_voc(root: Path) -> Path:
    """The layout of PASCAL VOC's archives, with its label maps of the same names."""
    for number in range(6):
        write_picture(root / "JPEGImages" / f"{number}.jpg")
        write_picture(root / "SegmentationClass" / f"{number}.png")
        write_xml(root / "Annotations" / f"{number}.xml", voc_object("cup", CUP), voc_object("cat", CAT))
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n2\n")
    (lists / "val.txt").write_text("3\n4\n")
    return root


def write_plain_voc(root: Path) -> Path:
    """XML files beside their pictures."""
    for number in range(10):
        write_picture(root / f"{number}.jpg")
        write_xml(root / f"{number}.xml", voc_object("cup", CUP), voc_object("cat", CAT))
    return root


def write_two_folders(root: Path) -> Path:
    """XML files in one folder, pictures in another."""
    for number in range(10):
        write_picture(root / "images" / f"{number}.jpg")
        write_xml(root / "annotations" / f"{number}.xml", voc_object("cup", CUP), voc_object("cat", CAT))
    return root


def yolo_line(label: int, box: list) -> str:
    x, y, width, height = box
    return f"{label} {(x + width / 2) / WIDTH} {(y + height / 2) / HEIGHT} {width / WIDTH} {height / HEIGHT}"


def write_yolo(root: Path, images: str = "images/{}", labels: str = "labels/{}", val: str = "val") -> Path:
    for split in ("train", val):
        for number in range(3):
            write_picture(root / images.format(split) / f"{number}.jpg")
            path = root / labels.format(split) / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{yolo_line(1, CUP)}\n{yolo_line(0, CAT)}\n")
    (root / "data.yaml").write_text("train: ../train/images\nnames: [cat, cup]\nnc: 2\n")
    return root


def write_roboflow(root: Path) -> Path:
    return write_yolo(root, "{}/images", "{}/labels", val="valid")


def write_flat_yolo(root: Path) -> Path:
    """Text files beside their pictures, and the file of classes that labelImg writes there."""
    for number in range(10):
        write_picture(root / f"{number}.jpg")
        (root / f"{number}.txt").write_text(f"{yolo_line(1, CUP)}\n{yolo_line(0, CAT)}\n")
    (root / "classes.txt").write_text("cat\ncup\n")
    return root


LAYOUTS = {
    write_voc: {"train": 3, "val": 2, "test": None},
    write_plain_voc: {"train": 7, "val": 1, "test": 2},
    write_two_folders: {"train": 7, "val": 1, "test": 2},
    write_yolo: {"train": 3, "val": 3, "test": None},
    write_roboflow: {"train": 3, "val": 3, "test": None},
    write_flat_yolo: {"train": 7, "val": 1, "test": 2},
}


def source_of(root: Path, **data: object):
    return DATASETS.open(DetectionData(root=str(root), **data), 0)


def described(source) -> str:
    """The line that a run and the check say about a set."""
    source.prepare()
    splits = {split: source.split(split) for split in ("train", "val", "test")}
    return source.inventory({split: len(coco.pictures) for split, coco in splits.items() if coco}).describe()


def boxes(coco) -> dict:
    """The boxes of a split by picture and class."""
    names = {category.id: category.name for category in coco.categories}
    return {
        picture.path.name: {names[one.content["category_id"]]: one.content["bbox"] for one in picture.annotations}
        for picture in coco.pictures
    }


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_every_layout_has_the_same_boxes_and_classes(write, tmp_path):
    source = source_of(write(tmp_path / "set"))
    said = described(source)
    assert list(source.classes) == ["cat", "cup"]
    for split, count in LAYOUTS[write].items():
        coco = source.split(split)
        assert (coco and len(coco.pictures)) == count
        for found in boxes(coco).values() if coco else ():
            assert found == {"cat": pytest.approx(CAT), "cup": pytest.approx(CUP)}
    assert ("PASCAL VOC's" if "voc" in write.__name__ or write is write_two_folders else "YOLO's") in said
    assert f"samples: train {LAYOUTS[write]['train']}" in said
    assert f"boxes: train {2 * LAYOUTS[write]['train']}" in said
    assert ("val 1 (held out)" in said) == (LAYOUTS[write]["val"] == 1)


def test_what_is_held_out_depends_on_the_seed_and_on_names_alone(tmp_path):
    names = {}
    for place, seed in (("one", 0), ("other", 0), ("other", 1)):
        root = tmp_path / place / "set"
        source = DATASETS.open(DetectionData(root=str(root if root.exists() else write_plain_voc(root))), seed)
        parts = [{picture.path.name for picture in source.split(split).pictures} for split in ("train", "val", "test")]
        assert len(set.union(*parts)) == sum(map(len, parts)) == 10
        names[place, seed] = parts
    assert names["one", 0] == names["other", 0] != names["other", 1]


def test_annotations_may_lie_among_the_images_of_their_split(write_tree):
    """As Roboflow exports COCO's format."""
    root = write_tree(splits=("train", "val"))
    plain = {split: boxes(source_of(root).split(split)) for split in ("train", "val")}
    for split, folder in (("train", "train"), ("val", "valid")):
        (root / split).rename(root / folder)
        (root / "annotations" / f"instances_{split}.json").rename(root / folder / "_annotations.coco.json")
    (root / "annotations").rmdir()
    source = source_of(root)
    said = described(source)
    assert {split: boxes(source.split(split)) for split in ("train", "val")} == plain
    assert "COCO's format" in said
    assert "left out" not in said
    (root / "train" / "notes.txt").write_text("")
    assert "left out: 1 files of other types" in described(source_of(root))


def test_annotations_of_another_name_are_told_how_to_be_named(write_tree):
    """As CVAT exports COCO's format."""
    root = write_tree(splits=("train",))
    (root / "annotations" / "instances_train.json").rename(root / "annotations" / "instances_default.json")
    (root / "images").mkdir()
    (root / "train").rename(root / "images" / "default")
    with pytest.raises(FileNotFoundError, match=r"--data.annotations '\{train: FILE\}'"):
        source_of(root).prepare()
    named = {"annotations": {"train": "annotations/instances_default.json"}, "pictures": {"train": "images/default"}}
    assert len(source_of(root, **named).split("train").pictures) == 2


def test_a_coco_set_without_validation_holds_some_out(write_tree):
    root = write_tree(splits=("train",))
    source = source_of(root)
    assert "val 1 (held out)" in described(source)
    assert {split: len(source.split(split).pictures) for split in ("train", "val")} == {"train": 2, "val": 1}
    assert source.split("test") is None


def test_difficult_objects_are_neither_learned_nor_scored(tmp_path, capsys, recipe_of, boxes_alone):
    root = write_voc(tmp_path / "set")
    for path in root.glob("Annotations/*.xml"):
        write_xml(path, voc_object("cat", CAT), voc_object("cup", CUP, difficult=1))
    task = Detection(recipe_of(root, detector=boxes_alone))
    task.prepare()
    assert "5 objects are marked difficult: neither learned nor scored" in capsys.readouterr().err
    assert task.dataset("train")[0]["target"]["labels"].tolist() == [1]
    assert [one["iscrowd"] for one in task.dataset("val")[0]["truth"]["annotations"]] == [0, 1]


@pytest.mark.parametrize("said", ["", "0", "0.0", "False", "no", "Unspecified", "1", " 1.0 ", "TRUE", "Yes"])
def test_difficult_is_said_in_several_words(tmp_path, said):
    root = write_plain_voc(tmp_path / "set")
    for path in root.glob("*.xml"):
        write_xml(path, voc_object("cat", CAT, difficult=said))
    is_difficult = said.strip().lower() in ("1", "1.0", "true", "yes")
    source = source_of(root)
    assert ("10 objects are marked difficult" in described(source)) == is_difficult
    found = [one for picture in source.split("train").pictures for one in picture.annotations]
    assert [one.is_crowd for one in found] == [is_difficult] * 7


@pytest.mark.parametrize("said", ["2", "maybe", "-1", "nan"])
def test_another_word_about_being_difficult_is_a_bad_annotation(tmp_path, said, capsys):
    root = write_plain_voc(tmp_path / "set")
    write_xml(root / "0.xml", voc_object("cup", CUP), voc_object("cat", CAT, difficult=said))
    assert check(["--data.source", "folder", "--data.root", str(root)]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "difficult" in line]
    place = f"{root / '0.jpg'}: annotation 2 of 0.xml"
    assert line == f"broken box: {place}: its difficult must be 0 or 1; got {said!r}"


@pytest.mark.parametrize(("ends", "box"), [((0, 0, 20, 10), [0, 0, 20, 10]), ((21, 11, 40, 30), [20, 10, 20, 20])])
def test_pixels_count_from_1_and_tools_that_count_from_0_are_read(tmp_path, ends, box):
    root = write_plain_voc(tmp_path / "set")
    tags = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), ends, strict=True))
    for path in root.glob("*.xml"):
        write_xml(path, f"<object><name>cat</name><bndbox>{tags}</bndbox></object>")
    assert {tuple(found["cat"]) for found in boxes(source_of(root).split("train")).values()} == {tuple(box)}


def spoil_xml(content: str):
    return lambda root: (root / "Annotations" / "1.xml").write_text(content)


def objects_of(*objects: str):
    return lambda root: write_xml(root / "Annotations" / "1.xml", *objects)


def one_line(line: str):
    return lambda root: (root / "labels" / "train" / "1.txt").write_text(line)


DOCTYPE = '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'
FAULTS = [
    (write_voc, spoil_xml("no xml"), "broken annotation file", "is no XML file"),
    (write_voc, spoil_xml(DOCTYPE), "broken annotation file", "has a document type"),
    (write_voc, lambda root: (root / "Annotations" / "1.xml").unlink(), "broken annotation file", "No such file"),
    (write_voc, lambda root: (root / "JPEGImages" / "1.jpg").write_bytes(b""), "broken file", "cannot identify"),
    (write_voc, objects_of("<object><name>cat</name></object>"), "broken box", "must have four numbers"),
    (write_voc, objects_of(voc_object("cat", [4, 4, 1, 1])), "zero area", "0 wide and 0.0 high"),
    (write_voc, objects_of(voc_object("cat", [4, 4, 40, 9])), "box outside", "leaves the picture of 40 x 30"),
    (write_yolo, one_line("0 260 140 30 40"), "broken box", "from 0 to 1; got 260"),
    (write_yolo, one_line("0 0.5 0.5 0.1"), "broken box", "got 4 numbers"),
    (write_yolo, one_line("cat 0.5 0.5 0.1 0.1"), "broken box", "numbers alone; got 'cat"),
    (write_yolo, one_line("0 0.5 0.5 nan 0.1"), "broken box", "got nan"),
    (write_yolo, one_line("0.5 0.5 0.5 0.1 0.1"), "broken box", "a whole number from 0 on; got 0.5"),
    (write_yolo, one_line("2 0.5 0.5 0.1 0.1"), "unknown class", "no class has the id 2"),
    (write_yolo, one_line("0 0.5 0.5 0 0.1"), "zero area", "0.0 wide"),
    (write_yolo, one_line("0 0.9 0.5 0.4 0.1"), "box outside", "leaves the picture of 40 x 30"),
    (
        write_yolo,
        lambda root: (root / "labels/train/1.txt").write_bytes(b"\xff\xfe0"),
        "broken annotation file",
        "1.txt",
    ),
    (write_yolo, lambda root: (root / "images/train/1.jpg").write_bytes(b""), "broken annotation file", "as a picture"),
]


@pytest.fixture
def boxes_alone(small_detector):
    return dataclasses.replace(small_detector, kind="auto")


@pytest.mark.parametrize(("write", "spoil", "kind", "why"), FAULTS, ids=[f"{f[2]}-{f[3][:12]}" for f in FAULTS])
def test_a_fault_is_named_or_left_out(tmp_path, recipe_of, boxes_alone, capsys, write, spoil, kind, why):
    root = write(tmp_path / "set")
    spoil(root)
    with pytest.raises(BadAnnotationsError) as error:
        Detection(recipe_of(root, detector=boxes_alone)).prepare()
    assert f"train of {root}: 3 pictures" in str(error.value)
    assert f"wrong: 1 {kind}:\n{kind}: " in str(error.value)
    assert why in str(error.value)
    task = Detection(recipe_of(root, detector=boxes_alone, bad_annotations="skip"))
    task.prepare()
    assert f"wrong: 1 {kind}" in capsys.readouterr().out
    assert {picture.path.stem for picture in task.dataset("train").pictures} == {"0", "2"}


def test_a_class_that_training_has_not_is_named(tmp_path, recipe_of, boxes_alone):
    root = write_voc(tmp_path / "set")
    write_xml(root / "Annotations" / "3.xml", voc_object("dog", CAT))
    with pytest.raises(BadAnnotationsError, match="no class has the id 'dog'"):
        Detection(recipe_of(root, detector=boxes_alone)).prepare()


def in_two_lists(root: Path) -> None:
    (root / "ImageSets" / "Main" / "val.txt").write_text("2\n3\n")


def no_labels(root: Path) -> None:
    for path in (root / "labels" / "val").iterdir():
        path.unlink()


def settings(text: str):
    return lambda root: (root / "data.yaml").write_text(text)


def write_yolo_of_years(root: Path) -> Path:
    """Folders as COCO's archives have them."""
    return write_yolo(root, "images/{}2017", "labels/{}2017")


def no_settings(root: Path) -> None:
    (root / "data.yaml").unlink()


def other_val(root: Path) -> None:
    for kind in ("images", "labels"):
        (root / kind / "val").rename(root / kind / "val2017")


def voc_of_sets(root: Path) -> None:
    for number in range(10):
        folder = root / ("train_set" if number < 7 else "val_set")
        folder.mkdir(exist_ok=True)
        for path in (root / f"{number}.jpg", root / f"{number}.xml"):
            path.rename(folder / path.name)


REFUSED = [
    (write_yolo_of_years, no_settings, "look like splits and are not called so: train2017, val2017"),
    (write_yolo, other_val, "look like splits and are not called so: val2017"),
    (write_plain_voc, voc_of_sets, "look like splits and are not called so: train_set, val_set"),
    (
        write_yolo_of_years,
        settings("train: train2017.txt\nval: val2017.txt\nnames: [cat, cup]\n"),
        "train: train2017.txt",
    ),
    (write_yolo_of_years, settings("train: images/train2017\nval: images/val\nnames: [cat, cup]\n"), "val: images/val"),
    (write_yolo_of_years, settings("train: [images/train2017]\nnames: [cat, cup]\n"), "these are no folders there"),
    (write_yolo, settings("kpt_shape: 17\nnames: [cat, cup]\n"), "must be two whole numbers, such as .*; got 17"),
    (write_voc, in_two_lists, "has 2 in the lists of train and of val"),
    (write_voc, write_yolo, "--data.format voc or --data.format yolo"),
    (write_yolo, no_labels, "none of the 3 val pictures .* should be labels/val/0.txt"),
    (write_yolo, settings("names: [cat, cup]\nnc: 3\n"), "says nc: 3, and has 2 names"),
    (write_yolo, settings("names: {1: cat, 2: cup}\n"), "must be numbered from 0 on; got"),
    (write_yolo, settings("names: 7\n"), "must be a list of names; got 7"),
    (write_yolo, settings("names: [cat, cat]\n"), "has the class cat twice"),
    (write_yolo, settings("train: images/train\nval: images/train\nnames: [cat, cup]\n"), "must differ"),
    (write_yolo, lambda root: (root / "classes.txt").write_text("cup\ncat\n"), "name other classes"),
    (write_flat_yolo, lambda root: (root / "classes.txt").write_text("cat\n\ncup\n"), "its line 2 is an empty line"),
    (write_yolo, lambda root: (root / "b.yaml").write_text("names: [a]"), "both name classes"),
]


@pytest.mark.parametrize(("write", "spoil", "why"), REFUSED, ids=[why[:20] for *_, why in REFUSED])
def test_what_contradicts_itself_is_refused(tmp_path, write, spoil, why):
    root = write(tmp_path / "set")
    spoil(root)
    with pytest.raises(ValueError, match=why):
        source_of(root).prepare()


def test_the_format_is_the_one_that_is_asked_for(tmp_path):
    root = write_yolo(write_voc(tmp_path / "set"))
    assert len(source_of(root, format="voc").split("val").pictures) == 2
    assert len(source_of(root, format="yolo").split("val").pictures) == 3


def test_a_folder_without_annotations_says_what_it_should_have(tmp_path):
    write_picture(tmp_path / "none" / "1.jpg")
    with pytest.raises(FileNotFoundError, match="has no annotations: there is no annotations/instances_train.json"):
        source_of(tmp_path / "none").prepare()
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        source_of(tmp_path / "nowhere").prepare()


def test_lists_count_also_where_they_are_in_an_inner_folder(tmp_path):
    write_voc(tmp_path / "above" / "inner")
    assert len(source_of(tmp_path / "above").split("val").pictures) == 2


def test_pictures_and_files_that_are_left_out_are_counted(tmp_path):
    voc = write_plain_voc(tmp_path / "voc")
    write_picture(voc / "unlabelled.jpg")
    assert "left out: 1 pictures without an XML file" in described(source_of(voc))
    yolo = write_yolo(tmp_path / "yolo")
    (yolo / "labels" / "train" / "0.txt").unlink()
    (yolo / "labels" / "train" / "stray.txt").write_text("")
    source = source_of(yolo)
    said = described(source)
    assert "left out: 1 label files without a picture" in said
    assert "1 pictures have no label file, and count as pictures without objects" in said
    assert [len(picture.annotations) for picture in source.split("train").pictures] == [0, 2, 2]


def test_yolos_polygons_are_masks(tmp_path, recipe_of, boxes_alone):
    root = write_yolo(tmp_path / "set")
    for path in root.glob("labels/*/*.txt"):
        path.write_text("0 0.25 0.5 0.5 0.5 0.5 0.8 0.25 0.8\n")
    task = Detection(recipe_of(root, detector=boxes_alone, short_side=30))
    task.prepare()
    assert task.with_masks
    task.data.augmentation.short_sides, task.data.augmentation.flip = [30], 0.0
    target = task.dataset("train")[0]["target"]
    assert target["boxes"].tolist() == [pytest.approx([10, 15, 20, 24])]
    assert int(target["masks"].sum()) == 10 * 9


def test_lists_of_pictures_are_not_taken_for_folders(tmp_path):
    """The pictures of a list may lie in the folder of another split."""
    root = write_yolo(tmp_path / "set")
    (root / "val.txt").write_text("images/train/0.png\n")
    (root / "data.yaml").write_text("train: images/train\nval: val.txt\nnames: [cat, cup]\n")
    with pytest.raises(ValueError, match=r"names a list of pictures, val: val.txt, and lists are not read; put the"):
        source_of(root).split("train")
    (root / "data.yaml").write_text("train: images/train\nval: [/elsewhere/val.txt]\nnames: [cat, cup]\n")
    with pytest.raises(ValueError, match=r"names a list of pictures, val: \['/elsewhere/val.txt'\], and lists are not"):
        source_of(root).split("train")
    (root / "data.yaml").write_text("train: images/train\ntest: test.txt\nnames: [cat, cup]\n")
    assert "data.yaml names test: test.txt, which is no folder there" in described(source_of(root))


def test_a_written_set_can_be_scored_by_pycocotools(tmp_path):
    root = write_yolo(tmp_path / "set")
    arguments = ["--data.source", "folder", "--data.root", str(root), "--output", str(tmp_path / "clean")]
    check([*arguments, "--detector.kind", "faster_rcnn"])
    for file in (tmp_path / "clean").glob("*.json"):
        for one in json.loads(file.read_text())["annotations"]:
            assert one["area"] == pytest.approx(one["bbox"][2] * one["bbox"][3])


def test_a_file_of_several_splits_is_written_whole(write_tree, tmp_path, capsys):
    root = write_tree(splits=("train",))
    arguments = ["--data.source", "folder", "--data.root", str(root), "--output", str(tmp_path / "clean")]
    with pytest.raises(SystemExit):
        check([*arguments, "--split", "train"])
    assert (
        "--output writes instances_train.json with all of its splits; leave out --split train"
        in capsys.readouterr().err
    )


def test_a_test_that_is_not_there_takes_nothing_from_the_other_splits(tmp_path):
    root = write_yolo_of_years(tmp_path / "set")
    settings("train: images/train2017\nval: images/val2017\ntest: images/test2017\nnames: [cat, cup]\n")(root)
    source = source_of(root)
    assert "data.yaml names test: images/test2017, which is no folder there" in described(source)
    assert [path.parent.name for path in (p.path for p in source.split("val").pictures)] == ["val2017"] * 3


@pytest.mark.parametrize("shape", [(2, 2), (2, 3)])
def test_keypoints_are_no_polygons(tmp_path, shape):
    root = write_yolo(tmp_path / "set")
    points = ["0.45 0.45 1", "0.55 0.55 2"] if shape[1] == 3 else ["0.45 0.45", "0.55 0.55"]
    for path in root.glob("labels/*/*.txt"):
        path.write_text(f"0 0.5 0.5 0.4 0.2 {' '.join(points)}\n1 0.5 0.5 0.4 0.2\n1 0.1 0.1 0.2 0.2 0.3 0.3\n")
    settings(f"names: [cat, cup]\nkpt_shape: {list(shape)}\n")(root)
    source = source_of(root)
    assert "keypoints are left out" in described(source)
    first, second, third = source.split("train").pictures[0].annotations
    expected = pytest.approx([0.3 * WIDTH, 0.4 * HEIGHT, 0.4 * WIDTH, 0.2 * HEIGHT])
    assert first.content["bbox"] == second.content["bbox"] == expected
    assert "segmentation" not in first.content
    assert f"the {shape[0] * shape[1]} numbers of its keypoints; got 7 numbers" in third.fault


@pytest.mark.parametrize("write", [write_voc, write_yolo], ids=lambda write: write.__name__)
def test_the_check_writes_the_set_in_cocos_format(tmp_path, capsys, write):
    root = write(tmp_path / "set")
    (objects_of(voc_object("cat", [4, 4, 1, 1])) if write is write_voc else one_line("0 0.5 0.5 0 0.1"))(root)
    clean = tmp_path / "clean"
    assert check(["--data.source", "folder", "--data.root", str(root), "--output", str(clean)]) == 1
    said = capsys.readouterr().out
    assert said.count("no annotation has a mask, so boxes alone are checked") == 1
    files = {split: str(clean / f"instances_{split}.json") for split in ("train", "val")}
    again = source_of(root, annotations=files, pictures={"train": ".", "val": "."})
    for split in files:
        expected = boxes(source_of(root).split(split))
        if split == "train":
            expected["1.jpg"] = {}
        assert boxes(again.split(split)) == expected
    assert check(["--data.source", "folder", "--data.root", str(root), "--data.annotations", json.dumps(files),
                  "--data.pictures", '{"train": ".", "val": "."}']) == 0  # fmt: skip


def test_videos_are_held_out_whole_by_names_or_by_a_key_of_the_images(tmp_path):
    root = tmp_path / "set"
    for number in range(12):
        write_picture(root / f"v{number // 3}_{number % 3}.jpg")
        write_xml(root / f"v{number // 3}_{number % 3}.xml", voc_object("cup", CUP), voc_object("cat", CAT))
    source = source_of(root, group_pattern="^(v.)_")
    counts = {"train": 6, "val": 3, "test": 3}
    parts = [{picture.path.name[:2] for picture in source.split(split).pictures} for split in counts]
    assert [len(source.split(split).pictures) for split in counts] == [6, 3, 3]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 4
    with pytest.raises(ValueError, match=r"^data.group_column=video is for COCO's format, and .* PASCAL VOC's format"):
        source_of(root, group_column="video").prepare()
    images = [
        {"id": number, "file_name": f"v{number // 3}_{number % 3}.jpg", "width": WIDTH, "height": HEIGHT}
        | ({"video": number % 4} if number else {})
        for number in range(12)
    ]
    boxes_of = [{"id": n, "image_id": n, "category_id": 1, "bbox": CAT, "area": 200, "iscrowd": 0} for n in range(12)]
    content = {"images": images, "annotations": boxes_of, "categories": [{"id": 1, "name": "cat"}]}
    (root / "train").mkdir()
    (root / "annotations").mkdir()
    path = root / "annotations" / "instances_train.json"
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"^the column video of the images of .* is empty for 1 of 12 samples: train/v0"
    ):
        source_of(root, format="coco", group_column="video").prepare()
    images[0]["video"] = 0
    path.write_text(json.dumps(content))
    source = source_of(root, format="coco", group_column="video")
    videos = [{picture.group for picture in source.split(split).pictures} for split in ("train", "val")]
    assert sorted(map(len, videos)) == [1, 3]
    assert not videos[0] & videos[1]
