"""The predictions and maps of detectors and segmenters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from eyetoy.inspect import find_encoder
from eyetoy_image.classification.transforms import MEAN, STD, normalized
from eyetoy_image.detection.figures import draw_objects
from eyetoy_image.detection.model import Detector
from eyetoy_image.detection.task import DRAWN_SCORE, Detection, drawable, to_input
from eyetoy_image.io.files import read_image
from eyetoy_image.segmentation.figures import draw_labels
from eyetoy_image.segmentation.task import Segmentation
from eyetoy_image.segmentation.transforms import fitted_size
from eyetoy_train.commands.visualize import View, check_place
from eyetoy_train.models.build import best_device
from eyetoy_train.models.opened import Checkpoint
from eyetoy_train.visualize.classifier import TOP, heading
from eyetoy_train.visualize.figures import draw_picture_maps
from eyetoy_train.visualize.maps import collect_maps

AXES = ("height", "width")
SHOWN_SIDE = 480
"""Least short side of a drawn result in pixels."""


class DetectionView:
    """The objects and maps of a trained detector; see `ClassifierView` for arguments and errors."""

    axes = AXES

    def __init__(self, opened: Checkpoint[Detection]) -> None:
        self.task, self.labels = opened.task, opened.labels
        self.model = cast("Detector", opened.load_model())
        self.encoder = find_encoder(self.model)

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
        x = seen.tensors[..., :height, :width]
        figure = draw_picture_maps(_shown(x), collect_maps(self.encoder, x, place, "pixels"), heading(classes))
        return View(classes, figure, answer=_pixels(draw_objects(image, objects, least_side=SHOWN_SIDE)))


class SegmentationView:
    """The labels and maps of a trained segmenter; see `ClassifierView` for arguments and errors."""

    axes = AXES

    def __init__(self, opened: Checkpoint[Segmentation]) -> None:
        self.task, self.labels = opened.task, opened.labels
        self.model = opened.load_model()
        self.encoder = find_encoder(self.model)

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
        figure = draw_picture_maps(_shown(x), collect_maps(self.encoder, x, place, "pixels"), heading(classes))
        return View(classes, figure, answer=_pixels(draw_labels(image, labels, least_side=SHOWN_SIDE)))


def _shown(x: Tensor) -> NDArray[np.float32]:
    """Return a normalized input `[1, 3, height, width]` as `[height, width, 3]` from 0 to 1."""
    pixels: NDArray[np.float32] = (x[0] * STD + MEAN).clamp(0, 1).movedim(0, -1).cpu().numpy()
    return pixels


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = image.movedim(0, -1).contiguous().numpy()
    return pixels
