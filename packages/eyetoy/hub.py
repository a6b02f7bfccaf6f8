"""Saving, loading and sharing through huggingface_hub: safetensors and a JSON config, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import load_model
from torch import nn

WEIGHTS = "model.safetensors"


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="eyetoy", license="apache-2.0"):
    """A model with `save_pretrained(folder)`, `from_pretrained(folder or hub name)` and `push_to_hub(name)`."""

    @classmethod
    def _from_pretrained(cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, **options: Any) -> Self:
        """Load a folder without a word on standard output, which belongs to whoever calls; leave the rest to the mixin.

        Raises:
            FileNotFoundError: the folder holds no weights.
            RuntimeError: the weights are not those of the model that the config describes.
        """
        folder = Path(model_id)
        if not folder.is_dir():
            model: Self = super()._from_pretrained(
                model_id=model_id, map_location=map_location, strict=strict, **options
            )
            return model
        if not (folder / WEIGHTS).is_file():
            raise FileNotFoundError(f"{folder} holds no {WEIGHTS}")
        of_the_hub = {"revision", "cache_dir", "force_download", "local_files_only", "token"}
        model = cls(**{name: value for name, value in options.items() if name not in of_the_hub})
        load_model(model, folder / WEIGHTS, strict=strict, device=map_location)
        return model.eval()
