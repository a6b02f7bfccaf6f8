"""Data sets of images on Hugging Face's hub, or in a folder that `datasets` reads."""

from __future__ import annotations

from eyetoy_image.classification.recipe import ImageData
from eyetoy_train.data.hub import HubSet


def open_hub(data: ImageData, seed: int) -> HubSet:
    """Return the set named `data.root`."""
    return HubSet.of_options(data, "Image", seed)
