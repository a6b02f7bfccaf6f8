"""A trained model of any kind by one name: `eyetoy.load("runs/digits").predict("picture.png")`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def load(checkpoint: str | Path, *, device: torch.device | str | None = None) -> Any:
    """Return a trained model whose `predict` takes files and arrays, and answers as the command `predict` does.

    Its preprocessing, the names of its classes and the windows of long inputs are those of its recipe. It comes from
    the app of images, sounds or videos, which must be installed:

    - a classifier is an `eyetoy_train.ClassifierPredictor`; its docstring says which arrays `predict` and `embed` take
    - a detector is an `eyetoy_image.detection.DetectionPredictor`
    - a segmenter is an `eyetoy_image.segmentation.SegmentationPredictor`

    Args:
        checkpoint: a run's folder, for its best checkpoint; a checkpoint; the name of an included model, such as
            "digits"; or a name on Hugging Face's hub.
        device: where the model is put; this machine's accelerator if there is one, by default.

    Raises:
        FileNotFoundError: there is no checkpoint, or it has no recipe and labels, as what training wrote.
        ModuleNotFoundError: the app, or a package that it needs, is not installed; the message says what to install.
        ValueError: the checkpoint is broken, or of no modality that there is an app for.
    """
    # By name and at call: this package works without the engine and the apps, which build on it.
    folder = _part("eyetoy_train.models.transfer", "image, audio or video").checkpoint_folder(str(checkpoint))
    modality = _part("eyetoy_train.models.opened", "image, audio or video").modality_of(folder)
    return _part(f"eyetoy_{modality}.app", modality).APP.load(folder, device=device)


def _part(name: str, extra: str) -> Any:
    """Import a module of an extra."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        install = " or ".join(f'pip install "eyetoy[{one}]"' for one in extra.replace(" or ", ", ").split(", "))
        raise ModuleNotFoundError(
            f"eyetoy.load needs {error.name}, which is not installed: {install}", name=error.name
        ) from error
