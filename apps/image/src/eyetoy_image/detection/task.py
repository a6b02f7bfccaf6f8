"""The detection task: data, model, predictions and samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from eyetoy_image.dense.annotations import refuse_or_skip_bad
from eyetoy_image.dense.masks import decode, encode
from eyetoy_image.dense.task import DenseTask
from eyetoy_image.detection.comparison import export_detector
from eyetoy_image.detection.datasets import DATASETS
from eyetoy_image.detection.datasets.coco import Category, CocoSet, CocoSource
from eyetoy_image.detection.datasets.dataset import DetectionDataset
from eyetoy_image.detection.datasets.findings import find_bad, summary, without
from eyetoy_image.detection.figures import Objects, draw_objects
from eyetoy_image.detection.metrics import DetectionMetrics
from eyetoy_image.detection.model import Detector, load_detector
from eyetoy_image.detection.recipe import DetectionData, DetectionRecipe
from eyetoy_image.detection.transforms import TrainingTransform
from eyetoy_train import Batch, Split
from eyetoy_train.export.portable import ExportModel

CATEGORIES = "categories.json"
DRAWN_SCORE = 0.5
"""Least score of an object that is drawn."""
DRAWN_SIDE = 256


class Detection(DenseTask[CocoSet]):
    """Find objects, and their masks if the recipe says so, through Encoder2D. Follows `eyetoy_train.Task`."""

    recipe: DetectionRecipe
    data: DetectionData
    source: CocoSource
    pipeline_tag = "object-detection"
    columns = 4
    exports_at_sizes = True

    def __init__(self, recipe: DetectionRecipe) -> None:
        super().__init__(recipe, DATASETS)
        self.with_masks = recipe.detector.has_masks

    @property
    def score(self) -> str:
        """Name of the metric by which the best epoch is chosen."""
        return "mask_AP" if self.with_masks else "box_AP"

    @property
    def protocol(self) -> str:
        """The size of images in an evaluation."""
        return f"pictures with a short side of {self.data.short_side} and a long one of at most {self.data.long_side}"

    @property
    def categories(self) -> Sequence[Category]:
        """The classes with their ids, in the order of their labels, which begin at 1."""
        return self.source.categories

    def without_bad(self, split: Split, found: CocoSet) -> CocoSet:
        """Return a split without its bad annotations; or raise if the recipe says to refuse them."""
        findings = find_bad(found, self.categories, with_masks=self.with_masks)
        refuse_or_skip_bad(findings, summary(found, findings), self.data.bad_annotations)
        return without(found, findings)

    def dataset(self, split: Split) -> Dataset[Batch] | None:
        """Return a split, or None if there is no such split."""
        coco = self.checked(split)
        if coco is None:
            return None
        labels = {category.id: label for label, category in enumerate(self.categories, 1)}
        if split != "train":
            return DetectionDataset(coco.pictures, labels, with_masks=self.with_masks)
        transform = TrainingTransform(self.data.augmentation, self.data.long_side)
        # Images without objects are left out of training only; an evaluation counts detections on them as wrong.
        pictures = [
            picture
            for picture in coco.pictures
            if self.data.keep_empty or any(not annotation.is_crowd for annotation in picture.annotations)
        ]
        return DetectionDataset(pictures, labels, with_masks=self.with_masks, transform=transform)

    def build_model(self) -> nn.Module:
        """Return the recipe's detector."""
        sizes = (self.data.short_side, self.data.long_side)
        return Detector(self.recipe.model, self.recipe.detector, len(self.categories), sizes)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of the losses of the proposal network and of the heads."""
        losses: dict[str, Tensor] = model(to_input(batch["image"]), batch["target"])
        return torch.stack(list(losses.values())).sum()

    def outputs(self, model: nn.Module, batch: Batch) -> list[list[dict[str, Any]]]:
        """Return the objects of each image, the best first, as entries of COCO's results format."""
        found, ids = self.find(model, batch["image"]), [category.id for category in self.categories]
        truths = batch["truth"]
        return [results(objects, truth["image"]["id"], ids) for objects, truth in zip(found, truths, strict=True)]

    def find(self, model: nn.Module, images: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Find objects on images, uint8 `[3, height, width]` each.

        Returns:
            for each image `boxes`, `labels` and `scores`, as tensors on the CPU, and, of a model with masks, `masks` as
            run lengths.
        """
        found = []
        # One image at a time. In a batch, images are padded to the largest, so that the result would depend on the
        # others; and torchvision enlarges masks to whole images, 100 of them each, which would fill the memory.
        for image in images:
            (objects,) = model(to_input([image]))
            result: dict[str, Any] = {name: objects[name].float().cpu() for name in ("boxes", "scores")}
            result["labels"] = objects["labels"].cpu()
            if self.with_masks:
                result["masks"] = encode(objects["masks"][:, 0] > 0.5)  # of [objects, 1, height, width]
            found.append(result)
        return found

    def metrics(self) -> DetectionMetrics:
        """Return new metrics."""
        return DetectionMetrics(self.categories, with_masks=self.with_masks)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model, the classes with their ids, and the recipe."""
        super().save(model, folder)
        categories = [{"id": category.id, "name": category.name} for category in self.categories]
        (folder / CATEGORIES).write_text(json.dumps(categories, indent=2), encoding="utf-8")

    def load(self, folder: Path) -> nn.Module:
        """Return the model that `save` wrote."""
        return load_detector(folder)

    def export_model(
        self, model: nn.Module, *, size: tuple[int, int] | None = None, check_on: Sequence[Path] = ()
    ) -> ExportModel:
        """Return the model to export; see `export_detector`."""
        return export_detector(cast("Detector", model), size, check_on)

    def draw_sample(self, model: nn.Module, sample: Batch, device: torch.device) -> Sequence[Tensor]:
        """Return the truth, and what the model finds."""
        image = sample["image"]
        (found,) = self.find(model, [image.to(device)])
        pair = (self._drawable_truth(sample["truth"]), drawable(found, self.classes, image, DRAWN_SCORE))
        return [draw_objects(image, objects, least_side=DRAWN_SIDE) for objects in pair]

    def _drawable_truth(self, truth: dict[str, Any]) -> Objects:
        numbers = {category.id: label for label, category in enumerate(self.categories, 1)}
        annotations = truth["annotations"]
        boxes = torch.tensor([one["bbox"] for one in annotations], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([numbers[one["category_id"]] for one in annotations]).long()
        masks = None
        if self.with_masks:
            grid = (truth["image"]["height"], truth["image"]["width"])
            masks = decode([one["segmentation"] for one in annotations], *grid).bool()
        return Objects(boxes, labels, [self.classes[label - 1] for label in labels.tolist()], masks)


def to_input(images: Sequence[Tensor]) -> list[Tensor]:
    """Return the input of a detector for uint8 images: values from 0 to 1. The detector normalizes them."""
    return [image.float() / 255 for image in images]


def results(objects: dict[str, Any], picture: int | str, categories: Sequence[int]) -> list[dict[str, Any]]:
    """Return the objects of an image as entries of COCO's results format.

    Args:
        objects: from `Detection.find`.
        picture: the image's id.
        categories: ids of the classes, in the order of their labels.
    """
    boxes = objects["boxes"].clone()
    boxes[:, 2:] -= boxes[:, :2]  # from right and bottom to width and height
    entries = [
        {"image_id": picture, "category_id": categories[label - 1], "bbox": box, "score": score}
        for box, label, score in zip(
            boxes.tolist(), objects["labels"].tolist(), objects["scores"].tolist(), strict=True
        )
    ]
    if "masks" not in objects:
        return entries
    return [entry | {"segmentation": mask} for entry, mask in zip(entries, objects["masks"], strict=True)]


def drawable(objects: dict[str, Any], classes: Sequence[str], image: Tensor, least_score: float) -> Objects:
    """Return the objects of an image (see `Detection.find`) with at least a score, for `draw_objects`."""
    sure = objects["scores"] >= least_score
    labels = objects["labels"][sure]
    captions = [
        f"{classes[label - 1]} {score:.0%}"
        for label, score in zip(labels.tolist(), objects["scores"][sure].tolist(), strict=True)
    ]
    masks = None
    if "masks" in objects:
        chosen = [mask for mask, is_sure in zip(objects["masks"], sure.tolist(), strict=True) if is_sure]
        masks = decode(chosen, *image.shape[-2:]).bool()
    return Objects(objects["boxes"][sure], labels, captions, masks)
