"""Scores of a classifier: exact over any number of processes, which add up sums or join rows, each sample once.

Not torchmetrics: its metrics communicate by themselves, whereas the engine reduces everything once and checks the
number of samples. Its numbers would differ, too; see each class below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from eyetoy_train.report.figures import draw_confusion
from eyetoy_train.types import Batch, Details, Table

MOST_CLASSES_DRAWN = 60
NUM_BINS = 15
"""Bins of confidence for the calibration error."""


@dataclass(frozen=True)
class Judged:
    """What a model has predicted for a sample."""

    index: int
    """Place of the sample in its dataset."""
    truth: tuple[int, ...]
    """Numbers of its classes."""
    prediction: tuple[int, ...]
    confidence: float
    """Probability of the prediction; with several labels, that of the surest wrong decision, or, where all are right,
    of the least sure one."""

    @property
    def is_right(self) -> bool:
        """Whether the prediction is the truth."""
        return self.truth == self.prediction

    @property
    def rank(self) -> tuple[bool, float, int]:
        """Orders mistakes first, the surest of them first; then what is right, the least sure first."""
        return self.is_right, self.confidence if self.is_right else -self.confidence, self.index


class ClassificationMetrics:
    """Accuracy (top-1), top-5, mean accuracy over classes, cross-entropy, and expected calibration error (`ece`).

    The calibration error uses 15 bins that are open below (Guo et al., On Calibration of Modern Neural Networks, 2017).
    torchmetrics' bins are open above, confidences of exactly 1 get an extra bin, and it keeps every sample.

    Args:
        num_classes: number of classes.
        classes: their names, for tables; numbers by default.
    """

    def __init__(self, num_classes: int, classes: Sequence[str] | None = None) -> None:
        self.classes = [str(label) for label in range(num_classes)] if classes is None else list(classes)
        self.sums = {
            "confusion": torch.zeros(num_classes, num_classes, dtype=torch.long),  # [truth, prediction]
            "top5": torch.zeros((), dtype=torch.long),
            "loss": torch.zeros((), dtype=torch.float32),
            "bins": torch.zeros(NUM_BINS, 2, dtype=torch.long),  # [bin, (samples in it, right ones of them)]
            "confidence": torch.zeros(NUM_BINS, dtype=torch.float32),  # [bin], summed over its samples
        }
        # An empty part, so that a process without samples has something to join. float64 has all indices exactly.
        self.rows = {"judged": [torch.zeros(0, 4, dtype=torch.float64)]}  # [sample, (index, truth, prediction, sure)]

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Add logits `[batch, classes]` and labels `[batch]`.

        Raises:
            ValueError: a label is not from 0 to `num_classes` - 1.
        """
        logits, labels = outputs.float().cpu(), batch["label"].cpu()
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            wrong = [label for label in labels.tolist() if not 0 <= label < len(self.classes)]
            raise ValueError(f"labels must be from 0 to {len(self.classes) - 1}; got {wrong[0]}")
        ranked = logits.topk(min(5, logits.shape[-1])).indices  # [batch, 5], the best first
        ones = torch.ones_like(labels)
        # accumulate: pairs of (truth, prediction) occur several times in a batch.
        self.sums["confusion"].index_put_((labels, ranked[:, 0]), ones, accumulate=True)
        self.sums["top5"] += (ranked == labels[:, None]).sum()
        self.sums["loss"] += F.cross_entropy(logits, labels, reduction="sum")
        confidence = logits.softmax(-1).amax(-1)
        # ceil: a confidence between two bins belongs to the lower one. The clamp is for rounding to above 1.
        places = (confidence * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1
        self.sums["bins"].index_add_(0, places, torch.stack([ones, (ranked[:, 0] == labels).long()], 1))
        self.sums["confidence"].index_add_(0, places, confidence)
        if "index" in batch:
            judged = [batch["index"].cpu(), labels, ranked[:, 0], confidence]
            self.rows["judged"].append(torch.stack([column.double() for column in judged], 1))

    def judged(self, sums: dict[str, Tensor]) -> list[Judged]:
        """Return what was predicted for each sample, the most telling first; see `Judged.rank`."""
        rows = sums["judged"].tolist()
        found = [Judged(int(index), (int(truth),), (int(guess),), sure) for index, truth, guess, sure in rows]
        return sorted(found, key=lambda one: one.rank)

    def compute(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores."""
        confusion = sums["confusion"].double().cpu()
        count, correct, truths = confusion.sum(), confusion.diagonal(), confusion.sum(1)
        seen = truths > 0  # a class without samples has no accuracy
        return {
            "accuracy": float(correct.sum() / count),
            "top5": float(sums["top5"] / count),
            "mean_class_accuracy": float((correct[seen] / truths[seen]).mean()),
            "loss": float(sums["loss"] / count),
            # The mean over bins of |accuracy - confidence|, weighted by samples / count: the samples of a bin cancel.
            "ece": float((sums["bins"][:, 1].cpu() - sums["confidence"].cpu()).abs().sum() / count),
            "count": float(count),
        }

    def details(self, sums: dict[str, Tensor], folder: Path) -> Details:
        """Return a table of the classes, the worst first, and a figure of the confusion matrix if it is small."""
        confusion = sums["confusion"].long().cpu()
        rows = []
        for label, name in enumerate(self.classes):
            count, right = int(confusion[label].sum()), int(confusion[label, label])
            if not count:
                continue
            predicted = max(int(confusion[:, label].sum()), 1)  # a class that is never predicted has precision 0
            other, times = most_often_taken_for(confusion, label)
            taken_for = f"{self.classes[other]} ({times})" if times else ""
            rows.append((name, count, right / count, right / predicted, taken_for))
        header = ("class", "samples", "recall", "precision", "most often taken for")
        table = Table("Classes", header, sorted(rows, key=lambda row: row[2]))
        tables = [table, _calibration(sums)]
        if len(self.classes) > MOST_CLASSES_DRAWN:
            return Details(tables=tables)
        figure = folder / "confusion.png"
        draw_confusion(confusion.tolist(), self.classes, figure)
        return Details(tables=tables, pictures=[figure])


class MultiLabelMetrics:
    """Mean average precision over the classes (`mAP`), F1 over all decisions at a probability of 0.5, and the loss.

    Average precision ranks all samples of a set and cannot be added up over parts of it. So logits and labels are kept,
    five bytes for each sample and class, and joined over processes (`RowMetrics`). Classes without samples are left out
    of the mean. torchmetrics ranks probabilities in float32, where logits above 17 are all 1, and takes the sigmoid of
    a batch only if one of its logits is outside of 0 to 1, so that the batch size may change the ranking.

    Args:
        num_classes: number of classes.
        classes: their names, for tables; numbers by default.
    """

    def __init__(self, num_classes: int, classes: Sequence[str] | None = None) -> None:
        self.classes = [str(label) for label in range(num_classes)] if classes is None else list(classes)
        self.sums: dict[str, Tensor] = {}
        # Empty parts, so that a process without samples has something to join.
        self.rows = {
            "logits": [torch.zeros(0, num_classes)],
            "labels": [torch.zeros(0, num_classes, dtype=torch.bool)],
            "indices": [torch.zeros(0, dtype=torch.long)],
        }

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Add logits `[batch, classes]` and labels, zeros and ones of the same shape.

        Raises:
            ValueError: the labels are of another shape, or neither zeros nor ones.
        """
        logits, labels = outputs.float().cpu(), batch["label"].cpu()
        if labels.shape != logits.shape:
            raise ValueError(f"labels must be zeros and ones {list(logits.shape)}; got {list(labels.shape)}")
        if not ((labels == 0) | (labels == 1)).all():
            raise ValueError(f"labels must be zeros and ones; got {float(labels[(labels != 0) & (labels != 1)][0])}")
        self.rows["logits"].append(logits)
        self.rows["labels"].append(labels.bool())
        if "index" in batch:
            self.rows["indices"].append(batch["index"].cpu())

    def judged(self, sums: dict[str, Tensor]) -> list[Judged]:
        """Return what was predicted for each sample, the most telling first; see `Judged.rank`."""
        logits, labels = sums["logits"].cpu(), sums["labels"].cpu()
        wrong = (logits > 0) != labels
        sure = logits.abs()
        surest = torch.where(wrong.any(1), sure.where(wrong, 0.0).amax(1), sure.amin(1)).sigmoid()
        found = [
            Judged(index, _numbers(truth), _numbers(row > 0), confidence)
            for index, truth, row, confidence in zip(
                sums["indices"].tolist(), labels, logits, surest.tolist(), strict=True
            )
        ]
        return sorted(found, key=lambda one: one.rank)

    def compute(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores.

        Raises:
            ValueError: no sample has a label, so no class has an average precision.
        """
        logits, labels = sums["logits"].cpu(), sums["labels"].cpu()
        if not labels.any():
            raise ValueError(f"none of the {len(labels)} samples has a label; some of them should")
        precisions = _average_precisions(logits, labels)
        predicted = logits > 0  # a probability above 0.5
        return {
            "mAP": float(precisions[labels.any(0)].mean()),
            "f1": float(2 * (predicted & labels).sum() / (predicted.sum() + labels.sum())),
            "loss": float(F.binary_cross_entropy_with_logits(logits, labels.float())),
            "count": float(len(labels)),
        }

    def details(self, sums: dict[str, Tensor], folder: Path) -> Details:
        """Return a table of the classes, the worst first; `by chance` is the average precision of a random ranking."""
        labels = sums["labels"].cpu()
        precisions, counts = _average_precisions(sums["logits"].cpu(), labels), labels.sum(0)
        rows = [
            (name, int(count), float(precision), float(count / len(labels)))
            for name, count, precision in zip(self.classes, counts, precisions, strict=True)
            if count
        ]
        header = ("class", "samples", "average precision", "by chance")
        return Details(tables=[Table("Classes", header, sorted(rows, key=lambda row: row[2]))])


def _numbers(is_label: Tensor) -> tuple[int, ...]:
    """Return the numbers of the classes that a row of truths `[classes]` marks."""
    return tuple(is_label.nonzero().flatten().tolist())


def most_often_taken_for(confusion: Tensor, label: int) -> tuple[int, int]:
    """Return the wrong class most often predicted for a class, and how often.

    Args:
        confusion: `[truth, prediction]`.
        label: the true class.
    """
    others = confusion[label].clone()
    others[label] = 0  # right predictions do not count
    other = int(others.argmax())
    return other, int(others[other])


def _calibration(sums: dict[str, Tensor]) -> Table:
    """Return a table of each bin's mean confidence and accuracy."""
    rows = [
        (
            f"{place / NUM_BINS:.0%} to {(place + 1) / NUM_BINS:.0%}",
            int(count),
            float(sure / count),
            float(right / count),
        )
        for place, ((count, right), sure) in enumerate(zip(sums["bins"].cpu(), sums["confidence"].cpu(), strict=True))
        if count
    ]
    return Table("Calibration", ("confidence", "samples", "mean confidence", "accuracy"), rows)


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the area under the curve of precision over recall, without interpolation.

    The precisions at all thresholds, each weighted by its gain in recall, as scikit-learn's `average_precision_score`.
    Samples with equal scores are always on the same side of a threshold.

    Args:
        scores: higher for more likely positives, `[samples]`.
        labels: true for positives, bool `[samples]`.

    Returns:
        a scalar, float64; NaN without positives.
    """
    ranked, order = scores.sort(descending=True)
    # The last rank of each score: a threshold cannot cut between samples of the same score.
    # For example scores [3, 2, 2, 1] have thresholds after ranks [0, 2, 3].
    thresholds = torch.cat([ranked[1:] != ranked[:-1], torch.ones_like(labels[:1])]).nonzero()[:, 0]
    found = labels[order].double().cumsum(0)[thresholds]
    # found: true samples above each threshold; thresholds + 1: all samples above it. Precision is their quotient.
    gains = found.diff(prepend=torch.zeros_like(found[:1]))
    return (gains * found / (thresholds + 1)).sum() / found[-1]


def _average_precisions(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the average precision of every class, `[classes]`."""
    return torch.stack([average_precision(*columns) for columns in zip(logits.T, labels.T, strict=True)])
