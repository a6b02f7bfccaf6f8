"""Scores of a classifier, as sums that processes can add up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from eyetoy_train.report.figures import draw_confusion
from eyetoy_train.types import Batch, Details, Table

MOST_CLASSES_DRAWN = 60
NUM_BINS = 15
"""Bins of confidence for the calibration error, as many as Guo et al. (On Calibration, ICML 2017) take."""


class ClassificationMetrics:
    """Accuracy (top-1), top-5, mean accuracy over classes, cross-entropy, and expected calibration error (`ece`).

    Args:
        num_classes: how many there are.
        classes: their names, for tables; numbers if not given.
    """

    def __init__(self, num_classes: int, classes: Sequence[str] | None = None) -> None:
        self.classes = [str(label) for label in range(num_classes)] if classes is None else list(classes)
        self.sums = {
            "confusion": torch.zeros(num_classes, num_classes, dtype=torch.long),  # [truth, prediction]
            "top5": torch.zeros((), dtype=torch.long),
            "loss": torch.zeros((), dtype=torch.float32),
            "bins": torch.zeros(NUM_BINS, 2, dtype=torch.long),  # samples whose confidence lies there, and right ones
            "confidence": torch.zeros(NUM_BINS, dtype=torch.float32),
        }

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Add logits `[batch, classes]` and labels `[batch]`.

        Raises:
            ValueError: a label is none of the classes.
        """
        logits, labels = outputs.float().cpu(), batch["label"].cpu()
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            wrong = [label for label in labels.tolist() if not 0 <= label < len(self.classes)]
            raise ValueError(f"labels must be from 0 to {len(self.classes) - 1}; got {wrong[0]}")
        ranked = logits.topk(min(5, logits.shape[-1])).indices
        ones = torch.ones_like(labels)
        self.sums["confusion"].index_put_((labels, ranked[:, 0]), ones, accumulate=True)
        self.sums["top5"] += (ranked == labels[:, None]).sum()
        self.sums["loss"] += F.cross_entropy(logits, labels, reduction="sum")
        confidence = logits.softmax(-1).amax(-1)
        places = (confidence * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1
        self.sums["bins"].index_add_(0, places, torch.stack([ones, (ranked[:, 0] == labels).long()], 1))
        self.sums["confidence"].index_add_(0, places, confidence)

    def compute(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores."""
        confusion = sums["confusion"].double().cpu()
        count, correct, truths = confusion.sum(), confusion.diagonal(), confusion.sum(1)
        seen = truths > 0
        return {
            "accuracy": float(correct.sum() / count),
            "top5": float(sums["top5"] / count),
            "mean_class_accuracy": float((correct[seen] / truths[seen]).mean()),
            "loss": float(sums["loss"] / count),
            "ece": float((sums["bins"][:, 1].cpu() - sums["confidence"].cpu()).abs().sum() / count),
            "count": float(count),
        }

    def details(self, sums: dict[str, Tensor], folder: Path) -> Details:
        """Return a table of the classes, and the confusion matrix as a picture where it is small enough to see."""
        confusion = sums["confusion"].long().cpu()
        rows = [self._row(confusion, label) for label in range(len(self.classes)) if confusion[label].any()]
        header = ("class", "samples", "recall", "precision", "most often taken for")
        table = Table("Classes", header, sorted(rows, key=lambda row: row[2]))
        tables = [table, _calibration(sums)]
        if len(self.classes) > MOST_CLASSES_DRAWN:
            return Details(tables=tables)
        picture = folder / "confusion.png"
        draw_confusion(confusion.tolist(), self.classes, picture)
        return Details(tables=tables, pictures=[picture])

    def _row(self, confusion: Tensor, label: int) -> tuple[str, int, float, float, str]:
        count, right = int(confusion[label].sum()), int(confusion[label, label])
        predicted = max(int(confusion[:, label].sum()), 1)
        others = confusion[label].clone()
        others[label] = 0
        worst = int(others.argmax())
        taken_for = f"{self.classes[worst]} ({int(others[worst])})" if others[worst] else ""
        return self.classes[label], count, right / count, right / predicted, taken_for


def _calibration(sums: dict[str, Tensor]) -> Table:
    """Return how often the model was right where it was so sure."""
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
