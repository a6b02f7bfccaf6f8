"""The segmentation task: data, model, predictions and samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.utils.data import Dataset

from eyetoy_image.classification.transforms import normalized
from eyetoy_image.dense.annotations import BadAnnotationsError, refuse_or_skip_bad
from eyetoy_image.dense.task import DenseTask
from eyetoy_image.figures import Panel
from eyetoy_image.segmentation.datasets import DATASETS
from eyetoy_image.segmentation.datasets.dataset import SegmentationDataset
from eyetoy_image.segmentation.datasets.findings import find_bad, ignored_summary, refuse_one_class, summary, void_hint
from eyetoy_image.segmentation.datasets.label_maps import IGNORED
from eyetoy_image.segmentation.datasets.label_set import LabelledPicture, SegmentationSource
from eyetoy_image.segmentation.figures import background, colored, draw_labels, enlarged
from eyetoy_image.segmentation.inference import probabilities
from eyetoy_image.segmentation.losses import dice_loss, labelled_cross_entropy, summed_cross_entropy
from eyetoy_image.segmentation.metrics import SegmentationMetrics
from eyetoy_image.segmentation.model import LAYOUT, OVER_STAGES, Segmenter, load_segmenter
from eyetoy_image.segmentation.portable import export_segmenter
from eyetoy_image.segmentation.recipe import SegmentationData, SegmentationRecipe
from eyetoy_image.segmentation.transforms import TrainingTransform
from eyetoy_train import Batch, Split
from eyetoy_train.export.portable import ExportModel
from eyetoy_train.utils.console import log

DRAWN_SIDE = 192


class Segmentation(DenseTask[Sequence[LabelledPicture]]):
    """Tell the class of every pixel through Encoder2D. Follows `eyetoy_train.Task`."""

    recipe: SegmentationRecipe
    data: SegmentationData
    source: SegmentationSource
    pipeline_tag = "image-segmentation"
    columns = 6
    exports_at_sizes = True
    score = "mIoU"
    """Name of the metric by which the best epoch is chosen."""

    def __init__(self, recipe: SegmentationRecipe) -> None:
        super().__init__(recipe, DATASETS)
        self.loss_parts: dict[str, Tensor] = {}

    @property
    def protocol(self) -> str:
        """The windows, sizes and mirroring of an evaluation."""
        evaluation = self.recipe.evaluation
        parts = ["whole pictures"] if evaluation.steps is None else []
        if evaluation.steps is not None:
            parts.append("windows of {0} x {0} pixels every {1}".format(*evaluation.steps))
        if self.data.short_side is not None:
            parts.append(f"with a short side of {self.data.short_side}")
        if self.data.long_side is not None:
            parts.append(f"and a long one of at most {self.data.long_side}")
        if evaluation.scales != [1.0]:
            parts.append(f"at scales of {', '.join(f'{scale:g}' for scale in evaluation.scales)}")
        return " ".join(parts) + (", mirrored too" if evaluation.flip else "")

    def without_bad(self, split: Split, found: Sequence[LabelledPicture]) -> Sequence[LabelledPicture]:
        """Return a split's pictures without those with bad label maps; or raise if the recipe says to refuse them."""
        place, table, pixels = f"{split} of {self.data.root}", self.source.set.table, Counter[int]()
        bad = find_bad(found, table, pixels=pixels)
        errors = list(bad.values())
        hint = void_hint(place, table, errors, pixels)
        refuse_or_skip_bad(errors, summary(place, found, errors), self.data.bad_annotations, hint)
        if split == "train":
            refuse_one_class(place, table, pixels)
        self.left_out["pictures with bad label maps"] += len(errors)
        self.seen[split] = {int(table.labels[value]) for value in pixels} - {IGNORED}
        if pixels and not self.seen[split]:
            values = " and ".join(map(str, sorted(pixels)))
            raise BadAnnotationsError(
                f"{place}: the label maps have ignored values alone ({values}); nothing can be scored"
            )
        ignored = ignored_summary(place, table, pixels)
        if ignored and PartialState().is_main_process:
            log(ignored)
        return [picture for picture in found if picture not in bad]

    def read(self, split: Split, *, training: bool) -> Dataset[Batch] | None:
        """Return a split, augmented or not; or None if there is no such split."""
        pictures = self.checked(split)
        if pictures is None:
            return None
        data = self.data
        transform = TrainingTransform(data.augmentation, data.short_side, data.long_side, data.crop_side)
        return SegmentationDataset(pictures, self.source.set.table, transform if training else None, data.background)

    def build_model(self) -> nn.Module:
        """Return the recipe's segmenter."""
        segmenter = Segmenter(self.recipe.model, self.recipe.segmenter, len(self.classes))
        return self.start(segmenter, LAYOUT, OVER_STAGES)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of the head and, with their weights, its Dice loss and the auxiliary head's loss."""
        recipe = self.recipe.segmenter
        outputs: list[Tensor] = model(normalized(torch.stack(batch["image"])))
        labels = torch.stack(batch["labels"])  # [B, H, W]; crops have one size, so that they can be stacked
        head, *others = (labelled_cross_entropy(logits, labels) for logits in outputs)
        dice = [recipe.dice_weight * dice_loss(outputs[0], labels)] if recipe.dice_weight else []
        auxiliary = [recipe.auxiliary_weight * loss for loss in others]
        named = (("loss_main", [head]), ("loss_dice", dice), ("loss_auxiliary", auxiliary))
        self.loss_parts = {name: part.detach() for name, parts in named for part in parts}
        return head + sum([*dice, *auxiliary])

    def num_averaged(self, batch: Batch) -> int:
        """Return the number of labelled pixels, over which `loss` is a mean; see `eyetoy_train.Task`.

        The Dice loss, which is one of a whole micro batch, is weighed alike.
        """
        return sum(int((labels != IGNORED).sum()) for labels in batch["labels"])

    def outputs(self, model: nn.Module, batch: Batch) -> dict[str, list[Any]]:
        """Return the most probable class of every pixel, uint8 `[height, width]`, and the loss, of each image.

        They are `labels` and `loss`, the head's cross-entropy summed over the labelled pixels.
        """
        outputs: dict[str, list[Any]] = {"labels": [], "loss": []}
        # One image at a time: an evaluation scores the original sizes, which differ.
        for image, truth in zip(batch["image"], batch["labels"], strict=True):
            found = self._probabilities(model, image)
            outputs["labels"].append(found.argmax(0).to(torch.uint8))
            outputs["loss"].append(float(summed_cross_entropy(found, truth)))
        return outputs

    def segment(self, model: nn.Module, image: Tensor) -> Tensor:
        """Return the most probable class of every pixel of an image, uint8 `[3, height, width]`."""
        return self._probabilities(model, image).argmax(0).to(torch.uint8)

    def _probabilities(self, model: nn.Module, image: Tensor) -> Tensor:
        sides = {"short_side": self.data.short_side, "long_side": self.data.long_side}
        return probabilities(model, image, self.recipe.evaluation, **sides)

    def metrics(self) -> SegmentationMetrics:
        """Return new metrics."""
        return SegmentationMetrics(self.classes)

    def load(self, folder: Path) -> nn.Module:
        """Return the model that `save` wrote."""
        return load_segmenter(folder)

    def export_model(
        self, model: nn.Module, *, size: tuple[int, int] | None = None, check_on: Sequence[Path] = ()
    ) -> ExportModel:
        """Return the model to export for pictures of a size, the training size by default; see `export_segmenter`."""
        side = self.data.crop_side
        size, colour = size or (side, side), self.data.background
        return export_segmenter(model, size, self.recipe.evaluation, check_on, background=colour)

    def draw_sample(self, model: nn.Module, sample: Batch, device: torch.device) -> Sequence[Panel]:
        """Return the picture, the truth, and what the model sees."""
        image, clear = sample["image"], background(self.classes)
        maps = {"truth": sample["labels"], "prediction": self.segment(model, image.to(device)).cpu()}
        panels = [Panel("picture", enlarged(image, DRAWN_SIDE))]
        for title, labels in maps.items():
            drawn, found = draw_labels(image, labels, least_side=DRAWN_SIDE, clear=clear), colored(labels, clear)
            panels.append(Panel(title if found else f"{title}: background", drawn, found))
        return panels
