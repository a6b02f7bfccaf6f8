"""What a recipe leaves to the data: the kind of the detector, its anchors, and the sizes of training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from eyetoy_image.app import app_of
from eyetoy_image.dense.annotations import BadAnnotationsError
from eyetoy_image.dense.pyramids import build_pyramid, map_strides, pyramid_strides
from eyetoy_image.detection import Detection, DetectionAugmentation, DetectionData
from eyetoy_image.detection.anchors import fit_anchors
from eyetoy_image.detection.check import check
from eyetoy_image.detection.datasets.objects import Annotation, Picture
from eyetoy_train import ModelRecipe
from helpers.paths import config

APP = app_of("detection")


def picture_of(*sides: float, height: int = 100, width: int = 200) -> Picture:
    """A picture of squares."""
    boxes = [Annotation(place, {"bbox": [0, 0, side, side]}) for place, side in enumerate(sides)]
    return Picture(1, Path("1.jpg"), height, width, tuple(boxes))


def data_of(*short_sides: int, **augmentation: object) -> DetectionData:
    changes = DetectionAugmentation(short_sides=list(short_sides) or None, **augmentation)
    return DetectionData(short_side=100, long_side=1000, augmentation=changes)


def test_anchors_are_the_centres_of_clusters_of_sizes():
    pictures = [picture_of(10, 10, 10, 11, 40, 40, 41, 90, 88)]
    assert fit_anchors(pictures, data_of(100), [1] * 3) == [10, 40, 89]
    assert fit_anchors(pictures, data_of(50), [1] * 3) == [5, 20, 44]  # at the sizes of training
    assert fit_anchors([picture_of(10, height=200, width=100)], data_of(100), [1] * 2) == [10, 10]


def test_anchors_are_those_of_a_plain_k_means():
    sizes = torch.rand(200, generator=torch.Generator().manual_seed(0)).mul(4).exp().mul(2).tolist()
    centres = torch.tensor(sizes).log().quantile((torch.arange(4) + 0.5) / 4).tolist()
    for _ in range(100):
        parts = [[] for _ in centres]
        for size in torch.tensor(sizes).log().tolist():
            parts[min(range(4), key=lambda place: abs(size - centres[place]))].append(size)
        centres = [sum(part) / len(part) for part in parts]
    expected = [round(value) for value in torch.tensor(centres).exp().tolist()]
    assert fit_anchors([picture_of(*sizes)], data_of(100), [1] * 4) == pytest.approx(expected, abs=1)


def test_anchors_are_fitted_to_every_size_of_training_and_within_the_long_side():
    assert fit_anchors([picture_of(10)], data_of(100, 400), [1] * 2) == [10, 40]
    data = dataclasses.replace(data_of(100, 400), long_side=400)
    assert fit_anchors([picture_of(10)], data, [1] * 2) == [10, 20]  # 100 x 200 fits into 400 when doubled
    assert fit_anchors([picture_of(10)], data_of(jitter_size=200, jitter_scale=(1.0, 3.0)), [1] * 3) == [10, 20, 30]


def test_anchors_are_at_least_two_strides_large_so_that_no_box_lies_between_them():
    sizes = [6, 8, 10, 14, 18, 22, 40]
    assert fit_anchors([picture_of(*sizes)], data_of(100), [4, 8, 16, 32]) == [8, 18, 40, 64]
    assert fit_anchors([picture_of(5)], data_of(100), [4, 8]) == [8, 16]


def test_crowds_are_not_fitted_and_without_boxes_there_are_no_anchors():
    crowd = Annotation(0, {"bbox": [0, 0, 90, 90], "iscrowd": 1})
    picture = picture_of(10)
    pictures = [dataclasses.replace(picture, annotations=(*picture.annotations, crowd))]
    assert fit_anchors(pictures, data_of(100), [1] * 2) == [10, 10]
    with pytest.raises(ValueError, match="no training picture has one; give sizes"):
        fit_anchors([picture_of()], data_of(100), [1] * 2)


@pytest.mark.parametrize(("name", "out_indices"), [("eyetoy2d_pico", None), ("eyetoy2d_nano", [0, 2])])
def test_strides_of_maps_are_told_without_building_them(name, out_indices):
    model = ModelRecipe(name=name, weights="nowhere")
    plain = dataclasses.replace(model, weights=None)
    assert map_strides(model, out_indices) == pyramid_strides(build_pyramid(plain, out_indices)[0])


def test_training_follows_the_size_of_an_evaluation():
    augmentation = DetectionAugmentation()
    assert augmentation.sides(800) == [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
    assert augmentation.sides(100)[::5] == [60, 80, 100]
    assert DetectionAugmentation(short_sides=[70]).sides(800) == [70]
    _, recipe = APP.parse_args(["--config", str(config("image", "composed_detection")), "--data.short_side", "64"])
    assert recipe.data.augmentation.sides(recipe.data.short_side) == [56, 60, 64]


def test_a_training_set_is_resized_to_ratios_of_the_short_side(tree, recipe_of):
    dataset = Detection(recipe_of(tree, short_side=50, long_side=500)).dataset("train")
    sides = {min(dataset[0]["image"].shape[1:]) for _ in range(30)}
    assert sides <= {30, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50}
    assert len(sides) > 3


def without_masks(root: Path, value: object) -> Path:
    for path in (root / "annotations").iterdir():
        content = json.loads(path.read_text())
        for one in content["annotations"]:
            del one["segmentation"]
            one |= {} if value is None else {"segmentation": value}
        path.write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("value", [None, []])
def test_a_set_of_boxes_alone_is_told_from_one_of_masks(tree, recipe_of, small_detector, capsys, value):
    auto = dataclasses.replace(small_detector, kind="auto", anchor_sizes="auto")
    masked = Detection(recipe_of(tree, detector=auto))
    masked.prepare()
    assert (masked.kind, masked.score) == ("mask_rcnn", "mask_AP")
    boxes = Detection(recipe_of(without_masks(tree, value), detector=auto))
    boxes.prepare()
    assert (boxes.kind, boxes.score) == ("faster_rcnn", "box_AP")
    said = capsys.readouterr().err
    assert "detector.kind: faster_rcnn, since no annotation has a mask" in said
    assert f"detector.anchor_sizes: {boxes.detector.anchor_sizes}, fitted to the boxes" in said
    with pytest.raises(BadAnnotationsError, match="has a mask, .* for boxes alone take --detector.kind faster_rcnn$"):
        Detection(recipe_of(tree)).prepare()


def test_the_check_of_boxes_alone_says_so_once_and_writes_them(tree, tmp_path, capsys):
    without_masks(tree, [])
    arguments = ["--data.source", "folder", "--data.root", str(tree), "--output", str(tmp_path / "clean")]
    assert check(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4  # what was read, that it has no masks, and a summary of each split
    assert "--detector.kind faster_rcnn" in lines[1]
    content = json.loads((tmp_path / "clean" / "instances_train.json").read_text())
    assert len(content["annotations"]) == 4


def test_the_check_names_the_first_few_of_a_kind_or_all(write_tree, capsys):
    bad = [{"id": n, "image_id": 1, "category_id": 3, "bbox": [0, 0, 0, 1], "segmentation": [[0, 0, 9, 0, 9, 9]]}
           for n in range(1, 26)]  # fmt: skip
    root = write_tree(annotations=bad)
    arguments = ["--data.source", "folder", "--data.root", str(root), "--split", "val"]
    assert check(arguments) == 1
    said = capsys.readouterr().out
    assert said.count("zero area: ") == 11
    assert "\nzero area: and 15 more\n" in said
    assert check([*arguments, "--all"]) == 1
    assert capsys.readouterr().out.count("zero area: ") == 25


def test_a_checkpoint_has_what_was_fitted_and_opens_without_the_data(tree, recipe_of, small_detector, tmp_path):
    auto = dataclasses.replace(small_detector, kind="auto", anchor_sizes="auto")
    recipe = recipe_of(without_masks(tree, None), detector=auto)
    task = Detection(recipe)
    task.prepare()
    model = task.build_model()
    (tmp_path / "best").mkdir()
    task.save(model, tmp_path / "best")
    tree.rename(tmp_path / "elsewhere")
    assert (recipe.detector.kind, recipe.detector.anchor_sizes) == ("auto", "auto")  # as the run's folder has it
    opened = APP.open(tmp_path / "best")
    assert opened.task.recipe.detector == task.detector
    assert opened.task.detector.anchor_sizes == task.detector.anchor_sizes != "auto"
    assert not opened.task.with_masks
    config_file = json.loads((tmp_path / "best" / "config.json").read_text())
    assert config_file["detector"]["anchor_sizes"] == task.detector.anchor_sizes
    loaded = opened.load_model(torch.device("cpu"))
    assert loaded.rcnn.rpn.anchor_generator.sizes == tuple((size,) for size in task.detector.anchor_sizes)


@pytest.mark.parametrize(("short_sides", "is_said"), [([48, 64], False), ([16], True), (None, False)])
def test_sizes_of_training_and_evaluation_that_do_not_fit_are_said(tree, recipe_of, capsys, short_sides, is_said):
    recipe = recipe_of(tree, augmentation=DetectionAugmentation(short_sides=short_sides))
    Detection(recipe).prepare()
    assert ("without short_sides, training follows data.short_side" in capsys.readouterr().err) == is_said
