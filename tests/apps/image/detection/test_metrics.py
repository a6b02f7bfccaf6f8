"""Average precision: that of pycocotools, run by hand on written files."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from eyetoy_image.dense.masks import encode
from eyetoy_image.detection.confusion import count_confusion
from eyetoy_image.detection.curves import mean_precision
from eyetoy_image.detection.datasets.objects import Category
from eyetoy_image.detection.metrics import LOSSES, NAMES, DetectionMetrics

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
    assert rows["cat"]["objects"] == sum(one["category_id"] == 2 and not one["iscrowd"] for one in truths)
    assert rows["cat"]["objects"] < sum(one["category_id"] == 2 for one in truths)


def test_a_class_of_crowds_alone_has_no_row(pictures, tmp_path):
    """Its average precision is -1, which is no share."""
    metrics = DetectionMetrics(CATEGORIES, with_masks=False)
    crowd = {"image_id": 1, "category_id": 9, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1}
    (truth, detections), *rest = pictures
    with_crowd = (truth | {"annotations": [*truth["annotations"], crowd]}, detections)
    (table,) = metrics.details(sums_of(metrics, [[with_crowd, *rest]]), tmp_path).tables
    assert {row[0] for row in table.rows} == {"cat", "cup"}


def test_what_was_found_is_written_whole(pictures, written):
    folder, _ = written
    found = [one for _, detections in pictures for one in detections]
    for name, key in (("box", "bbox"), ("mask", "segmentation")):
        entries = json.loads((folder / f"{name}_detections.json").read_text())
        assert [one[key] for one in entries] == [one[key] for one in found]
        assert [one["score"] for one in entries] == [one["score"] for one in found]


def plain_overlap(one, other):
    """Intersection over union of two boxes, each left, top, width and height."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    return both / (one[2] * one[3] + other[2] * other[3] - both), both / (one[2] * one[3])


def plain_confusion(pictures, least_score):
    """Pairs (truth, prediction) by plain loops; None is the background."""
    pairs = Counter()
    for truth, detections in pictures:
        left = [one for one in truth["annotations"] if not one["iscrowd"]]
        crowds = [one for one in truth["annotations"] if one["iscrowd"]]
        for one in sorted(detections, key=lambda one: -one["score"]):
            if one["score"] < least_score:
                continue
            best = max(left, key=lambda other: plain_overlap(one["bbox"], other["bbox"])[0], default=None)
            if best is not None and plain_overlap(one["bbox"], best["bbox"])[0] >= 0.5:
                left = [other for other in left if other is not best]
                pairs[best["category_id"], one["category_id"]] += 1
            elif all(plain_overlap(one["bbox"], crowd["bbox"])[1] < 0.5 for crowd in crowds):
                pairs[None, one["category_id"]] += 1
        pairs.update((one["category_id"], None) for one in left)
    return pairs


@pytest.mark.parametrize("least_score", [0.0, 0.5, 0.9])
def test_confusions_are_those_of_plain_loops(pictures, least_score):
    generator = np.random.default_rng(1)
    mixed = [  # every third object is taken for another class
        (truth, [one | ({"category_id": 9} if generator.random() < 0.3 else {}) for one in detections])
        for truth, detections in pictures
    ]
    ids = [category.id for category in CATEGORIES]
    truths, found = [truth for truth, _ in mixed], [one for _, detections in mixed for one in detections]
    confusion = count_confusion(truths, found, ids, least_score=least_score)
    expected, names = plain_confusion(mixed, least_score), [*ids, None]
    assert expected[2, 9] + expected[5, 9] > 0 or least_score == 0.9
    assert {
        (names[row], names[column]): int(count)
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if count
    } == dict(expected)


def test_the_surest_object_takes_the_truth_and_the_other_is_background():
    truth = {"image": {"id": 1}, "annotations": [{"category_id": 2, "bbox": [0, 0, 10, 10], "iscrowd": 0}]}
    found = [
        {"image_id": 1, "category_id": 2, "bbox": [0, 0, 10, 10], "score": 0.6},
        {"image_id": 1, "category_id": 5, "bbox": [0, 0, 10, 9], "score": 0.8},
    ]
    assert count_confusion([truth], found, [2, 5], least_score=0.5).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_the_area_below_the_mean_curve_is_the_score(pictures, by_hand, tmp_path):
    metrics = DetectionMetrics(CATEGORIES, with_masks=True)
    sums = sums_of(metrics, [pictures])
    for place, name in ((0, "AP50"), (5, "AP75")):
        precisions = torch.as_tensor(by_hand["box"].eval["precision"])[place, :, :, 0, -1]
        assert float(mean_precision(precisions).mean()) == pytest.approx(metrics.compute(sums)[f"box_{name}"])
    files = metrics.details(sums, tmp_path).pictures
    assert [file.name for file in files] == ["precision_and_recall.png", "confusion.png"]
    assert all(file.is_file() for file in files)


def test_losses_are_means_over_the_pictures_that_have_them(pictures):
    metrics = DetectionMetrics(CATEGORIES, with_masks=True)
    truths = [truth for truth, _ in pictures[:3]]
    losses = [dict.fromkeys(LOSSES, 1.0), {}, dict.fromkeys(LOSSES, 3.0)]
    metrics.update({"found": [detections for _, detections in pictures[:3]], "losses": losses}, {"truth": truths})
    scores = metrics.compute(metrics.sums | {name: torch.cat(parts) for name, parts in metrics.rows.items()})
    assert [scores[name] for name in LOSSES] == [2.0] * 5
    assert scores["loss"] == 10
    assert scores["count"] == 3
