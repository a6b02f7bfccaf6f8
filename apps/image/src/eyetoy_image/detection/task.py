"""The detection task: data, model, predictions and samples."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch
from accelerate import PartialState
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data import Dataset

from eyetoy_image.dense.annotations import BadAnnotationsError, refuse_or_skip_bad
from eyetoy_image.dense.masks import decode, encode
from eyetoy_image.dense.pyramids import map_strides
from eyetoy_image.dense.task import DenseTask
from eyetoy_image.detection.anchors import fit_anchors
from eyetoy_image.detection.comparison import export_detector
from eyetoy_image.detection.datasets import DATASETS
from eyetoy_image.detection.datasets.dataset import DetectionDataset
from eyetoy_image.detection.datasets.findings import find_bad, summary, without
from eyetoy_image.detection.datasets.objects import Category, CocoSet, ObjectSource, Picture
from eyetoy_image.detection.figures import DRAWN_SCORE, Objects, draw_objects
from eyetoy_image.detection.metrics import COUNTED, DetectionMetrics
from eyetoy_image.detection.model import LAYOUT, OVER_STAGES, Detector, load_detector
from eyetoy_image.detection.recipe import DetectionData, DetectionRecipe, DetectorRecipe
from eyetoy_image.detection.transforms import TrainingTransform
from eyetoy_image.figures import Panel
from eyetoy_train import Batch, Split
from eyetoy_train.export.portable import ExportModel
from eyetoy_train.utils.console import log
from eyetoy_train.utils.seeds import derive_seed, kept_generator, seed_generators

CATEGORIES = "categories.json"
DRAWN_SIDE = 256


class Detection(DenseTask[CocoSet]):
    """Find objects, and their masks if the recipe says so, through Encoder2D. Follows `eyetoy_train.Task`."""

    recipe: DetectionRecipe
    data: DetectionData
    source: ObjectSource
    pipeline_tag = "object-detection"
    columns, first_label = 4, 1  # 0 is the background
    exports_at_sizes = True

    def __init__(self, recipe: DetectionRecipe) -> None:
        super().__init__(recipe, DATASETS)
        self.loss_parts: dict[str, Tensor] = {}

    @cached_property
    def kind(self) -> Literal["mask_rcnn", "faster_rcnn"]:
        """The kind of the detector: the recipe's, or the one that fits the annotations."""
        kind = self.recipe.detector.kind
        if kind == "auto":
            return "mask_rcnn" if self.source.has_masks else "faster_rcnn"
        return kind

    @property
    def with_masks(self) -> bool:
        """Whether masks are learned and scored."""
        return self.kind == "mask_rcnn"

    @cached_property
    def detector(self) -> DetectorRecipe:
        """The recipe's detector, with the kind and the anchors that it leaves to the data."""
        recipe = replace(self.recipe.detector, kind=self.kind)
        if recipe.anchor_sizes != "auto":
            return recipe
        found = self.checked("train")
        pictures = () if found is None else found.pictures
        strides = map_strides(self.recipe.model, recipe.out_indices)
        strides.append(2 * strides[-1])  # of the level that the feature pyramid network adds
        return replace(recipe, anchor_sizes=fit_anchors(pictures, self.data, strides))

    @property
    def score(self) -> str:
        """Name of the metric by which the best epoch is chosen."""
        return "mask_AP" if self.with_masks else "box_AP"

    @property
    def protocol(self) -> str:
        """The size of images in an evaluation."""
        return f"pictures with a short side of {self.data.short_side} and a long one of at most {self.data.long_side}"

    @property
    def sizes(self) -> tuple[int, int]:
        """The short side of an image in an evaluation, and the most pixels of its long side."""
        return self.data.short_side, self.data.long_side

    @property
    def categories(self) -> Sequence[Category]:
        """The classes with their ids, in the order of their labels, which begin at 1."""
        return self.source.categories

    def prepare(self) -> None:
        """Compose the digits if need be, look at all annotations, and fit to them what the recipe leaves to the data.

        Errors as in `DenseTask.prepare`.
        """
        super().prepare()
        if PartialState().is_main_process:
            for line in self._fitted():
                log(line, file=sys.stderr)

    def _fitted(self) -> Iterator[str]:
        """Yield lines about what is fitted to the data, and about sizes that do not fit each other."""
        if self.recipe.detector.kind == "auto":
            found = "some annotations have masks" if self.with_masks else "no annotation has a mask"
            yield f"detector.kind: {self.kind}, since {found}"
        if self.recipe.detector.anchor_sizes == "auto":
            yield f"detector.anchor_sizes: {self.detector.anchor_sizes}, fitted to the boxes of the training set"
        if self.recipe.detector.max_detections > COUNTED:
            yield (
                f"detector.max_detections: {self.recipe.detector.max_detections} boxes of an image are kept; average "
                f"precision counts the {COUNTED} best of each class, as COCO's does"
            )
        short_side, own = self.data.short_side, self.data.augmentation.short_sides
        if own and not min(own) / 2 <= short_side <= 2 * max(own):
            yield (
                f"data.augmentation.short_sides: training is at {min(own)} to {max(own)} pixels and evaluation at "
                f"{short_side}; without short_sides, training follows data.short_side"
            )

    def without_bad(self, split: Split, found: CocoSet) -> CocoSet:
        """Return a split without its bad annotations; or raise if the recipe says to refuse them.

        Raises:
            BadAnnotationsError: there are bad ones; or the detector has a head for masks, and the set has boxes alone.
        """
        if self.with_masks and self.source.has_boxes_alone:
            raise BadAnnotationsError(
                f"no annotation of {self.data.root} has a mask, and detector.kind is mask_rcnn; for boxes alone take "
                "--detector.kind faster_rcnn"
            )
        findings = find_bad(found, self.categories, with_masks=self.with_masks)
        refuse_or_skip_bad(findings, summary(found, findings), self.data.bad_annotations)
        kept = without(found, findings)
        learned = [picture for picture in kept.pictures if _is_learned(picture)]
        labels = {category.id: label for label, category in enumerate(self.categories)}
        self.seen[split] = {
            labels[annotation.content["category_id"]]
            for picture in learned
            for annotation in picture.annotations
            if not annotation.is_crowd
        }
        self.left_out["bad annotations and pictures"] += len(findings)
        if split == "train" and not self.data.keep_empty:
            self.left_out["training pictures without an object"] += len(kept.pictures) - len(learned)
        return kept

    def read(self, split: Split, *, training: bool) -> Dataset[Batch] | None:
        """Return a split, augmented or not; or None if there is no such split."""
        coco = self.checked(split)
        if coco is None:
            return None
        labels = {category.id: label for label, category in enumerate(self.categories, 1)}
        options: dict[str, Any] = {"with_masks": self.with_masks, "background": self.data.background}
        if not training:
            return DetectionDataset(coco.pictures, labels, **options)
        transform = TrainingTransform(self.data.augmentation, self.data.long_side, self.data.short_side)
        # Images without objects are left out of training only; an evaluation counts detections on them as wrong.
        pictures = [picture for picture in coco.pictures if self.data.keep_empty or _is_learned(picture)]
        if not pictures:
            raise ValueError(f"no training picture of {self.data.root} has an object to learn")
        return DetectionDataset(pictures, labels, transform=transform, **options)

    def build_model(self) -> nn.Module:
        """Return the recipe's detector."""
        detector = Detector(self.recipe.model, self.detector, len(self.categories), self.sizes)
        return self.start(detector, LAYOUT, OVER_STAGES)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of the losses of the proposal network and of the heads."""
        losses: dict[str, Tensor] = model(to_input(batch["image"]), batch["target"])
        self.loss_parts = {name: loss.detach() for name, loss in losses.items()}
        return torch.stack(list(losses.values())).sum()

    def outputs(self, model: nn.Module, batch: Batch) -> dict[str, list[Any]]:
        """Return the `found` objects of each image, the best first, in COCO's results format, and the `losses`."""
        ids = [category.id for category in self.categories]
        outputs: dict[str, list[Any]] = {"found": [], "losses": []}
        for image, truth in zip(batch["image"], batch["truth"], strict=True):
            objects, losses = self._find_and_judge(model, image, truth)
            outputs["found"].append(results(objects, truth["image"]["id"], ids))
            outputs["losses"].append(losses)
        return outputs

    def _find_and_judge(
        self, model: nn.Module, image: Tensor, truth: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """Return the objects of an image and the losses; without an object to learn there are no losses."""
        learned = [one for one in truth["annotations"] if not one["iscrowd"]]
        if not learned:
            return self.find(model, [image])[0], {}
        known = self._true_objects(truth["image"], learned)
        target = {"boxes": known.boxes, "labels": known.labels}
        if known.masks is not None:
            target["masks"] = known.masks.to(torch.uint8)
        # The losses are of proposals that are drawn at random. Seeded by the image, they are the same in any batch and
        # on any process. A GPU's generator stays where it is then; the engine seeds it before each pass of a training.
        with kept_generator():
            seed_generators(derive_seed(self.recipe.seed, "losses", str(truth["image"]["id"])), image.device)
            (objects,), losses = model(to_input([image]), [send_to_device(target, image.device)], with_losses=True)
        return self._read(objects), {name: float(loss) for name, loss in losses.items()}

    def find(self, model: nn.Module, images: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Find objects on images, uint8 `[3, height, width]` each.

        Returns:
            for each image `boxes`, `labels` and `scores`, as tensors on the CPU, and, of a model with masks, `masks` as
            run lengths.
        """
        found = []
        # One image at a time. In a batch, images are padded to the largest, so that the result would depend on the
        # others; and masks are enlarged to whole images, 100 of them each, which would fill the memory.
        for image in images:
            (objects,) = model(to_input([image]))
            found.append(self._read(objects))
        return found

    def _read(self, objects: dict[str, Tensor]) -> dict[str, Any]:
        """Return the objects of an image as `find` does, of the model's output."""
        result: dict[str, Any] = {name: objects[name].float().cpu() for name in ("boxes", "scores")}
        result["labels"] = objects["labels"].cpu()
        if self.with_masks:
            result["masks"] = encode(objects["masks"][:, 0] > 0.5)  # of [objects, 1, height, width]
        return result

    def metrics(self) -> DetectionMetrics:
        """Return new metrics."""
        return DetectionMetrics(self.categories, with_masks=self.with_masks)

    @property
    def saved_recipe(self) -> DetectionRecipe:
        """The recipe with what was fitted to the data, so that a checkpoint is opened without them."""
        return replace(self.recipe, detector=self.detector)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model, the classes with their ids, and the recipe."""
        super().save(model, folder)
        categories = [{"id": category.id, "name": category.name} for category in self.categories]
        (folder / CATEGORIES).write_text(json.dumps(categories, indent=2), encoding="utf-8")

    def load(self, folder: Path) -> nn.Module:
        """Return the model that `save` wrote, with the recipe's sizes and thresholds of an evaluation."""
        return load_detector(folder).evaluate_by(self.recipe.detector, self.sizes)

    def export_model(
        self, model: nn.Module, *, size: tuple[int, int] | None = None, check_on: Sequence[Path] = ()
    ) -> ExportModel:
        """Return the model to export; see `export_detector`."""
        return export_detector(cast("Detector", model), size, check_on, background=self.data.background)

    def draw_sample(self, model: nn.Module, sample: Batch, device: torch.device) -> Sequence[Panel]:
        """Return the truth, and what the model finds."""
        image, truth = sample["image"], sample["truth"]
        (found,) = self.find(model, [image.to(device)])
        known = self._true_objects(truth["image"], truth["annotations"])
        seen = drawable(found, self.classes, image, DRAWN_SCORE)
        title = "prediction" if len(seen.boxes) else "prediction: nothing"
        return [
            Panel(name, draw_objects(image, objects, least_side=DRAWN_SIDE), frozenset(objects.labels.tolist()))
            for name, objects in (("truth", known), (f"{title} (score from {DRAWN_SCORE:.0%})", seen))
        ]

    def _true_objects(self, image: dict[str, Any], annotations: Sequence[dict[str, Any]]) -> Objects:
        """Return annotations of an image, in COCO's format, as objects named by their classes."""
        numbers = {category.id: label for label, category in enumerate(self.categories, 1)}
        boxes = torch.tensor([one["bbox"] for one in annotations], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([numbers[one["category_id"]] for one in annotations]).long()
        masks = None
        if self.with_masks:
            grid = (image["height"], image["width"])
            masks = decode([one["segmentation"] for one in annotations], *grid).bool()
        return Objects(boxes, labels, [self.classes[label - 1] for label in labels.tolist()], masks)


def _is_learned(picture: Picture) -> bool:
    """Whether a picture has an object that is learned: crowds are not."""
    return any(not annotation.is_crowd for annotation in picture.annotations)


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
