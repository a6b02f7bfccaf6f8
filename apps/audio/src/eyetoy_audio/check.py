"""Check the sounds of a data set before a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from eyetoy_audio.app import APP
from eyetoy_audio.datasets import DATASETS
from eyetoy_audio.io.files import read_sound
from eyetoy_audio.recipe import AudioClassificationRecipe
from eyetoy_train.commands.check import Measure, check_files
from eyetoy_train.ending import exit_on_error
from eyetoy_train.media.decoders import Decoder


@exit_on_error()
def check(argv: Sequence[str] | None = None) -> int:
    """Check the sounds of a recipe's set, and log findings. The exit code is returned, see `check_parser`."""
    return check_files(AudioClassificationRecipe, APP.default_config, DATASETS, _measure, argv)


def _measure(recipe: AudioClassificationRecipe) -> Measure:
    return partial(_length, rate=recipe.data.sample_rate, decoder=recipe.data.decoder)


def _length(path: Path, rate: int, decoder: Decoder) -> Mapping[str, float]:
    return {"seconds": read_sound(path, rate, decoder).shape[-1] / rate}
