"""COCO's average precision by pycocotools, which torchmetrics' `MeanAveragePrecision` uses as well."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from eyetoy_image.dense.masks import area
from eyetoy_image.detection.confusion import MATCHED, count_confusion
from eyetoy_image.detection.curves import draw_precisions
from eyetoy_image.detection.datasets.objects import Category
from eyetoy_image.detection.figures import DRAWN_SCORE
from eyetoy_train import Batch, Details, Table
from eyetoy_train.report.figures import draw_confusion

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
"""The first six of COCO's twelve scores; the others are recalls."""
COUNTED = 100
"""Detections of a class on an image that count, the best ones: the last of COCOeval's `maxDets`."""
KINDS = {"box": "bbox", "mask": "segm"}
RESULTS = {"box": ("bbox", "box_detections.json"), "mask": ("segmentation", "mask_detections.json")}
"""The key that a result must have, and the file of such results."""
LOSSES = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")
"""The parts of a detector's loss, as torchvision calls them."""
MOST_CLASSES_CONFUSED = 100
"""A figure of more classes than this would be illegible."""


class DetectionMetrics:
    """AP (mean over overlaps from 0.5 to 0.95), AP50, AP75, and AP of small, medium and large objects.

    Of each class, the `COUNTED` best detections on an image count. For boxes, `box_AP` and so on, and for masks,
    `mask_AP`. A score of -1 means that there is no such object. Average precision ranks all detections of a set and
    cannot be added up over parts of it. So the truth and the detections of each image are kept as lines of JSON, whose
    bytes are joined over processes (`eyetoy_train.engine.evaluation.RowMetrics`).

    Args:
        categories: the classes.
        with_masks: whether masks are scored.
    """

    def __init__(self, categories: Sequence[Category], *, with_masks: bool) -> None:
        self.categories = categories
        self.kinds = tuple(KINDS) if with_masks else ("box",)
        self.sums = {
            "losses": torch.zeros(len(LOSSES), dtype=torch.float64),
            "judged": torch.zeros((), dtype=torch.long),  # images with losses
        }
        # Empty parts, so that a process without images has something to join.
        self.rows = {"truths": [_to_bytes([])], "found": [_to_bytes([])]}

    def update(self, outputs: list[list[dict[str, Any]]] | dict[str, list[Any]], batch: Batch) -> None:
        """Add images.

        Args:
            outputs: the detections on each image, in COCO's results format; or a dict of these as `found`, and of the
                `losses` of each image by name, none for an image without objects.
            batch: the `truth` of each image.
        """
        found, losses = (outputs["found"], outputs["losses"]) if isinstance(outputs, dict) else (outputs, [])
        self.rows["truths"].append(_to_bytes(batch["truth"]))
        self.rows["found"].append(_to_bytes(list(itertools.chain(*found))))
        for one in filter(None, losses):
            self.sums["losses"] += torch.tensor([one.get(name, 0.0) for name in LOSSES], dtype=torch.float64)
            self.sums["judged"] += 1

    def compute(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores."""
        scores: dict[str, float] = {}
        truths, found = _from_bytes(sums["truths"]), _from_bytes(sums["found"])
        for kind in self.kinds:
            stats = self._evaluate(kind, truths, found).stats  # [12]
            scores |= {f"{kind}_{name}": float(value) for name, value in zip(NAMES, stats, strict=False)}
        return scores | self._losses(sums) | {"count": float(len(truths))}

    def _losses(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the parts of the loss, and their sum, as means over the images that have objects."""
        if "judged" not in sums or not sums["judged"]:
            return {}
        means = dict(zip(LOSSES, (sums["losses"].cpu() / int(sums["judged"])).tolist(), strict=True))
        if "mask" not in self.kinds:
            del means["loss_mask"]
        return {"loss": sum(means.values()), **means}

    def details(self, sums: dict[str, Tensor], folder: Path) -> Details:
        """Return the average precision of every class, curves and a confusion matrix, and write the detections.

        The files of detections have COCO's results format.
        """
        truths, found = _from_bytes(sums["truths"]), _from_bytes(sums["found"])
        # A file for boxes and one for masks: with both in one, pycocotools would use the boxes' areas for masks.
        for key, name in (RESULTS[kind] for kind in self.kinds):
            entries = [{part: one[part] for part in ("image_id", "category_id", key, "score")} for one in found]
            (folder / name).write_text(json.dumps(entries), encoding="utf-8")
        curves = {kind: self._precisions(kind, truths, found) for kind in self.kinds}
        columns = [_by_class(precisions) for precisions in curves.values()]
        annotations = [one for truth in truths for one in truth["annotations"]]
        objects = [  # without crowds, as in the average precision: of a class with nothing else it is -1
            sum(one["category_id"] == category.id and not one["iscrowd"] for one in annotations)
            for category in self.categories
        ]
        rows = [
            (category.name, count, *itertools.chain(*values))
            for category, count, *values in zip(self.categories, objects, *columns, strict=True)
            if count
        ]
        header = ("class", "objects", *(f"{kind} {name}" for kind in self.kinds for name in NAMES[:3]))
        table = Table("Classes", header, sorted(rows, key=lambda row: row[2]))
        return Details(tables=[table], pictures=self._draw(curves, truths, found, folder))

    def _draw(self, curves: Mapping[str, Tensor], truths: list[Any], found: list[Any], folder: Path) -> Sequence[Path]:
        """Write the curves of precision over recall, and the confusion matrix if the classes are not too many."""
        names = [category.name for category in self.categories]
        files = [folder / "precision_and_recall.png"]
        draw_precisions(curves, names, files[0])
        if len(names) <= MOST_CLASSES_CONFUSED:
            files.append(folder / "confusion.png")
            ids = [category.id for category in self.categories]
            confusion = count_confusion(truths, found, ids, least_score=DRAWN_SCORE)
            title = f"boxes with a score from {DRAWN_SCORE:g}, matched at an overlap of {MATCHED:g}"
            draw_confusion(confusion.tolist(), [*names, "background"], files[1], title=title)
        return files

    def _precisions(self, kind: str, truths: list[Any], found: list[Any]) -> Tensor:
        """Return the precisions of all overlaps, recalls and classes, in this order; -1 for a class without objects."""
        precision = self._evaluate(kind, truths, found).eval["precision"]  # [overlap, recall, class, area, detections]
        return torch.as_tensor(precision)[:, :, :, 0, -1]  # objects of all sizes, 100 detections per image

    def _evaluate(self, kind: str, truths: list[dict[str, Any]], found: list[dict[str, Any]]) -> COCOeval:
        images = sorted((truth["image"] for truth in truths), key=lambda image: image["id"])
        annotations = [one for truth in truths for one in truth["annotations"]]
        detections = [one | _measured(one, kind) for one in found]
        with redirect_stdout(io.StringIO()):  # pycocotools prints its progress and scores
            evaluation = COCOeval(self._index(images, annotations), self._index(images, detections), KINDS[kind])
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    def _index(self, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> COCO:
        coco = COCO()  # filled by hand, since its constructor takes a file only
        coco.dataset = {
            "images": images,
            # From 1 on: pycocotools takes the id 0 of a match for no match.
            "annotations": [one | {"id": number} for number, one in enumerate(annotations, 1)],
            "categories": [{"id": category.id, "name": category.name} for category in self.categories],
        }
        coco.createIndex()
        return coco


def _by_class(curves: Tensor) -> list[tuple[float, float, float]]:
    """Return AP, AP50 and AP75 of every class."""
    # Overlaps are 0.5, 0.55, ..., 0.95, so that 0.5 and 0.75 are at 0 and 5.
    return [(float(curve.mean()), float(curve[0].mean()), float(curve[5].mean())) for curve in curves.unbind(2)]


def _measured(detection: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the area of a detection, which decides whether it is small, medium or large."""
    box = detection["bbox"]
    return {"iscrowd": 0, "area": area(detection["segmentation"]) if kind == "mask" else box[2] * box[3]}


def _to_bytes(entries: Sequence[Any]) -> Tensor:
    lines = "".join(f"{json.dumps(entry)}\n" for entry in entries)
    return torch.from_numpy(np.frombuffer(lines.encode("ascii"), dtype=np.uint8).copy())


def _from_bytes(rows: Tensor) -> list[dict[str, Any]]:
    # One line of JSON for each entry, so that the bytes of all processes can simply be joined.
    return [json.loads(line) for line in bytes(rows.cpu().numpy()).splitlines()]
