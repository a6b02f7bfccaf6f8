"""The predictions and maps of detectors and segmenters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from eyetoy import FeaturePyramid
from eyetoy.inspect import find_encoder
from eyetoy_image.classification.transforms import MEAN, STD, normalized
from eyetoy_image.detection.figures import DRAWN_SCORE, draw_objects
from eyetoy_image.detection.model import Detector
from eyetoy_image.detection.task import Detection, drawable, to_input
from eyetoy_image.io.files import read_image
from eyetoy_image.segmentation.figures import draw_named_labels
from eyetoy_image.segmentation.task import Segmentation
from eyetoy_image.segmentation.transforms import fitted_size
from eyetoy_train.commands.visualize import View, check_place
from eyetoy_train.models.build import best_device
from eyetoy_train.models.opened import Checkpoint
from eyetoy_train.visualize.classifier import TOP
from eyetoy_train.visualize.figures import draw_picture_maps
from eyetoy_train.visualize.legend import put_title
from eyetoy_train.visualize.maps import collect_maps

AXES = ("height", "width")
SHOWN_SIDE = 480
"""Least short side of a drawn result in pixels."""
NOTE = "No map of the context token: this model does not read it, so its attention was not trained."


class DetectionView:
    """The objects and maps of a trained detector; see `ClassifierView` for arguments and errors."""

    axes = AXES

    def __init__(self, opened: Checkpoint[Detection]) -> None:
        self.task, self.labels = opened.task, opened.labels
        self.model = cast("Detector", opened.load_model())
        self.maps = DenseMaps(self.model)

    @torch.no_grad()
    def __call__(self, file: Path, at: Sequence[float] | None = None) -> View:
        """Return the objects and the maps of a file."""
        place, image = check_place(at, AXES), read_image(file, grayscale=False, background=self.task.data.background)
        on_device = image.to(best_device())
        (found,) = self.task.find(self.model, [on_device])
        objects = drawable(found, self.labels, image, DRAWN_SCORE)
        best = zip(found["labels"].tolist(), found["scores"].tolist(), strict=True)
        classes = [(self.labels[label - 1], score) for label, score in best if score >= DRAWN_SCORE][:TOP]
        seen, _ = self.model.rcnn.transform(to_input([on_device]))
        height, width = seen.image_sizes[0]  # without the padding to multiples of 32, which maps should not show
        answer = _pixels(draw_objects(image, objects, least_side=SHOWN_SIDE))
        figure = self.maps.draw(seen.tensors[..., :height, :width], place, answer)
        put_title(figure, file, classes, f"nothing found with a score of {DRAWN_SCORE:.0%}")
        return View(classes, figure, answer=answer)


class SegmentationView:
    """The labels and maps of a trained segmenter; see `ClassifierView` for arguments and errors."""

    axes = AXES

    def __init__(self, opened: Checkpoint[Segmentation]) -> None:
        self.task, self.labels = opened.task, opened.labels
        self.model = opened.load_model()
        self.maps = DenseMaps(self.model)

    @torch.no_grad()
    def __call__(self, file: Path, at: Sequence[float] | None = None) -> View:
        """Return the labels and the maps of a file."""
        place, image = check_place(at, AXES), read_image(file, grayscale=False, background=self.task.data.background)
        on_device, data = image.to(best_device()), self.task.data
        labels = self.task.segment(self.model, on_device).cpu()
        fractions = torch.bincount(labels.flatten().long(), minlength=len(self.labels)) / labels.numel()
        best = fractions.topk(min(TOP, len(self.labels)))
        ranked = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        classes = [(self.labels[label], fraction) for label, fraction in ranked if fraction]
        grid = fitted_size(tuple(image.shape[-2:]), data.short_side, data.long_side, 1.0)
        x = normalized(TF.resize(on_device, list(grid), antialias=True))[None]
        answer = _pixels(draw_named_labels(image, labels, self.labels, least_side=SHOWN_SIDE))
        figure = self.maps.draw(x, place, answer)
        put_title(figure, file, classes)
        return View(classes, figure, answer=answer)


class DenseMaps:
    """The maps of what a dense predictor trained of its encoder: the stages that it uses, and no context.

    Args:
        model: a detector or segmenter.

    Raises:
        ValueError: it has no EyeToy encoder.
    """

    def __init__(self, model: nn.Module) -> None:
        self.encoder = find_encoder(model)
        (pyramid,) = (module for module in model.modules() if isinstance(module, FeaturePyramid))
        self.num_stages = max(pyramid.out_indices) + 1
        stack = self.encoder.global_attention
        self.note = NOTE if stack is not None and stack.has_context_token else ""

    def draw(self, x: Tensor, at: Sequence[float], answer: NDArray[np.uint8]) -> Figure:
        """Draw the maps of an input `[1, 3, height, width]` beside the picture with what the model sees."""
        maps = collect_maps(self.encoder, x, at, "pixels", num_stages=self.num_stages, with_context=False)
        return draw_picture_maps(_shown(x), maps, answer=answer, note=self.note)


def _shown(x: Tensor) -> NDArray[np.float32]:
    """Return a normalized input `[1, 3, height, width]` as `[height, width, 3]` from 0 to 1."""
    pixels: NDArray[np.float32] = (x[0] * STD + MEAN).clamp(0, 1).movedim(0, -1).cpu().numpy()
    return pixels


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = image.movedim(0, -1).contiguous().numpy()
    return pixels
