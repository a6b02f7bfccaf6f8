"""Average precision: that of pycocotools, run by hand on written files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from eyetoy_image.dense.masks import encode
from eyetoy_image.detection.datasets.objects import Category
from eyetoy_image.detection.metrics import NAMES, DetectionMetrics

CATEGORIES = (Category(2, "cat"), Category(5, "cup"), Category(9, "none"))
SIDE = 200


def disc(x, y, radius):
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return ((columns - x) ** 2 + (rows - y) ** 2) <= radius**2


def entry(mask, picture, category):
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    box = [int(columns.min()), int(rows.min()), int(columns.max() - columns.min()) + 1]
    box.append(int(rows.max() - rows.min()) + 1)
    (runs,) = encode(mask[None])
    return {"image_id": picture, "category_id": category, "bbox": box, "segmentation": runs}


@pytest.fixture(scope="module")
def pictures():
    """Truth and detections of twelve pictures: discs of all sizes, some missed, some moved, some crowds, and others."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(1, 13):
        truth, detections = [], []
        for _ in range(generator.integers(0, 6)):
            x, y, radius = *generator.uniform(70, 130, 2).tolist(), float(generator.choice([9, 20, 60]))
            category = int(generator.choice([2, 5]))
            truth.append(entry(disc(x, y, radius), number, category))
            truth[-1] |= {"area": int(disc(x, y, radius).sum()), "iscrowd": int(generator.random() < 0.1)}
            if generator.random() < 0.8:
                moved = disc(x + generator.normal(0, radius / 6), y, radius * generator.uniform(0.85, 1.2))
                detections.append(entry(moved, number, category) | {"score": round(float(generator.random()), 1)})
        for _ in range(generator.integers(0, 3)):
            stray = disc(*generator.uniform(40, 120, 2), 15)
            detections.append(entry(stray, number, 5) | {"score": round(float(generator.random()), 1)})
        found.append(({"image": {"id": number, "height": SIDE, "width": SIDE}, "annotations": truth}, detections))
    return found


def without_mask(one):
    return {key: value for key, value in one.items() if key != "segmentation"}


def sums_of(metrics, batches):
    for batch in batches:
        metrics.update([detections for _, detections in batch], {"truth": [truth for truth, _ in batch]})
    return {name: torch.cat(parts) for name, parts in metrics.rows.items()}


@pytest.fixture(scope="module")
def written(pictures, tmp_path_factory):
    """The truth as a file, beside the files and the table that the metrics write."""
    folder = tmp_path_factory.mktemp("files")
    truths = [one for truth, _ in pictures for one in truth["annotations"]]
    content = {
        "images": [truth["image"] for truth, _ in pictures],
        "annotations": [one | {"id": number} for number, one in enumerate(truths, 1)],
        "categories": [{"id": category.id, "name": category.name} for category in CATEGORIES],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    metrics = DetectionMetrics(CATEGORIES, with_masks=True)
    (table,) = metrics.details(sums_of(metrics, [pictures]), folder).tables
    return folder, table


@pytest.fixture(scope="module")
def by_hand(written):
    """Evaluations of the written files, as anybody would do them."""
    folder, _ = written
    coco = COCO(str(folder / "truth.json"))
    evaluations = {}
    for name, kind in (("box", "bbox"), ("mask", "segm")):
        evaluation = COCOeval(coco, coco.loadRes(str(folder / f"{name}_detections.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        evaluations[name] = evaluation
    return evaluations


def test_scores_are_those_of_pycocotools_by_hand(pictures, by_hand):
    metrics = DetectionMetrics(CATEGORIES, with_masks=True)
    scores = metrics.compute(sums_of(metrics, [pictures[:5], pictures[5:]]))
    assert scores["count"] == 12
    for name, evaluation in by_hand.items():
        expected = dict(zip((f"{name}_{score}" for score in NAMES), evaluation.stats, strict=False))
        assert 0.05 < expected[f"{name}_AP"] < 0.95
        assert {key: scores[key] for key in expected} == expected


def test_the_order_of_batches_and_processes_does_not_matter(pictures):
    one, other = (DetectionMetrics(CATEGORIES, with_masks=True) for _ in range(2))
    shuffled = [pictures[1::2], pictures[::2]]
    assert one.compute(sums_of(one, [pictures])) == other.compute(sums_of(other, shuffled))


def test_boxes_alone_are_scored_without_masks(pictures, by_hand):
    plain = [
        (truth | {"annotations": list(map(without_mask, truth["annotations"]))}, list(map(without_mask, detections)))
        for truth, detections in pictures
    ]
    metrics = DetectionMetrics(CATEGORIES, with_masks=False)
    scores = metrics.compute(sums_of(metrics, [plain]))
    assert scores["box_AP"] == by_hand["box"].stats[0]
    assert not [name for name in scores if name.startswith("mask")]


def test_nothing_found_is_zero_and_nothing_there_is_minus_one(pictures):
    metrics = DetectionMetrics(CATEGORIES, with_masks=True)
    scores = metrics.compute(sums_of(metrics, [[(truth, []) for truth, _ in pictures]]))
    assert scores["box_AP"] == scores["mask_AP50"] == 0
    metrics = DetectionMetrics(CATEGORIES, with_masks=True)
    empty = [(truth | {"annotations": []}, []) for truth, _ in pictures]
    assert metrics.compute(sums_of(metrics, [empty]))["box_AP"] == -1


def test_details_have_every_class_that_there_is(pictures, written, by_hand):
    _, table = written
    rows = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert set(rows) == {"cat", "cup"}
    precision = by_hand["mask"].eval["precision"][:, :, :, 0, -1]
    assert rows["cup"]["mask AP"] == pytest.approx(precision[:, :, 1].mean())
    assert rows["cat"]["mask AP50"] == pytest.approx(precision[0, :, 0].mean())
    assert rows["cat"]["mask AP75"] == pytest.approx(precision[5, :, 0].mean())
    truths = [one for truth, _ in pictures for one in truth["annotations"]]
    assert rows["cat"]["objects"] == sum(one["category_id"] == 2 for one in truths)


def test_what_was_found_is_written_whole(pictures, written):
    folder, _ = written
    found = [one for _, detections in pictures for one in detections]
    for name, key in (("box", "bbox"), ("mask", "segmentation")):
        entries = json.loads((folder / f"{name}_detections.json").read_text())
        assert [one[key] for one in entries] == [one[key] for one in found]
        assert [one["score"] for one in entries] == [one["score"] for one in found]
