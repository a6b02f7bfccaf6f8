"""Scores of a classifier whose samples have any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from eyetoy_train.types import Batch, Details, Table


class MultiLabelMetrics:
    """Mean average precision over the classes (`mAP`), F1 over all decisions at a probability of 0.5, and the loss.

    Average precision ranks all samples of a set, which no sums over parts of it allow: logits and labels are kept, five
    bytes for each sample and class, and joined over processes (`RowMetrics`). Classes of which no
    sample has the label have no average precision, and are left out of the mean.

    Args:
        num_classes: how many there are.
        classes: their names, for tables; numbers if not given.
    """

    def __init__(self, num_classes: int, classes: Sequence[str] | None = None) -> None:
        self.classes = [str(label) for label in range(num_classes)] if classes is None else list(classes)
        self.sums: dict[str, Tensor] = {}
        self.rows = {
            "logits": [torch.zeros(0, num_classes)],
            "labels": [torch.zeros(0, num_classes, dtype=torch.bool)],
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

    def compute(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores.

        Raises:
            ValueError: no sample has a label, so that there is no average precision.
        """
        logits, labels = sums["logits"].cpu(), sums["labels"].cpu()
        if not labels.any():
            raise ValueError(f"none of the {len(labels)} samples has a label; some of them should")
        precisions = _average_precisions(logits, labels)
        predicted = logits > 0
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


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the area under the curve of precision over recall, without interpolation.

    The sum of the precisions at every threshold, each weighted by what it adds to the recall, which is scikit-learn's
    `average_precision_score`. Samples of one score are on one side of a threshold together.

    Args:
        scores: the higher, the more likely, `[samples]`.
        labels: whether it is so, bool `[samples]`.

    Returns:
        a scalar, float64; not a number if no label is true.
    """
    ranked, order = scores.sort(descending=True)
    thresholds = torch.cat([ranked[1:] != ranked[:-1], torch.ones_like(labels[:1])]).nonzero()[:, 0]
    found = labels[order].double().cumsum(0)[thresholds]
    gains = found.diff(prepend=torch.zeros_like(found[:1]))
    return (gains * found / (thresholds + 1)).sum() / found[-1]


def _average_precisions(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the average precision of every class, `[classes]`."""
    return torch.stack([average_precision(*columns) for columns in zip(logits.T, labels.T, strict=True)])
