"""A trained segmenter in Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from eyetoy_image.dense.predictor import PicturePredictor, Readable
from eyetoy_image.segmentation.app import APP
from eyetoy_image.segmentation.model import Segmenter
from eyetoy_image.segmentation.task import Segmentation


@dataclass(frozen=True)
class LabelMap:
    """The class of every pixel of a picture."""

    labels: Tensor
    """Uint8 `[height, width]`: places in `classes`."""
    classes: list[str]
    """Names of the classes."""


class SegmentationPredictor(PicturePredictor[Segmentation, Tensor]):
    """Tell the class of every pixel as `predict.py` does.

    `SegmentationPredictor.from_pretrained("runs/mine").predict("street.jpg")`.
    """

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path, *, device: torch.device | str | None = None) -> Self:
        """Return the segmenter of a run, a checkpoint or a name on the hub; see `PicturePredictor`."""
        return cls(APP, Segmenter.kind, checkpoint, device)

    def predict(self, picture: Readable) -> LabelMap:
        """Return the label map of a picture: a file, an image of Pillow, or pixels, uint8 `[height, width, 3]`."""
        return LabelMap(self.see(self.pixels(picture)), self.classes)
