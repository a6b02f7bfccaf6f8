"""COCO's format: what is read of it, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from eyetoy_image.dense.annotations import BadAnnotationsError
from eyetoy_image.dense.masks import decode, encode, read_mask
from eyetoy_image.detection import Detection, DetectionData
from eyetoy_image.detection.datasets import DATASETS
from eyetoy_image.detection.datasets.coco import read_coco
from eyetoy_image.detection.datasets.dataset import read_picture
from eyetoy_image.io.files import UnreadableImageError
from eyetoy_train.checkpoint.run_folder import RunFolder
from eyetoy_train.engine.data_record import data_changes, write_data_record

KEYS = ("category_id", "bbox", "segmentation")


def find_files(data, split):
    return DATASETS.open(data, 0).find_files(split)


@pytest.fixture
def coco(tree):
    return read_coco(tree / "annotations" / "instances_val.json", tree / "val")


def test_categories_are_ordered_by_id_and_pictures_keep_theirs(coco):
    assert [(category.id, category.name) for category in coco.categories] == [(3, "cat"), (7, "cup")]
    assert [picture.id for picture in coco.pictures] == [1, 2, 4]
    assert [len(picture.annotations) for picture in coco.pictures] == [2, 2, 0]


def test_an_evaluation_sees_crowds_and_pictures_without_a_box(recipe_of, tree):
    dataset = Detection(recipe_of(tree)).dataset("val")
    assert len(dataset) == 3
    assert [one["iscrowd"] for one in dataset[0]["truth"]["annotations"]] == [0, 1]
    assert dataset[2]["truth"] == {"image": {"id": 4, "height": 20, "width": 20}, "annotations": []}
    assert dataset[1]["image"].shape == (3, 51, 33)


def test_an_area_that_is_missing_is_the_masks(recipe_of, tree):
    dataset = Detection(recipe_of(tree)).dataset("val")
    one, other = dataset[1]["truth"]["annotations"]
    assert one["area"] == 357
    assert other["area"] == int(decode([other["segmentation"]], 51, 33).sum())


def test_training_sees_neither_crowds_nor_pictures_without_a_box(recipe_of, tree):
    data = {"short_side": 30, "long_side": 100}
    task = Detection(recipe_of(tree, **data))
    task.data.augmentation.short_sides, task.data.augmentation.flip = [30], 0.0
    dataset = task.dataset("train")
    assert len(dataset) == 2
    target = dataset[0]["target"]
    assert target["labels"].tolist() == [1]  # of the category 3, the first one
    assert target["boxes"].tolist() == [[5, 4, 15, 24]]
    expected = torch.zeros(30, 40, dtype=torch.uint8)
    expected[4:24, 5:15] = 1
    assert torch.equal(target["masks"], expected[None])
    task.data.keep_empty = True
    dataset = task.dataset("train")
    assert len(dataset) == 3
    assert dataset[2]["target"]["boxes"].shape == (0, 4)
    assert dataset[2]["target"]["masks"].shape == (0, 30, 30)


def test_run_lengths_plain_and_compressed_are_one_mask():
    pixels = np.zeros((5, 4), dtype=bool)
    pixels[1:3, 2:] = True
    flat = pixels.T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    plain = read_mask({"size": [5, 4], "counts": counts}, 5, 4)
    (compressed,) = encode(torch.from_numpy(pixels)[None])
    assert plain == compressed == read_mask(compressed, 5, 4)
    assert torch.equal(decode([plain], 5, 4)[0].bool(), torch.from_numpy(pixels))


def test_several_polygons_are_one_mask():
    parts = [[0, 0, 2, 0, 2, 5, 0, 5], [3, 0, 4, 0, 4, 5, 3, 5]]
    mask = decode([read_mask(parts, 5, 4)], 5, 4)[0]
    assert mask.tolist() == [[1, 1, 0, 1]] * 5


def test_files_that_are_elsewhere_are_found(tree):
    (tree / "annotations" / "instances_train.json").rename(tree / "mine.json")
    data = DetectionData(root=str(tree), annotations={"train": "mine.json"}, pictures={"train": str(tree / "val")})
    assert find_files(data, "train") == (tree / "mine.json", tree / "val")
    assert find_files(data, "test") is None


@pytest.mark.parametrize(
    ("name", "folder"), [("Val", "val"), ("VAL", "Val"), ("validation", "validation"), ("dev", "valid")]
)
def test_a_split_may_have_any_usual_name_in_files_and_folders(tree, name, folder):
    (tree / "annotations" / "instances_val.json").rename(tree / "annotations" / f"instances_{name}.json")
    (tree / "val").rename(tree / "moved")
    (tree / "moved").rename(tree / folder)
    expected = (tree / "annotations" / f"instances_{name}.json", tree / folder)
    assert find_files(DetectionData(root=str(tree)), "val") == expected


def test_two_annotation_files_or_folders_of_one_split_are_refused(tree):
    (tree / "annotations" / "instances_Val.json").write_text("{}")
    with pytest.raises(ValueError, match="val and Val, which both name the val split"):
        find_files(DetectionData(root=str(tree)), "val")
    (tree / "Training").mkdir()
    with pytest.raises(ValueError, match="train and Training, which both name the train split"):
        find_files(DetectionData(root=str(tree)), "train")


@pytest.mark.parametrize("swapped", [[(3, "cup"), (7, "cat")], [(3, "cat"), (7, "mug")]])
def test_a_class_of_another_name_in_another_split_is_refused(recipe_of, write_tree, swapped):
    root = write_tree()
    path = root / "annotations" / "instances_val.json"
    categories = [{"id": number, "name": name} for number, name in swapped]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"categories": categories}))
    with pytest.raises(ValueError, match="and the training set calls it '(cat|cup)'; give each class one id"):
        Detection(recipe_of(root)).prepare()


def test_the_run_says_what_it_read_and_what_it_left_out(recipe_of, tree, capsys):
    for name in (
        "annotations/captions_val.json",
        "annotations/old/x.json",
        "val/stray.png",
        "val/x.md",
        ".x",
        "a/b.png",
    ):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("x")
    Detection(recipe_of(tree)).prepare()
    assert capsys.readouterr().err.splitlines() == [
        "data: 2 classes; samples: train 2, val 3; COCO's format; boxes: train 4, val 4; "
        "left out: 1 files of other types, 1 files that are no split's, "
        "2 folders that are no split's (a, annotations/old), 1 hidden or system files, "
        "1 pictures that no annotations name, 1 training pictures without an object"
    ]


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("val", "classes without a sample in val, whose score there says nothing of them: cup"),
        ("train", "classes without a sample for training, which no model can learn: cup; val or test have some of cup"),
    ],
)
def test_classes_without_an_object_are_named(recipe_of, tree, capsys, split, said):
    path = tree / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["category_id"] == 3]
    path.write_text(json.dumps(content))
    Detection(recipe_of(tree)).prepare()
    assert capsys.readouterr().err.splitlines()[1:] == [f"warning: {said}"]


def test_pictures_of_two_splits_are_named(recipe_of, tree, capsys):
    Detection(recipe_of(tree, pictures={"train": "val"})).prepare()
    assert "warning: 2 files are in train and in val, whose score is then too good: " in capsys.readouterr().err


def test_coco_2017_is_found_as_its_archives_unpack(tree):
    for split in ("train", "val"):
        (tree / split).rename(tree / f"{split}2017")
        name = tree / "annotations" / f"instances_{split}.json"
        name.rename(tree / "annotations" / f"instances_{split}2017.json")
    data = DetectionData(source="coco2017", root=str(tree))
    assert find_files(data, "val") == (tree / "annotations" / "instances_val2017.json", tree / "val2017")
    assert find_files(data, "test") is None
    with pytest.raises(FileNotFoundError, match="annotations_trainval2017.zip"):
        find_files(DetectionData(source="coco2017", root=str(tree / "nowhere")), "val")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "a list of images"),
        ({"categories": []}, "names no categories"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]}, "two categories of one id"),
        ({"images": [{"id": 1, "file_name": "one.png", "width": 40}]}, "'height'"),
        ({"annotations": [{"id": 1}]}, "'image_id'"),
    ],
)
def test_a_file_of_another_format_is_refused(write_tree, changes, message):
    root = write_tree(**changes)
    with pytest.raises(ValueError, match=message):
        read_coco(root / "annotations" / "instances_val.json", root / "val")


def test_what_is_no_json_is_refused(tree):
    path = tree / "annotations" / "instances_val.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="no JSON file"):
        read_coco(path, tree / "val")


def test_a_picture_of_another_size_is_refused_where_it_is_read(recipe_of, tree):
    Image.new("RGB", (30, 40)).save(tree / "val" / "one.png")
    with pytest.raises(UnreadableImageError, match="is 30 x 40 pixels, and its annotations are for 40 x 30"):
        read_picture(read_coco(tree / "annotations" / "instances_val.json", tree / "val").pictures[0])
    with pytest.raises(BadAnnotationsError, match="it is 30 x 40 pixels, and 40 x 30 in the annotations"):
        Detection(recipe_of(tree)).dataset("val")


def test_the_training_set_decides_the_classes(recipe_of, tree):
    path = tree / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 1, "name": "dog"})
    path.write_text(json.dumps(content))
    assert Detection(recipe_of(tree)).classes == ["dog", "cat", "cup"]


def test_ids_of_pictures_may_be_texts(tree, recipe_of):
    names = {1: "img_b", 2: "2", 4: "img_a"}
    for path in (tree / "annotations").iterdir():
        content = json.loads(path.read_text())
        for image in content["images"]:
            image["id"] = names[image["id"]]
        for one in content["annotations"]:
            one["image_id"] = names[one["image_id"]]
        path.write_text(json.dumps(content))
    task = Detection(recipe_of(tree))
    dataset, metrics = task.dataset("val"), task.metrics()
    assert [picture.id for picture in dataset.pictures] == ["2", "img_a", "img_b"]
    for place in range(3):
        truth = dataset[place]["truth"]
        found = [
            {"image_id": truth["image"]["id"], "score": 1.0, **{key: one[key] for key in KEYS}}
            for one in truth["annotations"]
        ]
        metrics.update([found], {"truth": [truth]})
    scores = metrics.compute({key: torch.cat(rows) for key, rows in metrics.rows.items()})
    assert scores["box_AP"] == scores["mask_AP"] == pytest.approx(1.0)


def test_a_text_is_not_the_number_it_spells(tree):
    path = tree / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    content["images"][0]["id"] = "1"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="must be all numbers or all texts"):
        read_coco(path, tree / "val")
    content["images"] = content["images"][:1]
    path.write_text(json.dumps(content))
    coco = read_coco(path, tree / "val")
    assert not coco.pictures[0].annotations
    assert len(coco.strays) == 4


def test_a_changed_box_is_noticed(recipe_of, write_tree, tmp_path):
    run, tree = RunFolder(tmp_path), write_tree()
    write_data_record(run, Detection(recipe_of(tree)))
    assert data_changes(run.data, Detection(recipe_of(tree))) == []
    file = tree / "annotations" / "instances_val.json"
    file.write_text(file.read_text().replace("[5, 4, 10, 20]", "[5, 4, 11, 20]"))
    assert data_changes(run.data, Detection(recipe_of(tree))) == ["val has other files, 3 as before"]
