"""Dense predictors as files: weights (safetensors) and a JSON config, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from eyetoy_train.models.external import CONFIG, WEIGHTS
from eyetoy_train.utils.untrusted import read_json


class DensePredictor(nn.Module):
    """A model over an encoder's pyramid that saves itself; a subclass sets `config`, from which it can be built."""

    config: dict[str, Any]

    def save_pretrained(self, folder: Path) -> None:
        """Write weights and config."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2), encoding="utf-8")


def read_config(folder: Path, part: str) -> dict[str, Any]:
    """Return the config of a saved model.

    Args:
        folder: where it was saved.
        part: what the config of this kind of model has, `detector` or `segmenter`.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: it holds another kind of model.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} holds no model: there is no {CONFIG}")
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or part not in config:
        raise ValueError(f"{folder} holds no {part}: its {CONFIG} has no part of that name")
    return config
