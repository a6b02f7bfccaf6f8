"""Save, load and share models through huggingface_hub, as safetensors and a JSON config, nothing else."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors.torch import load_file
from torch import Tensor, nn

from eyetoy.inflation import inflated_weight
from eyetoy.params import as_encoder_params
from eyetoy.sizes import ceil_div

WEIGHTS = "model.safetensors"
STEM = "initial_proj.convs.0.weight"
"""The only weight whose shape depends on the input's channels; they are its last axis."""

CARD = """---
{{ card_data }}
---

An encoder of sound, images or video, or a classifier over one, of the project EyeToy: weights in `model.safetensors`,
and its parameters in `config.json`. `from_pretrained` of its class reads them.
"""
"""The README beside a saved model that no run has described."""

MOST_ADDED = 2**26
"""How many parameters a model may have beyond twice those of its checkpoint: a new head may have many classes."""

_logger = logging.getLogger(__name__)


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="eyetoy", license="apache-2.0", model_card_template=CARD):
    """A model with `save_pretrained(folder)`, `from_pretrained(folder or hub name)` and `push_to_hub(name)`.

    `from_pretrained` takes new values for the config's, such as `num_classes=5`, and also `in_channels=1`: it then
    initialises the head anew and adapts the stem, and logs which weights it changed. Weights of images are inflated for
    the video encoder that `eyetoy.inflated` gives.
    """

    kind: ClassVar[str]
    """Written to the config as "kind", so that a folder tells which class reads it."""

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write weights, config and, if there is none, a README to a folder.

        Args:
            save_directory: the folder.
            options: of huggingface_hub's mixin, such as `push_to_hub` and `repo_id`.
        """
        # The config holds the constructor's arguments. The mixin, when it reads them, passes over all other keys.
        arguments: Any = options.pop("config", None) or self._hub_mixin_config
        config = {"kind": self.kind, **arguments}
        saved: str | None = super().save_pretrained(save_directory, config=config, **options)
        return saved

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Return the model of a folder, or of a name on Hugging Face's hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: the folder or the name.
            options: the hub's `revision`, `token`, `cache_dir`, `force_download` and `local_files_only`; and new values
                for those of the config.

        Raises:
            FileNotFoundError: the folder holds no weights, or the hub's files cannot be fetched.
            RuntimeError: the weights are not those of the model that the config describes.
            ValueError: the config describes a far larger model than the weights.
        """
        name = str(pretrained_model_name_or_path)
        try:
            return super().from_pretrained(name, **options)
        except OSError as error:  # without a network, its message does not name the model
            if Path(name).is_dir():
                raise
            raise FileNotFoundError(f"cannot fetch {name} from Hugging Face's hub: {error}") from error

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        map_location: str = "cpu",
        strict: bool = True,
        in_channels: int | None = None,
        **options: Any,
    ) -> Self:
        """Build the model of the config and load its weights.

        Raises:
            FileNotFoundError: the folder holds no weights.
        """
        path = Path(model_id) / WEIGHTS
        if not Path(model_id).is_dir():
            fetched = hf_hub_download(
                model_id,
                WEIGHTS,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
            path = Path(fetched)
        if not path.is_file():
            raise FileNotFoundError(f"{model_id} holds no {WEIGHTS}")
        if in_channels is not None:
            options["params"] = dataclasses.replace(as_encoder_params(options["params"]), in_channels=in_channels)
        weights = load_file(path, device=map_location)
        _check_size(cls, options, sum(weight.numel() for weight in weights.values()))
        model = cls(**options)
        _load(model, weights, strict=strict)
        return model.to(map_location).eval()


def _check_size(build: Callable[..., nn.Module], options: dict[str, Any], available: int) -> None:
    """Refuse, before memory is taken, a config of a model that its weights could never fill."""
    # The config may be a stranger's: on the meta device a model of any size is built in no memory.
    with torch.device("meta"):
        needed = sum(parameter.numel() for parameter in build(**options).parameters())
    if needed > 2 * available + MOST_ADDED:
        raise ValueError(f"the config describes a model of {needed:,} parameters, and the weights are {available:,}")


def _load(model: nn.Module, weights: dict[str, Tensor], *, strict: bool) -> None:
    """Load weights; adapt and log those of another number of classes or input channels, or without a time axis."""
    own = model.state_dict()
    changed = [name for name, weight in weights.items() if name in own and own[name].shape != weight.shape]
    spread = []
    for name in changed:
        fitted = _fitted(name, weights[name], own[name].shape)
        if fitted is not None:
            if weights[name].shape[-1] != fitted.shape[-1]:
                _logger.warning("%s adapted, %s", name, _shapes(weights[name], own[name]))
            spread += [name] if weights[name].ndim < fitted.ndim else []
            weights[name] = fitted
        elif name in ("head.weight", "head.bias"):
            _logger.warning("%s initialised anew, %s", name, _shapes(weights[name], own[name]))
            weights[name] = own[name]
        # Any other weight stays as it is, and `load_state_dict` refuses it with both shapes.
    if spread:
        _logger.warning("weights of pictures given a time axis: %d convolutions, %s first", len(spread), spread[0])
    model.load_state_dict(weights, strict=strict)


def _fitted(name: str, weight: Tensor, shape: torch.Size) -> Tensor | None:
    """Return a weight for other channels of the input, or with a time axis, or None if its shape differs otherwise."""
    if name.endswith(STEM):
        weight = _with_channels(weight, shape[-1])
    return weight if weight.shape == shape else inflated_weight(weight, shape)


def _with_channels(weight: Tensor, channels: int) -> Tensor:
    """Fit a stem to another number of input channels."""
    if channels == 1:
        return weight.sum(-1, keepdim=True)  # one channel gives what three equal ones gave: a gray image in color
    # Repeat the channels, for example r g b r g for 5, and scale so that the same constant in every channel gives about
    # what it gave before, exactly so if the new number is a multiple of the old one.
    repeats = ceil_div(channels, weight.shape[-1])
    return weight.repeat(*[1] * (weight.ndim - 1), repeats)[..., :channels] * (weight.shape[-1] / channels)


def _shapes(before: Tensor, after: Tensor) -> str:
    return f"{list(before.shape)} to {list(after.shape)}"
