"""The heads of boxes and masks, with masks at the very place of their objects, as Detectron2 and MMDetection have them.

torchvision's own code is older. Its targets of the mask head lie half a pixel to the left of the objects and above, and
it puts a mask into whole pixels, one pixel larger than its box. Perfect masks of ellipses 12 to 32 pixels wide, with
boxes that are up to half a pixel off, come back with an intersection over union of 91 %, and of 99 % here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_inference
from torchvision.ops import roi_align

Named = dict[str, Tensor]
Sizes = list[tuple[int, int]]


class Heads(RoIHeads):  # type: ignore[misc]  # torchvision has no types
    """torchvision's heads, but for the targets of masks."""

    def forward(
        self, features: Named, proposals: list[Tensor], image_shapes: Sizes, targets: list[Named] | None = None
    ) -> tuple[list[Named], Named]:
        """Return the objects of each image and no losses, or in training the losses by name and no objects."""
        if self.training:
            return [], self._losses(features, proposals, targets)
        return self._objects(features, proposals, image_shapes), {}

    def judge(self, features: Named, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits of the classes of boxes, `[boxes, classes]`, and offsets to better ones for each class."""
        out: tuple[Tensor, Tensor]
        out = self.box_predictor(self.box_head(self.box_roi_pool(features, boxes)))
        return out

    def mask(self, features: Named, boxes: list[Tensor]) -> Tensor:
        """Return the logits of the masks in boxes, `[boxes, classes, side, side]`."""
        logits: Tensor = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes)))
        return logits

    def _losses(self, features: Named, proposals: list[Tensor], targets: Any) -> Named:
        proposals, matched, labels, offsets = self.select_training_samples(proposals, targets)
        of_classes, of_boxes = fastrcnn_loss(*self.judge(features, proposals), labels, offsets)
        losses = {"loss_classifier": of_classes, "loss_box_reg": of_boxes}
        if not self.has_mask():
            return losses
        on_objects = [numbers > 0 for numbers in labels]
        boxes = [found[positive] for found, positive in zip(proposals, on_objects, strict=True)]
        logits = self.mask(features, boxes)
        labels = torch.cat(labels)[torch.cat(on_objects)]
        logits = logits[torch.arange(len(labels), device=labels.device), labels]
        wanted = [
            mask_targets(target["masks"], found, objects[positive], logits.shape[-1])
            for target, found, objects, positive in zip(targets, boxes, matched, on_objects, strict=True)
        ]
        # The mean over no object would be NaN.
        loss = F.binary_cross_entropy_with_logits(logits, torch.cat(wanted)) if len(labels) else logits.sum() * 0
        return losses | {"loss_mask": loss}

    def _objects(self, features: Named, proposals: list[Tensor], sizes: Sizes) -> list[Named]:
        logits, offsets = self.judge(features, proposals)
        boxes, scores, labels = self.postprocess_detections(logits, offsets, proposals, sizes)
        names = ("boxes", "labels", "scores")
        found = [dict(zip(names, one, strict=True)) for one in zip(boxes, labels, scores, strict=True)]
        if self.has_mask():
            masks = maskrcnn_inference(self.mask(features, boxes), labels)
            found = [one | {"masks": mask} for one, mask in zip(found, masks, strict=True)]
        return found


def mask_targets(masks: Tensor, boxes: Tensor, objects: Tensor, side: int) -> Tensor:
    """Return how much of each cell of a box is its object's.

    Args:
        masks: of the objects in the picture, `[objects, height, width]`.
        boxes: in its pixels, `[boxes, 4]`.
        objects: the place of each box's object among them, `[boxes]`.
        side: cells along each axis of a box.

    Returns:
        `[boxes, side, side]`, from 0 to 1.
    """
    rois = torch.cat([objects[:, None].to(boxes.dtype), boxes], 1)
    # "aligned": the middle of the first pixel is at 0.5. By default it would be at 0.
    targets: Tensor = roi_align(masks[:, None].to(boxes.dtype), rois, (side, side), aligned=True)
    return targets[:, 0]


def paste_masks(masks: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Return masks in the pixels of their picture, interpolated linearly, and fading out at the borders of the boxes.

    Args:
        masks: `[objects, side, side]`, of whatever is inside of each box.
        boxes: in pixels of the picture, `[objects, 4]`.
        height: of the picture.
        width: of the picture.

    Returns:
        `[objects, height, width]`.
    """
    columns, rows = (
        _weights(boxes[:, axis], boxes[:, axis + 2], length, masks.shape[-1])
        for axis, length in enumerate((width, height))
    )
    return rows @ masks @ columns.mT


def _weights(first: Tensor, last: Tensor, length: int, side: int) -> Tensor:
    """Return how much each of a mask's `side` cells counts at each pixel of an axis, `[objects, length, side]`."""
    cells = torch.arange(side, device=first.device)
    middles = torch.arange(length, device=first.device) + 0.5
    places = (middles - first[:, None]) * (side / (last - first))[:, None] - 0.5
    return (1 - (places[..., None] - cells).abs()).clamp_min(0)
