"""A trained detector in Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from eyetoy_image.dense.masks import decode
from eyetoy_image.dense.predictor import PicturePredictor, Readable
from eyetoy_image.detection.app import APP
from eyetoy_image.detection.figures import DRAWN_SCORE
from eyetoy_image.detection.model import Detector
from eyetoy_image.detection.task import Detection


@dataclass(frozen=True)
class Detections:
    """The objects on a picture, the best first."""

    boxes: Tensor
    """`[objects, 4]`: left, top, right and bottom in the picture's pixels."""
    labels: list[str]
    """Their classes."""
    scores: Tensor
    """`[objects]`, from 0 to 1."""
    masks: Tensor | None
    """Bool `[objects, height, width]`; None of a detector without masks."""


class DetectionPredictor(PicturePredictor[Detection, dict[str, Any]]):
    """Find objects as `predict.py` does: `DetectionPredictor.from_pretrained("runs/mine").predict("street.jpg")`."""

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path, *, device: torch.device | str | None = None) -> Self:
        """Return the detector of a run, a checkpoint or a name on the hub; see `PicturePredictor`."""
        return cls(APP, Detector.kind, checkpoint, device)

    def predict(self, picture: Readable, *, threshold: float = DRAWN_SCORE) -> Detections:
        """Return the objects on a picture.

        Args:
            picture: a file, an image of Pillow, or pixels, uint8 `[height, width, 3]`.
            threshold: least score; with 0 all are returned that `predict.py` writes to a .json file.
        """
        image = self.pixels(picture)
        found = self.see(image)
        sure = [i for i, score in enumerate(found["scores"].tolist()) if score >= threshold]
        masks = None
        if "masks" in found:
            masks = decode([found["masks"][i] for i in sure], *image.shape[-2:]).bool()
        labels = [self.classes[found["labels"][i] - 1] for i in sure]  # label 0 is the background
        return Detections(found["boxes"][sure], labels, found["scores"][sure], masks)
