"""Data sets of sounds on Hugging Face's hub, or in a folder that `datasets` reads."""

from __future__ import annotations

from eyetoy_audio.recipe import AudioData
from eyetoy_train.data.hub import HubSet


def open_hub(data: AudioData, seed: int) -> HubSet:
    """Return the set named `data.root`."""
    return HubSet.of_options(data, "Audio", seed)
