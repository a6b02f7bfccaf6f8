"""Detectors: torchvision's Faster R-CNN and Mask R-CNN over the feature pyramid of any encoder."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from eyetoy_image.classification.transforms import MEAN, STD
from eyetoy_image.dense.pyramids import build_pyramid, pyramid_strides
from eyetoy_image.detection.boxes import Anchors, Float32BoxCoder, LevelPooling
from eyetoy_image.detection.heads import Heads, paste_masks
from eyetoy_image.detection.recipe import DetectorRecipe
from eyetoy_image.detection.transforms import resize_masks
from eyetoy_train import ModelRecipe, SavedModel, load_model
from eyetoy_train.models.transfer import Layout

LAYOUT = Layout(
    parts={
        "norms of the stages": "rcnn.backbone.body.norms.",
        "feature pyramid network": "rcnn.backbone.fpn.",
        "proposal network": "rcnn.rpn.",
        "box head": "rcnn.roi_heads.box_",
        "mask head": "rcnn.roi_heads.mask_",
    },
    class_layers=("rcnn.roi_heads.box_predictor.", "rcnn.roi_heads.mask_predictor.mask_fcn_logits."),
    num_background=1,
)
OVER_STAGES = ("norms of the stages", "feature pyramid network")
"""The parts that depend on which stages of the encoder are used."""
BOX_GRID, MASK_GRID = 7, 14
"""Sizes of a proposal's features for the heads (He et al., 2017)."""


class PyramidNetwork(nn.Module):
    """An encoder with a feature pyramid network (Lin et al., 2017) over its maps, and one more level, half as fine.

    Args:
        model: the encoder's part of a recipe.
        recipe: the detector's part.
    """

    def __init__(self, model: ModelRecipe, recipe: DetectorRecipe) -> None:
        super().__init__()
        self.body, channels = build_pyramid(model, recipe.out_indices)
        self.num_maps, self.strides = len(channels), pyramid_strides(self.body)
        self.out_channels = recipe.fpn_channels
        self.fpn = FeaturePyramidNetwork(channels, recipe.fpn_channels, LastLevelMaxPool())

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Map images `[batch, 3, height, width]` to maps of the same number of channels, by name, fine to coarse."""
        maps = OrderedDict((str(level), x) for level, x in enumerate(self.body(x)))
        out: OrderedDict[str, Tensor] = self.fpn(maps)
        return out


class InputTransform(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """torchvision's normalization, resizing and padding, without its offsets of up to a pixel.

    torchvision rounds sides down: with a long side of 64 it would give 900 x 3 pixels a side of 0. Its kind of nearest
    moves masks against boxes. What it does to masks that are found, `paste_masks` says.

    Args:
        sizes: as in `Detector`.
    """

    def __init__(self, sizes: tuple[int, int]) -> None:
        # In training images are not resized here: the transform of the data has done it.
        super().__init__(*sizes, image_mean=[MEAN] * 3, image_std=[STD] * 3, _skip_resize=True)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize a picture `[3, height, width]`, and its boxes and masks."""
        sides = image.shape[-2:]
        factor = min(self.min_size[-1] / min(sides), self.max_size / max(sides))
        transform = self
        if min(sides) * factor < 1:
            transform = copy.copy(self)  # other threads may use this one with other pictures
            height, width = (max(math.floor(side * factor), 1) for side in sides)
            transform.fixed_size = (width, height)
        masks = None if target is None else target.pop("masks", None)
        resized: tuple[Tensor, dict[str, Tensor] | None]
        resized = GeneralizedRCNNTransform.resize(transform, image, target)
        image, target = resized
        if target is not None and masks is not None:
            target["masks"] = resize_masks(masks, image.shape[-2:])
        return image, target

    def postprocess(self, result: list[dict[str, Tensor]], image_shapes: Any, original_image_sizes: Any) -> Any:
        """Return objects in the pixels of their pictures, masks as `[objects, 1, height, width]`."""
        if self.training:
            return result
        masks = [found.pop("masks", None) for found in result]
        super().postprocess(result, image_shapes, original_image_sizes)
        for found, mask, size in zip(result, masks, original_image_sizes, strict=True):
            if mask is not None:
                with torch.autocast(mask.device.type, enabled=False):  # its bfloat16 would blur where masks end
                    boxes = found["boxes"]
                    found["masks"] = paste_masks(mask[:, 0].to(boxes.dtype), boxes, *size)[:, None]
        return result


class Detector(SavedModel):
    """A detector that saves itself as weights (safetensors) and a JSON config.

    Args:
        model: the encoder's part of a recipe.
        recipe: the detector's part.
        num_classes: number of classes without the background.
        sizes: the short side of a resized image in an evaluation, and the most pixels of its long side.
        aligned: whether heads see the features of a box; see `LevelPooling`. Older detectors do not.

    Raises:
        ValueError: there is no such encoder, or the anchors do not fit its stages.
    """

    kind = "detector"

    def __init__(
        self,
        model: ModelRecipe,
        recipe: DetectorRecipe,
        num_classes: int,
        sizes: tuple[int, int],
        *,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.config = {
            "model": asdict(model) | {"weights": None},  # a saved detector has its weights
            "detector": asdict(recipe),
            "num_classes": num_classes,
            "sizes": list(sizes),
            "aligned": aligned,
        }
        backbone = PyramidNetwork(model, recipe)
        if len(recipe.anchor_sizes) != backbone.num_maps + 1:
            raise ValueError(
                f"detector.anchor_sizes must have a size for each of the {backbone.num_maps} stages of the encoder and "
                f"one more, {backbone.num_maps + 1} in all; got {recipe.anchor_sizes}"
            )
        self.rcnn = _rcnn(backbone, recipe, num_classes, aligned=aligned)
        self.rcnn.transform = InputTransform(sizes)
        for part in (self.rcnn.rpn, self.rcnn.roi_heads):
            part.box_coder = Float32BoxCoder(part.box_coder.weights)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the detector of a config, with new weights."""
        model, recipe = ModelRecipe(**config["model"]), DetectorRecipe(**config["detector"])
        aligned = config.get("aligned", False)  # which those do not have that were saved before they could be
        return cls(model, recipe, config["num_classes"], tuple(config["sizes"]), aligned=aligned)

    def evaluate_by(self, recipe: DetectorRecipe, sizes: tuple[int, int]) -> Self:
        """Find objects by the sizes and thresholds of a recipe, instead of those that it was built with; return self.

        The config has them from now on. What only training uses, and the layers, stay as they are.

        Args:
            recipe: the detector's part of a recipe.
            sizes: as in the constructor.
        """
        followed = ("proposals_eval", "score_threshold", "nms_threshold", "max_detections")
        self.config["sizes"] = list(sizes)
        self.config["detector"] |= {name: getattr(recipe, name) for name in followed}
        transform, proposals, heads = self.rcnn.transform, self.rcnn.rpn, self.rcnn.roi_heads
        transform.min_size, transform.max_size = (sizes[0],), sizes[1]
        proposals._pre_nms_top_n["testing"] = proposals._post_nms_top_n["testing"] = recipe.proposals_eval
        heads.score_thresh, heads.nms_thresh = recipe.score_threshold, recipe.nms_threshold
        heads.detections_per_img = recipe.max_detections
        return self

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None, *, with_losses: bool = False
    ) -> Any:
        """Find objects.

        Args:
            images: images from 0 to 1, `[3, height, width]` each; in training already resized.
            targets: in training, their objects; see `TrainingTransform`.
            with_losses: in evaluation, return the objects and the losses of the targets.

        Returns:
            in training the losses by name; otherwise for each image `boxes` in its pixels, `labels` (from 1 on),
            `scores`, the best first, and, if the model has a head for them, `masks`, the probability of each pixel,
            `[objects, 1, height, width]`.
        """
        return self._find_and_judge(images, targets) if with_losses else self.rcnn(images, targets)

    def _find_and_judge(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None) -> Any:
        """Return what `rcnn` finds in evaluation, and its losses, of one pass through the backbone."""
        rcnn, sizes = self.rcnn, [(image.shape[1], image.shape[2]) for image in images]
        seen, resized = rcnn.transform(images, targets)
        features = rcnn.backbone(seen.tensors)
        proposals, _ = rcnn.rpn(seen, features)
        found, _ = rcnn.roi_heads(features, proposals, seen.image_sizes)
        with _as_in_training(rcnn.rpn, rcnn.roi_heads):
            proposals, rpn_losses = rcnn.rpn(seen, features, resized)
            _, losses = rcnn.roi_heads(features, proposals, seen.image_sizes, resized)
        return rcnn.transform.postprocess(found, seen.image_sizes, sizes), losses | rpn_losses


@contextmanager
def _as_in_training(*modules: nn.Module) -> Iterator[None]:
    """Let modules compute their losses, which torchvision's do in training only, for a while.

    Not `train()`, which would reach the layers inside: their dropout and batch norm stay as in evaluation.
    """
    for module in modules:
        module.training = True
    try:
        yield
    finally:
        for module in modules:
            module.training = False


def load_detector(folder: Path) -> Detector:
    """Return a saved detector in evaluation mode; see `eyetoy_train.load_model` for errors."""
    return cast("Detector", load_model(folder, kinds={Detector.kind: Detector.from_pretrained}, families={}))


def _rcnn(backbone: PyramidNetwork, recipe: DetectorRecipe, num_classes: int, *, aligned: bool) -> FasterRCNN:
    """Return torchvision's detector with our anchors and heads; all that no recipe names is torchvision's default."""
    sizes = cast("list[int]", recipe.anchor_sizes)  # `auto` is a number for each by now
    all_strides = [*backbone.strides, 2 * backbone.strides[-1]]
    anchors = Anchors(sizes, recipe.anchor_ratios, all_strides)
    hidden = recipe.box_head_channels
    boxes = {
        "box_roi_pool": LevelPooling(backbone.strides, BOX_GRID, aligned=aligned),
        "box_head": TwoMLPHead(recipe.fpn_channels * BOX_GRID**2, hidden),
        "box_predictor": FastRCNNPredictor(hidden, num_classes + 1),  # + 1: the background
    }
    rcnn = FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=recipe.proposals_train,
        rpn_post_nms_top_n_train=recipe.proposals_train,
        rpn_pre_nms_top_n_test=recipe.proposals_eval,
        rpn_post_nms_top_n_test=recipe.proposals_eval,
        rpn_batch_size_per_image=recipe.rpn_samples,
        **boxes,
    )
    rcnn.roi_heads = Heads(
        **boxes,
        **_masks(backbone, recipe, num_classes, aligned=aligned),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=recipe.roi_samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=recipe.score_threshold,
        nms_thresh=recipe.nms_threshold,
        detections_per_img=recipe.max_detections,
    )
    return rcnn


def _masks(
    backbone: PyramidNetwork, recipe: DetectorRecipe, num_classes: int, *, aligned: bool
) -> dict[str, nn.Module]:
    """Return the parts for masks, if the recipe wants them."""
    if not recipe.has_masks:
        return {}
    last = recipe.mask_head_channels[-1]
    return {
        "mask_roi_pool": LevelPooling(backbone.strides, MASK_GRID, aligned=aligned),
        "mask_head": MaskRCNNHeads(recipe.fpn_channels, recipe.mask_head_channels, dilation=1),
        "mask_predictor": MaskRCNNPredictor(last, last, num_classes + 1),
    }
