"""Data sets of videos on Hugging Face's hub, or in a folder that `datasets` reads."""

from __future__ import annotations

from eyetoy_train.data.hub import HubSet
from eyetoy_video.recipe import VideoData


def open_hub(data: VideoData, seed: int) -> HubSet:
    """Return the set named `data.root`."""
    return HubSet.of_options(data, "Video", seed)
