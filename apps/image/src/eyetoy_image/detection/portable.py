"""A detector as it is exported: one picture of any size in, its objects out, in operations that exporters know.

torchvision's own `forward` looks at values while it runs, such as how many candidates a class has. Here the trained
layers are the same, and so are the numbers; the steps between the layers are written over:

    pixels [height, width, 3]      any size; resized as in an evaluation, and put at the top left of a canvas
    canvas [1, 3, *canvas]         of one size, because attention is planned for one grid; the rest is padding
    maps, anchors, proposals       as many candidates for every picture, of which non-maximum suppression leaves some
    objects                        boxes and masks in the pixels of the picture
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import nms

from eyetoy_image.classification.transforms import normalized
from eyetoy_image.detection.heads import paste_masks
from eyetoy_image.detection.model import Detector

DIVISOR = 32
"""Sides of a canvas are multiples of this, as those of a padded picture are in torchvision's detectors."""
LEAST_SIDE = 1e-2
"""Boxes with a smaller side are no objects; torchvision's number."""
NEVER = -1.0
"""Score of a candidate that is left out: below all others, so that it suppresses none of them."""


class PortableDetector(nn.Module):
    """Map a picture, uint8 `[height, width, 3]`, to boxes, labels, scores and, if the detector has them, masks.

    Args:
        detector: the trained detector, in evaluation mode.
        canvas: height and width of the encoder's input, multiples of `DIVISOR`.
    """

    def __init__(self, detector: Detector, canvas: tuple[int, int]) -> None:
        super().__init__()
        self.rcnn: Any = detector.rcnn
        self.canvas = canvas
        self.sides: tuple[int, int] = (self.rcnn.transform.min_size[-1], self.rcnn.transform.max_size)
        with torch.no_grad():
            blank = torch.zeros(1, 3, *canvas)
            maps = self.rcnn.backbone(blank)
            (anchors,) = self.rcnn.rpn.anchor_generator(ImageList(blank, [canvas]), list(maps.values()))
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return boxes `[objects, 4]`, labels and scores `[objects]`, and masks `[objects, height, width]`."""
        picture = torch.stack([torch.scalar_tensor(n, dtype=torch.float64) for n in pixels.shape[:2]])
        size = self.fitted(picture)
        maps = self.rcnn.backbone(self.on_canvas(pixels, picture, size))
        proposals = self.propose(list(maps.values()), size)
        boxes, labels, scores = self.choose(maps, proposals, size)
        in_picture = boxes * (picture.float() / size.float()).flip(0).repeat(2)
        if not self.rcnn.roi_heads.has_mask():
            return in_picture, labels, scores
        return in_picture, labels, scores, self.masks(maps, boxes, labels, in_picture, pixels)

    def fitted(self, picture: Tensor) -> Tensor:
        """Return height and width of the resized picture, int64 `[2]`, from those of the picture, float64 `[2]`."""
        short, long = self.sides
        # In float64, as Python's numbers are: rounded down, a side of 799.9999 would be another one.
        factor = torch.minimum(short / picture.min(), long / picture.max())
        factor = torch.minimum(factor, (torch.tensor(self.canvas, dtype=torch.float64) / picture).min())
        return (picture * factor).floor().clamp_min(1).long()

    def on_canvas(self, pixels: Tensor, picture: Tensor, size: Tensor) -> Tensor:
        """Return the normalized picture, resized bilinearly, on a canvas of zeros, `[1, 3, *canvas]`."""
        x = normalized(pixels)
        for axis, length in enumerate(self.canvas):
            x = _resized(x, axis, length, (picture[axis] / size[axis]).float())
        rows, columns = (torch.arange(length) < size[axis] for axis, length in enumerate(self.canvas))
        inside = (rows[:, None] & columns)[..., None]
        return torch.where(inside, x, 0).movedim(-1, 0)[None]

    def propose(self, maps: list[Tensor], size: Tensor) -> Tensor:
        """Return the proposals, `[proposals, 4]` in the pixels of the canvas, the best first."""
        rpn = self.rcnn.rpn
        objectness, deltas = rpn.head(maps)
        counts = [x[0].numel() for x in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        boxes = rpn.box_coder.decode_single(deltas, self.anchors)
        best, level = [], []
        for number, scores in enumerate(objectness.flatten().split(counts)):
            best.append(scores.topk(min(rpn.pre_nms_top_n(), counts[number])).indices + sum(counts[:number]))
            level.append(torch.full_like(best[-1], number))
        chosen = torch.cat(best)
        boxes, scores = _clipped(boxes[chosen], size), objectness.flatten()[chosen].sigmoid()
        scores = scores.masked_fill(_is_small(boxes, rpn.min_size), NEVER)
        kept = _batched_nms(boxes, scores, torch.cat(level), rpn.nms_thresh)
        kept = kept[scores[kept] >= 0][: rpn.post_nms_top_n()]
        return boxes[kept]

    def choose(self, maps: dict[str, Tensor], proposals: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes in the pixels of the canvas, labels and scores of the objects, the best first."""
        heads = self.rcnn.roi_heads
        logits, deltas = heads.judge(maps, [proposals])
        classes = logits.shape[-1]
        boxes = heads.box_coder.decode_single(deltas, proposals).view(-1, classes, 4)
        boxes = _clipped(boxes[:, 1:].reshape(-1, 4), size)  # without the background, class 0
        scores = logits.softmax(-1)[:, 1:].flatten()
        labels = torch.arange(1, classes).repeat(proposals.shape[0])
        able = torch.where((scores > heads.score_thresh) & ~_is_small(boxes, LEAST_SIDE))[0]
        boxes, scores, labels = boxes[able], scores[able], labels[able]
        kept = _batched_nms(boxes, scores, labels, heads.nms_thresh)[: heads.detections_per_img]
        return boxes[kept], labels[kept], scores[kept]

    def masks(
        self, maps: dict[str, Tensor], boxes: Tensor, labels: Tensor, in_picture: Tensor, pixels: Tensor
    ) -> Tensor:
        """Return the probability of every pixel of the picture to be the object's, `[objects, height, width]`."""
        heads = self.rcnn.roi_heads
        masks = heads.mask(maps, [boxes]).sigmoid()[torch.arange(labels.shape[0]), labels]
        return paste_masks(masks, in_picture, *pixels.shape[:2])


def _resized(x: Tensor, axis: int, length: int, factor: Tensor) -> Tensor:
    """Return `x` at `length` places along an axis, `factor` of its entries apart, interpolated linearly."""
    place = ((torch.arange(length) + 0.5) * factor - 0.5).clamp_min(0)
    last = x.shape[axis] - 1
    before = place.floor().long().clamp_max(last)
    after = (before + 1).clamp_max(last)
    weight = (place - before).clamp(0, 1).view(-1, *(1,) * (x.ndim - 1 - axis))
    return x.index_select(axis, before) * (1 - weight) + x.index_select(axis, after) * weight


def _clipped(boxes: Tensor, size: Tensor) -> Tensor:
    limits = size.flip(0).repeat(2).to(boxes.dtype)
    return torch.minimum(boxes.clamp_min(0), limits)


def _is_small(boxes: Tensor, least: float) -> Tensor:
    sides = boxes[:, 2:] - boxes[:, :2]
    return (sides < least).any(-1)


def _batched_nms(boxes: Tensor, scores: Tensor, group: Tensor, threshold: float) -> Tensor:
    """Return places of the boxes that are left, the best first; boxes of different groups suppress none of another."""
    # Far from each other, groups do not overlap. torchvision does the same for up to 1000 boxes. The zero is for none.
    largest = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max()
    offsets = group.to(boxes.dtype) * (largest + 1)
    kept: Tensor = nms(boxes + offsets[:, None], scores, threshold)
    return kept
