"""Scores against a plain count."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, top_k_accuracy_score
from torch import nn

from eyetoy_train import ClassificationMetrics, evaluate
from eyetoy_train.classification.metrics import Judged, MultiLabelMetrics
from eyetoy_train.engine.evaluation import Evaluation


@given(classes=st.integers(1, 9), samples=st.integers(1, 40), seed=st.integers(0, 99), batch=st.integers(1, 17))
def test_scores_equal_a_plain_count(classes, samples, seed, batch):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=generator)
    labels = torch.randint(classes, (samples,), generator=generator)
    metrics = ClassificationMetrics(classes)
    for first in range(0, samples, batch):
        metrics.update(logits[first : first + batch], {"label": labels[first : first + batch]})
    scores = metrics.compute(metrics.sums)
    order = logits.argsort(dim=-1, descending=True)
    hits = [[int(t) in row[:k].tolist() for t, row in zip(labels, order, strict=True)] for k in (1, 5)]
    per_class = [[hit for hit, t in zip(hits[0], labels, strict=True) if t == c] for c in range(classes) if c in labels]
    assert scores["count"] == samples
    assert scores["accuracy"] == pytest.approx(sum(hits[0]) / samples)
    assert scores["top5"] == pytest.approx(sum(hits[1]) / samples)
    assert scores["mean_class_accuracy"] == pytest.approx(sum(sum(h) / len(h) for h in per_class) / len(per_class))
    assert scores["loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-4)
    assert scores["ece"] == pytest.approx(calibration_error(logits.softmax(-1), labels), abs=1e-5)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_scores_equal_those_of_scikit_learn(scale):
    logits, labels = scale * torch.randn(400, 7), torch.randint(7, (400,))
    metrics = ClassificationMetrics(7)
    metrics.update(logits, {"label": labels})
    scores = metrics.compute(metrics.sums)
    guess, probabilities = logits.argmax(-1), logits.double().softmax(-1)
    assert scores["accuracy"] == pytest.approx(accuracy_score(labels, guess), abs=1e-12)
    assert scores["mean_class_accuracy"] == pytest.approx(balanced_accuracy_score(labels, guess), abs=1e-12)
    assert scores["top5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5), abs=1e-6)
    assert scores["loss"] == pytest.approx(log_loss(labels, probabilities), rel=1e-5)


def test_torchmetrics_agrees_where_no_confidence_is_one():
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = 2 * torch.randn(400, 7), torch.randint(7, (400,))
    metrics = ClassificationMetrics(7)
    metrics.update(logits, {"label": labels})
    found = torchmetrics.multiclass_calibration_error(logits.softmax(-1), labels, 7, n_bins=15)
    assert metrics.compute(metrics.sums)["ece"] == pytest.approx(float(found), abs=1e-6)


def test_the_highest_bin_holds_a_confidence_of_one():
    """Two samples with a confidence of 1, both wrong, and two of 0.948, both right: all four are of one bin."""
    metrics = ClassificationMetrics(2)
    logits = torch.tensor([[100.0, 0.0], [100.0, 0.0], [2.9, 0.0], [2.9, 0.0]])
    metrics.update(logits, {"label": torch.tensor([1, 1, 0, 0])})
    confidence = float(logits.softmax(-1)[:, 0].mean())
    assert metrics.sums["bins"][-1].tolist() == [4, 2]
    assert metrics.compute(metrics.sums)["ece"] == pytest.approx(confidence - 0.5)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused(label):
    with pytest.raises(ValueError, match=f"labels must be from 0 to 2; got {label}"):
        ClassificationMetrics(3).update(torch.zeros(2, 3), {"label": torch.tensor([0, label])})


def calibration_error(probabilities, labels):
    """As Guo et al. (ICML 2017) define it, bin by bin."""
    confidence, guess = (values.tolist() for values in probabilities.max(-1))
    error = 0.0
    for place in range(15):
        members = [i for i, sure in enumerate(confidence) if place / 15 < sure <= (place + 1) / 15]
        if members:
            accuracy = sum(guess[i] == int(labels[i]) for i in members) / len(members)
            sureness = sum(confidence[i] for i in members) / len(members)
            error += len(members) / len(labels) * abs(accuracy - sureness)
    return error


@pytest.mark.parametrize("batch_size", [1, 4, 13, 100])
def test_the_batch_size_of_an_evaluation_changes_nothing(slopes, toy_recipe, batch_size):
    task = slopes(toy_recipe())
    torch.manual_seed(0)
    model = task.build_model()
    scores = evaluate(task, model, task.dataset("test"), Accelerator(), batch_size=batch_size)
    expected = evaluate(task, model, task.dataset("test"), Accelerator(), batch_size=7)
    assert scores == pytest.approx(expected, rel=1e-5)
    assert scores["count"] == 13


def test_an_empty_set_is_refused(slopes, toy_recipe):
    class Empty(slopes):
        sizes = {"train": 1, "val": 1, "test": 0}

    task = Empty(toy_recipe())
    with pytest.raises(ValueError, match="empty set"):
        evaluate(task, task.build_model(), task.dataset("test"), Accelerator(), batch_size=4)


def test_the_table_of_classes_tells_recall_precision_and_what_a_class_is_taken_for(tmp_path):
    """Of four cats one is taken for a dog; of two dogs one for a cat; birds are never seen."""
    metrics = ClassificationMetrics(3, ["cat", "dog", "bird"])
    labels, predictions = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 0])
    metrics.update(torch.nn.functional.one_hot(predictions, 3).float(), {"label": labels})
    table = metrics.details(metrics.sums, tmp_path).tables[0]
    assert table.rows == [("dog", 2, 0.5, 0.5, "cat (1)"), ("cat", 4, 0.75, 0.75, "dog (1)")]
    skewed = ClassificationMetrics(2)
    skewed.update(torch.tensor([[1.0, 0], [1, 0], [1, 0]]), {"label": torch.tensor([0, 1, 1])})
    rows = {row[0]: row[2:4] for row in skewed.details(skewed.sums, tmp_path).tables[0].rows}
    assert rows["0"] == pytest.approx((1, 1 / 3))
    assert rows["1"] == (0, 0)


def test_a_confidence_between_two_bins_belongs_to_the_lower_one():
    """As Guo et al. (ICML 2017) have it, whose bins are open below."""
    metrics = ClassificationMetrics(3)
    metrics.update(torch.zeros(1, 3), {"label": torch.tensor([0])})
    assert metrics.sums["bins"][:, 0].tolist().index(1) == 4  # of 1 / 3, which is five fifteenths


def test_every_sample_is_judged_once_the_surest_mistakes_first():
    class Stored:
        def metrics(self):
            return ClassificationMetrics(2)

        def outputs(self, model, batch):
            return batch["input"]

    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.0, 1.0], [0.5, 0.0]])
    samples = [{"input": x, "label": label} for x, label in zip(logits, (0, 1, 0, 1, 0), strict=True)]
    evaluation = Evaluation(Stored(), Accelerator(), batch_size=2)
    judged = ClassificationMetrics(2).judged(evaluation.sums(nn.Identity(), samples))
    assert [(one.index, one.truth, one.prediction) for one in judged] == [
        (2, (0,), (1,)),
        (1, (1,), (0,)),
        (4, (0,), (0,)),
        (3, (1,), (1,)),
        (0, (0,), (0,)),
    ]
    expected = logits.softmax(-1).amax(-1)[[2, 1, 4, 3, 0]].tolist()
    assert [one.confidence for one in judged] == pytest.approx(expected)
    assert [one.is_right for one in judged] == [False, False, True, True, True]


def test_samples_of_several_labels_are_judged_by_their_surest_wrong_decision():
    metrics = MultiLabelMetrics(3)
    logits = torch.tensor([[4.0, -1.0, -2.0], [3.0, 2.0, -5.0]])
    metrics.update(logits, {"label": torch.tensor([[1, 0, 0], [1, 0, 1]]), "index": torch.tensor([0, 1])})
    rows = {name: torch.cat(parts) for name, parts in metrics.rows.items()}
    sure = torch.tensor([5.0, 1.0]).sigmoid().tolist()
    assert metrics.judged(rows) == [
        Judged(1, (0, 2), (0, 1), pytest.approx(sure[0])),
        Judged(0, (0,), (0,), pytest.approx(sure[1])),
    ]
