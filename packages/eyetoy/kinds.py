"""The kinds of saved models, and which call reads each, for messages about the wrong one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
"""Name of the file with the weights of a saved model."""
READERS = {
    "classifier": "eyetoy.Classifier.from_pretrained",
    "pyramid": "eyetoy.FeaturePyramid.from_pretrained",
    "detector": "eyetoy_image.detection.DetectionPredictor.from_pretrained",
    "segmenter": "eyetoy_image.segmentation.SegmentationPredictor.from_pretrained",
}
DIMENSIONS = {1: "Encoder1D", 2: "Encoder2D", 3: "Encoder3D"}
CORE = ("classifier", "encoder", "pyramid")
"""Kinds whose config holds the parameters of an encoder."""


def run_checkpoint(folder: Path, weights: str) -> Path:
    """Return the best checkpoint of a run's folder, or any other folder as it is.

    Args:
        folder: the folder.
        weights: name of the file that a checkpoint holds.
    """
    best = folder / "checkpoints" / "best"
    return best if not (folder / weights).is_file() and (best / weights).is_file() else folder


def check_kind(build: Callable[..., Any], own: str, config: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Say that a config is of another kind than the class that shall be built of it; nothing if it is not.

    Args:
        build: the class.
        own: its kind.
        config: of the saved model.
        given: arguments for the class, with those of the config.
    """
    kind = config.get("kind") or next((name for name in ("detector", "segmenter") if name in config), None)
    if kind in (None, own):
        return ""
    name = getattr(build, "__name__", str(build))
    said = f"a model of another kind than {name}: the kind {kind!r}, which {_reader(str(kind), config)} reads"
    if kind in CORE and own == "encoder":
        return f"{said}; {_reader(own, config)} with strict=False loads its encoder"
    if kind in CORE:
        needed = [key for key in _required(build) if key not in given]
        return f"{said}; with {', '.join([*(f'{key}=...' for key in needed), 'strict=False'])} its encoder is loaded"
    model = config.get("model")
    if isinstance(model, dict) and "/" not in str(model.get("name", "/")):
        wanted = [f"params=encoder_params({model['name']!r}, ...)", *(["num_classes=..."] * (own == "classifier"))]
        return f"{said}; with {', '.join([*wanted, 'strict=False'])} its encoder is loaded"
    return said


def _reader(kind: str, config: Mapping[str, Any]) -> str:
    if kind == "encoder":
        params = config.get("params")
        dim = params.get("num_spatial_dims") if isinstance(params, dict) else getattr(params, "num_spatial_dims", None)
        return f"eyetoy.{DIMENSIONS.get(dim or 0, 'Encoder2D')}.from_pretrained"
    return READERS.get(kind, "eyetoy_train.load_classifier")


def _required(build: Callable[..., Any]) -> list[str]:
    """Return the arguments without a default."""
    # Of a class, some versions of Python take the signature of `__new__`, which huggingface_hub's mixin has.
    started = functools.partial(build.__init__, None) if inspect.isclass(build) else build
    parameters = inspect.signature(started).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one.name for one in parameters if one.default is one.empty and one.kind in plain]


def is_complete(build: Callable[..., Any], given: Mapping[str, Any]) -> bool:
    """Return whether all arguments without a default are given."""
    return all(name in given for name in _required(build))
