"""Scores of segmentation, exact over any number of processes: they add up one matrix of counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eyetoy_image.segmentation.datasets.label_maps import IGNORED
from eyetoy_train import Batch, Details, Table
from eyetoy_train.classification.metrics import MOST_CLASSES_DRAWN, most_often_taken_for
from eyetoy_train.report.figures import draw_confusion


class SegmentationMetrics:
    """Mean intersection over union (`mIoU`), pixel accuracy, and accuracy averaged over the classes.

    All pixels of a set are counted in one matrix, as in PASCAL VOC's benchmark (Everingham et al., IJCV 2015), so that
    larger images weigh more. Pixels labelled 255 are ignored. A class that is neither on a label map nor predicted has
    no intersection over union, and is left out of the mean. A class that is on no map has no accuracy.

    Not torchmetrics: its `MeanIoU` averages over images and does not ignore pixels; its `JaccardIndex` agrees with
    `mIoU`, but tables and figures need the matrix.

    Args:
        classes: names of the classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        self.sums = {
            "confusion": torch.zeros(len(classes), len(classes), dtype=torch.long),  # [truth, prediction]
            "pictures": torch.zeros((), dtype=torch.long),
            "loss": torch.zeros((), dtype=torch.float64),
            "judged": torch.zeros((), dtype=torch.long),  # images with a loss
        }

    def update(self, outputs: Sequence[Tensor] | dict[str, list[Any]], batch: Batch) -> None:
        """Add images.

        Args:
            outputs: the predicted labels of each image, `[height, width]`; or a dict of these as `labels`, and of the
                summed cross-entropy of each image as `loss`.
            batch: the `labels` of each image.
        """
        size = len(self.classes)
        predictions, losses = (outputs["labels"], outputs["loss"]) if isinstance(outputs, dict) else (outputs, [])
        self.sums["loss"] += sum(losses)
        self.sums["judged"] += len(losses)
        for prediction, truth in zip(predictions, batch["labels"], strict=True):
            labelled = truth != IGNORED
            # A pair (truth, prediction) as one number, so that one bincount fills the matrix.
            pairs = truth[labelled].long() * size + prediction[labelled].long()
            self.sums["confusion"] += torch.bincount(pairs, minlength=size**2).reshape(size, size).cpu()
        self.sums["pictures"] += len(predictions)

    def compute(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores.

        Raises:
            ValueError: no pixel has a label.
        """
        confusion = sums["confusion"].double().cpu()
        if not confusion.any():
            raise ValueError("no pixel of the set has a label; some of them should")
        # float64: counts of pixels exceed the integers that float32 has exactly, 16.8 million.
        right, truths, unions = confusion.diagonal(), confusion.sum(1), _unions(confusion)
        return {
            "mIoU": float((right[unions > 0] / unions[unions > 0]).mean()),
            "pixel_accuracy": float(right.sum() / confusion.sum()),
            "mean_accuracy": float((right[truths > 0] / truths[truths > 0]).mean()),
            **({"loss_main": float(sums["loss"].cpu() / confusion.sum())} if sums["judged"] else {}),
            "count": float(sums["pictures"]),
        }

    def details(self, sums: dict[str, Tensor], folder: Path) -> Details:
        """Return a table of the classes, the worst first, and a figure of the confusions if there are few classes."""
        confusion = sums["confusion"].long().cpu()
        unions = _unions(confusion)
        rows = [self._row(confusion, label) for label in range(len(self.classes)) if unions[label]]
        header = ("class", "pixels", "IoU", "accuracy", "precision", "most often taken for")
        tables = [Table("Classes", header, sorted(rows, key=lambda row: row[2]))]
        if len(self.classes) > MOST_CLASSES_DRAWN:
            return Details(tables=tables)
        figure = folder / "confusion.png"
        # Counts of pixels have too many digits for a cell.
        percent = (100 * confusion / confusion.sum(1, keepdim=True).clamp(1)).round().long()
        draw_confusion(percent.tolist(), self.classes, figure, title="percent of the pixels of each true class")
        return Details(tables=tables, pictures=[figure])

    def _row(self, confusion: Tensor, label: int) -> tuple[str, int, float, float, float, str]:
        right, pixels = int(confusion[label, label]), int(confusion[label].sum())
        predicted = int(confusion[:, label].sum())
        other, times = most_often_taken_for(confusion, label)
        taken_for = f"{self.classes[other]} ({times / pixels:.1%})" if times else ""
        iou = right / (pixels + predicted - right)
        return self.classes[label], pixels, iou, right / max(pixels, 1), right / max(predicted, 1), taken_for


def _unions(confusion: Tensor) -> Tensor:
    return confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
