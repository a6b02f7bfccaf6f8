"""What is installed of that which the page needs: the apps of the modalities have extras of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from eyetoy_train.types import Modality

NEEDS: Mapping[Modality, Sequence[str]] = {
    "image": ("torchvision", "pycocotools"),
    "audio": ("torchaudio", "soundfile"),
    "video": ("torchvision", "av"),
}
"""Packages without which a modality's app cannot answer; its extra brings them."""


def is_installed(package: str) -> bool:
    """Whether a package can be imported, found without importing it."""
    try:
        return find_spec(package) is not None
    except ValueError:  # sys.modules has None for it, which bars the import
        return False


def installed_modalities() -> tuple[Modality, ...]:
    """Return the modalities whose apps can answer."""
    return tuple(modality for modality, packages in NEEDS.items() if all(map(is_installed, packages)))
