"""Scores against a plain count with NumPy, and in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from eyetoy_image.segmentation.metrics import SegmentationMetrics

NAMES = ["a", "b", "c", "d", "e"]


def pictures(seed: int = 0, count: int = 6):
    """Truths and predictions of different sizes; class d is nowhere, e only predicted, and a fifth is ignored."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        shape = (7 + number, 9 + 2 * number)
        truth = generator.choice([0, 1, 2, 255], shape, p=[0.4, 0.3, 0.1, 0.2]).astype(np.uint8)
        prediction = np.where(generator.random(shape) < 0.6, truth, generator.choice([0, 1, 2, 4], shape))
        yield truth, np.where(prediction == 255, 1, prediction).astype(np.uint8)


def counted(pairs) -> dict[str, float]:
    """IoU as its definition says, by sets of pixels."""
    truth, prediction = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    prediction, truth = prediction[truth != 255], truth[truth != 255]
    ious, accuracies = [], []
    for label in range(len(NAMES)):
        union = ((truth == label) | (prediction == label)).sum()
        if union:
            ious.append(((truth == label) & (prediction == label)).sum() / union)
        if (truth == label).any():
            accuracies.append((prediction[truth == label] == label).mean())
    assert len(ious) == 4
    assert len(accuracies) == 3
    return {
        "mIoU": np.mean(ious),
        "pixel_accuracy": (truth == prediction).mean(),
        "mean_accuracy": np.mean(accuracies),
        "count": 6,
    }


def update(metrics, pairs):
    truths, predictions = ([torch.from_numpy(pair[i]) for pair in pairs] for i in (0, 1))
    metrics.update(predictions, {"labels": truths})
    return metrics


def test_they_equal_a_plain_count():
    metrics = update(SegmentationMetrics(NAMES), list(pictures()))
    assert metrics.compute(metrics.sums) == pytest.approx(counted(list(pictures())), abs=1e-12)


def test_parts_add_up_exactly():
    pairs = list(pictures())
    whole = update(SegmentationMetrics(NAMES), pairs)
    parts = [update(SegmentationMetrics(NAMES), part).sums for part in (pairs[:1], pairs[1:])]
    added = {name: parts[0][name] + parts[1][name] for name in parts[0]}
    assert whole.compute(added) == whole.compute(whole.sums)


def test_ignored_pixels_change_nothing():
    pairs = list(pictures())
    changed = [(truth, np.where(truth == 255, 3, prediction).astype(np.uint8)) for truth, prediction in pairs]
    one, other = (update(SegmentationMetrics(NAMES), each) for each in (pairs, changed))
    assert one.compute(one.sums) == other.compute(other.sums)


def test_a_set_without_a_label_has_no_score():
    metrics = update(SegmentationMetrics(NAMES), [(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))])
    with pytest.raises(ValueError, match="no pixel of the set has a label"):
        metrics.compute(metrics.sums)


def test_details_have_a_row_for_each_class_that_is_there(tmp_path):
    metrics = update(SegmentationMetrics(NAMES), list(pictures()))
    details = metrics.details(metrics.sums, tmp_path)
    rows = {row[0]: row for row in details.tables[0].rows}
    assert set(rows) == {"a", "b", "c", "e"}
    assert rows["e"][1:5] == (0, 0.0, 0.0, 0.0)
    assert np.mean([row[2] for row in rows.values()]) == pytest.approx(counted(list(pictures()))["mIoU"])
    assert details.pictures[0].is_file()


def labelled_pixels(pairs):
    truth, prediction = (torch.from_numpy(np.concatenate([pair[i].ravel() for pair in pairs])).long() for i in (0, 1))
    return prediction[truth != 255], truth[truth != 255]


def test_scikit_learn_agrees():
    pairs = list(pictures(seed=1))
    metrics = update(SegmentationMetrics(NAMES), pairs)
    prediction, truth = labelled_pixels(pairs)
    expected = jaccard_score(truth, prediction, average="macro")
    assert metrics.compute(metrics.sums)["mIoU"] == pytest.approx(expected, abs=1e-12)


def test_torchmetrics_agrees():
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    pairs = list(pictures(seed=1))
    metrics = update(SegmentationMetrics(NAMES), pairs)
    found = torchmetrics.multiclass_jaccard_index(*labelled_pixels(pairs), len(NAMES))
    assert metrics.compute(metrics.sums)["mIoU"] == pytest.approx(float(found), abs=1e-6)
