"""Composed pictures: exact boxes, masks and label maps, and splits that share nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from eyetoy_image.dense.composed import write_composed_digits
from eyetoy_image.dense.composed.drawing import compose
from eyetoy_image.dense.composed.sources import DIGITS, PHOTOGRAPHS, read_digits, read_photographs
from eyetoy_image.dense.masks import decode
from eyetoy_image.detection.datasets.coco import read_coco
from eyetoy_image.detection.datasets.findings import find_bad

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("composed") / "digits"
    write_composed_digits(root, train=6, val=4, test=4, size=96)
    return root


def contents(root, split):
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def masks_of(annotations):
    return decode([one["segmentation"] for one in annotations], 96, 96).bool()


@pytest.mark.parametrize("split", SPLITS)
def test_boxes_and_areas_are_those_of_the_masks(digits, split):
    annotations = contents(digits, split)["annotations"]
    assert len(annotations) >= 8
    for one, mask in zip(annotations, masks_of(annotations), strict=True):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        x, y, width, height = one["bbox"]
        assert (x, y) == (int(columns.min()), int(rows.min()))
        assert (x + width - 1, y + height - 1) == (int(columns.max()), int(rows.max()))
        assert one["area"] == int(mask.sum())


@pytest.mark.parametrize("split", SPLITS)
def test_the_label_map_is_the_masks_with_their_classes(digits, split):
    content = contents(digits, split)
    for image in content["images"]:
        with Image.open(digits / "maps" / split / f"{image['file_name'][:-4]}.png") as file:
            labels = torch.from_numpy(np.array(file))
        expected = torch.zeros(96, 96, dtype=torch.uint8)
        annotations = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        masks = masks_of(annotations)
        assert masks.sum(0).max() <= 1  # no pixel is of two digits
        for one, mask in zip(annotations, masks, strict=True):
            expected[mask] = one["category_id"]
        assert torch.equal(labels, expected)


def test_a_pixel_of_a_digit_has_its_colour():
    photographs, digits = read_photographs("val"), read_digits("val")
    composition = compose(photographs, digits, 128, np.random.default_rng(3))
    mask = composition.masks[-1]  # nothing covers the last one
    inner = mask.copy()
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            inner &= np.roll(mask, shift, axis)
    assert inner.sum() > 5
    assert composition.pixels[inner].std(0).max() < 12


def test_photographs_are_changed_for_training_alone(tmp_path, monkeypatch):
    grey = [Image.new("RGB", (200, 160), (100, 100, 100))]
    monkeypatch.setattr("eyetoy_image.dense.composed.writing.read_photographs", lambda split: grey)
    write_composed_digits(tmp_path / "digits", train=8, val=4, test=4, size=96)
    shades = {}
    for split in SPLITS:
        pictures = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "digits" / split).iterdir())]
        shades[split] = np.array([np.median(picture, axis=(0, 1)) for picture in pictures])
    assert abs(shades["val"] - 100).max() <= 2
    assert abs(shades["test"] - 100).max() <= 2
    assert abs(shades["train"] - 100).max() > 20


def test_splits_share_no_photograph_and_no_digit():
    names = [name for split in SPLITS for name in PHOTOGRAPHS[split]]
    assert len(names) == len(set(names))
    places = [place for split in SPLITS for place in range(*DIGITS[split].indices(1797))]
    assert places == list(range(1797))
    assert [digit.label for digit in read_digits("test")] == load_digits().target[DIGITS["test"]].tolist()


def test_it_is_read_like_any_set(digits):
    for split in SPLITS:
        coco = read_coco(digits / "annotations" / f"instances_{split}.json", digits / split)
        assert [category.name for category in coco.categories] == list("0123456789")
        assert find_bad(coco, coco.categories, with_masks=True, open_files=True) == []


def test_a_picture_depends_on_seed_split_and_number_alone(digits, tmp_path):
    write_composed_digits(tmp_path / "fewer", train=2, val=1, test=1, size=96)
    write_composed_digits(tmp_path / "other", train=2, val=1, test=1, size=96, seed=1)
    for split in SPLITS:
        name = f"{split}/00000.jpg"
        assert (tmp_path / "fewer" / name).read_bytes() == (digits / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (digits / name).read_bytes()


def test_an_existing_folder_is_not_touched_and_a_broken_off_one_not_left(tmp_path, monkeypatch):
    with pytest.raises(FileExistsError, match="exists already"):
        write_composed_digits(tmp_path)
    monkeypatch.setattr("eyetoy_image.dense.composed.writing.label_map", lambda composition: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_composed_digits(tmp_path / "new", train=1, val=1, test=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [("size", 31), ("train", 0), ("seed", -1)])
def test_arguments_out_of_range_are_refused(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least .*; got {value}"):
        write_composed_digits(tmp_path / "new", **{name: value})
