"""What a config says of labels and preprocessing, and whether an input went through the latter, as numbers tell."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eyetoy.lengths import clear_padding

NUMBERS = ("mean", "std", "rms")
"""Of pixels, for all channels or each, mean and standard deviation by which 0 to 1 are normalised; of sounds, their
root mean square."""
FAR = 4
"""How far outside of the range of normalised samples an input must reach: random numbers of unit variance do not."""
RMS_RATIO = 2
"""By how much the root mean square of a sound must differ from that of prepared ones."""


def labels_in(config: Mapping[str, Any], num_classes: int) -> dict[int, str]:
    """Return the names of the classes that a config holds as `id2label`; none if they are not one for each logit."""
    given = config.get("id2label")
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given.values()):
        return {}
    places = {str(place): place for place in range(num_classes)}
    return {places[place]: given[place] for place in places} if given.keys() == places.keys() else {}


def preprocessing_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preprocessing that a config holds; none if its numbers are none that `warn_if_raw` can use."""
    given = config.get("preprocessing")
    if not isinstance(given, Mapping):
        return {}
    numbers = {key: given[key] if isinstance(given[key], list) else [given[key]] for key in NUMBERS if key in given}
    mean, std, rms = (numbers.get(key, []) for key in NUMBERS)
    are_numbers = all(type(value) in (int, float) and math.isfinite(value) for value in (*mean, *std, *rms))
    usable = are_numbers and len(mean) == len(std) and len(rms) <= 1 and all(value > 0 for value in (*std, *rms))
    return dict(given) if usable else {}


def warn_if_raw(x: Tensor, lengths: Tensor | None, preprocessing: Mapping[str, Any]) -> bool:
    """Warn if an input looks as if its preprocessing was left out, and return whether it did.

    Pixels of 0 to 255 or 0 to 1 are told from normalised ones by their range, sounds by their level. An input of
    one constant is never taken for either.

    Args:
        x: the input of a model, `[batch, channels, *grid]`.
        lengths: of its rows, or None.
        preprocessing: that of the model's config: with `mean` and `std`, or with `rms`.
    """
    found = ""
    if "mean" in preprocessing:
        found = _raw_pixels(x, preprocessing)
    elif "rms" in preprocessing:
        found = _raw_sound(x, lengths, float(preprocessing["rms"]))
    if found:
        warnings.warn(
            f"{found}, so its answer is likely wrong; eyetoy.load(checkpoint).predict(file or array) prepares samples "
            "as in training, and model.preprocessing says how",
            UserWarning,
            stacklevel=_level_of_user(),
        )
    return bool(found)


def _level_of_user() -> int:
    """Return the `stacklevel` with which the caller warns of the first line outside of PyTorch and this package."""
    # How many frames lie between depends on the model's method, and on hooks and wrappers of PyTorch.
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("torch", "eyetoy"):
        frame, level = frame.f_back, level + 1
    return level


def _raw_pixels(x: Tensor, preprocessing: Mapping[str, Any]) -> str:
    mean, std = (torch.as_tensor(preprocessing[key], dtype=torch.float64) for key in ("mean", "std"))
    darkest, brightest = float((-mean / std).min()), float(((1 - mean) / std).max())
    least, most = (float(bound) for bound in x.detach().aminmax())
    said = f"the input reaches from {least:.4g} to {most:.4g}, and normalised pixels from {darkest:.4g}"
    if max(-least, most) > FAR * max(-darkest, brightest):
        return f"{said} to {brightest:.4g}"
    # Of normalised pixels, only a picture of greys from the mean on upwards would lie in there.
    if least >= 0 and most <= 1 and least < most and darkest < 0:
        return f"{said} to {brightest:.4g}: these look like pixels of 0 to 1"
    return ""


def _raw_sound(x: Tensor, lengths: Tensor | None, expected: float) -> str:
    rows = clear_padding(x.detach().float().movedim(-1, 1), lengths)  # [batch, length, channels]
    power = rows.square().flatten(1).sum(1)  # [batch]
    count = rows[0].numel() if lengths is None else lengths * rows[0, 0].numel()
    levels = (power / count).sqrt()
    levels = levels[rows.flatten(1).amin(1) < rows.flatten(1).amax(1)]  # silence has no level
    far = (levels > RMS_RATIO * expected) | (levels < expected / RMS_RATIO)
    if not bool(far.any()):
        return ""
    return f"the input has a root mean square of {float(levels[far][0]):.3g}, and prepared sounds have {expected:g}"
