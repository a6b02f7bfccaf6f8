"""A trained detector or segmenter in Python: what the command `predict` says of a picture, as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eyetoy.kinds import READERS
from eyetoy_image.dense.predict import DensePredictApp, PictureTask
from eyetoy_image.io.files import read_array, read_image
from eyetoy_train.models.opened import best_device
from eyetoy_train.models.saved import CONFIG, kind_of
from eyetoy_train.models.transfer import KNOWN, checkpoint_folder
from eyetoy_train.utils.untrusted import read_json

T = TypeVar("T", bound=PictureTask)
R = TypeVar("R")

Readable = str | Path | Image.Image | np.ndarray[Any, Any]
"""A file; an image of Pillow; or pixels, uint8 `[height, width, 3]`, `[height, width, 4]` with alpha, or grey
`[height, width]`."""


class PicturePredictor(Generic[T, R]):
    """A model with its preprocessing and the names of its classes, which looks at one picture at a time.

    Args:
        app: the app of the checkpoint; `predict.py` looks through it, too.
        kind: the kind of model that it reads.
        checkpoint: a run's folder, a checkpoint, or a name on Hugging Face's hub.
        device: where the model is put; this machine's accelerator if there is one, by default.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is of another kind; the message names the call that reads it.
    """

    def __init__(
        self, app: DensePredictApp[T, R], kind: str, checkpoint: str | Path, device: torch.device | str | None
    ) -> None:
        folder = checkpoint_folder(str(checkpoint))
        found = kind_of(read_json(folder / CONFIG), KNOWN)
        if found != kind:
            reader = READERS.get(found, "eyetoy_train.load_classifier")
            raise ValueError(f"{folder} holds no {kind}: it is of the kind {found!r}, which {reader} reads")
        opened = app.open(folder)
        self.app, self.task = app, opened.task
        self.classes = opened.labels
        """Names of the classes, in the order of their labels."""
        self.device = torch.device(device) if device is not None else best_device()
        self.model = opened.load_model(self.device)

    def pixels(self, picture: Readable) -> Tensor:
        """Return a picture as uint8 `[3, height, width]`, upright and on the recipe's background.

        Raises:
            UnreadableImageError: the file is not an image, or is broken.
            ValueError: the array is no picture.
        """
        background = self.task.data.background
        if not isinstance(picture, str | Path):
            return read_array(picture, grayscale=False, background=background)
        return read_image(Path(picture), grayscale=False, background=background)

    @torch.inference_mode()
    def see(self, pixels: Tensor) -> R:
        """Return what the task's app sees on a picture, uint8 `[3, height, width]`."""
        return self.app.see(self.task, self.model, pixels.to(self.device))
