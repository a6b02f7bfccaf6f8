"""Save, load and share models through huggingface_hub, as safetensors and a JSON config, nothing else."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors.torch import load_file
from torch import Tensor, nn

from eyetoy.inflation import inflated_weight
from eyetoy.kinds import WEIGHTS, check_kind, is_complete, run_checkpoint
from eyetoy.params import as_encoder_params
from eyetoy.sizes import ceil_div
from eyetoy.tracing import Unscriptable

STEM = "initial_proj.convs.0.weight"
"""The only weight whose shape depends on the input's channels; they are its last axis."""

FIRST = "initial_proj.convs.0."
"""Begins the names of an encoder's first weights; what stands before it tells where the encoder is in a model."""
HEAD = ("head.weight", "head.bias")
COMPUTED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

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


class HubModel(nn.Module, Unscriptable, PyTorchModelHubMixin, library_name="eyetoy", model_card_template=CARD):
    """A model with `save_pretrained(folder)`, `from_pretrained(folder or hub name)` and `push_to_hub(name)`.

    `from_pretrained` takes new values for the config's, such as `num_classes=5`, and also `in_channels=1`: it then
    initialises the head anew and adapts the stem, and logs which weights it changed. Weights of images are inflated for
    the video encoder that `eyetoy.inflated` gives. With `strict=False` the encoder of a classifier, of a pyramid or of
    any model of this project is loaded into any other.
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
        given: Any = options.pop("config", None)
        arguments = given or self._arguments()
        if not given:
            _warn_of_undescribed(self, arguments)
        config = {"kind": self.kind, **arguments, **({} if given else self._description())}
        saved: str | None = super().save_pretrained(save_directory, config=config, **options)
        return saved

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments of the constructor that build this model, for JSON."""
        arguments: dict[str, Any] = self._hub_mixin_config  # type: ignore[assignment]
        return arguments

    def _description(self) -> dict[str, Any]:
        """Return what the config says besides the constructor's arguments."""
        return {}

    def _take_description(self, config: Mapping[str, Any]) -> None:
        """Take what `_description` wrote to the config of the saved model, as far as it is true of this one."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Return the model of a folder, or of a name on Hugging Face's hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: the folder, also a run's for its best checkpoint, or the name. Included
                models have none on the hub: `eyetoy.load` knows their names.
            options: the hub's `revision`, `token`, `cache_dir`, `force_download` and `local_files_only`; new values for
                those of the config; `map_location`, the device; `dtype`, such as `torch.float32` or its name, by
                default the one that the weights were saved in; and `strict=False`, to load what fits of a model of
                another kind, and log what was not loaded and what stays new.

        Raises:
            FileNotFoundError: the folder holds no weights, or the hub's files cannot be fetched.
            RuntimeError: the folder holds a model of another kind, and the message names the call that reads it; or the
                weights are not those of the model that the config describes, or, with `strict=False`, none fits.
            ValueError: the config describes a far larger model than the weights, or `dtype` is none of floating point.
        """
        name = str(run_checkpoint(Path(pretrained_model_name_or_path), WEIGHTS))
        try:
            return super().from_pretrained(name, other_head="num_classes" in options, **options)
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
        dtype: torch.dtype | str | None = None,
        in_channels: int | None = None,
        other_head: bool = False,
        config: Any = None,
        **options: Any,
    ) -> Self:
        """Build the model of the config and load its weights.

        Raises:
            FileNotFoundError: the folder holds no weights.
            RuntimeError: the model is of another kind, or the weights do not fit.
            ValueError: `dtype` is none of floating point.
        """
        dtype = _checked_dtype(dtype)
        other = check_kind(cls, cls.kind, config, options) if isinstance(config, dict) else ""
        if other and (strict or not is_complete(cls, options)):
            raise RuntimeError(f"{model_id} holds {other}")
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
        weights = _renamed(model, weights, model_id, strict=strict)
        _set_dtype(model, weights, dtype)
        if other_head and strict:  # otherwise `_load` names what is missing or left over
            _set_head(model, weights)
        _load(model, weights, model_id, strict=strict)
        if isinstance(config, dict) and not other:
            # Samples of other channels are not prepared as before; the classes are the same.
            left_out = () if in_channels is None else ("preprocessing",)
            model._take_description({key: value for key, value in config.items() if key not in left_out})
        return model.to(map_location).eval()


def _check_size(build: Callable[..., nn.Module], options: dict[str, Any], available: int) -> None:
    """Refuse, before memory is taken, a config of a model that its weights could never fill."""
    # The config may be a stranger's: on the meta device a model of any size is built in no memory.
    with torch.device("meta"):
        needed = sum(parameter.numel() for parameter in build(**options).parameters())
    if needed > 2 * available + MOST_ADDED:
        raise ValueError(f"the config describes a model of {needed:,} parameters, and the weights are {available:,}")


def _warn_of_undescribed(model: nn.Module, arguments: dict[str, Any]) -> None:
    """Log the weights that the model of a config does not have: a head of one's own, or blocks that were appended."""
    with torch.device("meta"):
        described = type(model)(**arguments).state_dict()
    own = model.state_dict()
    other = [name for name in {**own, **described} if name not in own or name not in described]
    other += [name for name in own if name in described and own[name].shape != described[name].shape]
    if other:
        _logger.warning(
            "the config of %s does not describe all of its weights, and from_pretrained will refuse them unless "
            "strict=False: %s",
            type(model).__name__,
            _listed(other),
        )


def _renamed(model: nn.Module, weights: dict[str, Tensor], source: str, *, strict: bool) -> dict[str, Tensor]:
    """Return weights under the names that their encoder has in the model; strictly, these must be their own names."""
    # For example "encoder.norm.weight" of a classifier is "norm.weight" of an encoder, and the other way round.
    before, after = _encoder_prefix(weights), _encoder_prefix(model.state_dict())
    if before is None or after is None or before == after:
        return weights
    if strict:
        raise RuntimeError(
            f"{source} holds a model of another kind than {type(model).__name__}: its weights are called "
            f"{before}norm.weight and so on instead of {after}norm.weight; with strict=False its encoder is loaded"
        )
    outside = {name: weight for name, weight in weights.items() if not name.startswith(before)}
    return outside | {after + name.removeprefix(before): w for name, w in weights.items() if name.startswith(before)}


def _encoder_prefix(names: Iterable[str]) -> str | None:
    """Return what stands before the names of the only encoder, or None if there is none, or several."""
    prefixes = {name.partition(FIRST)[0] for name in names if FIRST in name}
    return prefixes.pop() if len(prefixes) == 1 else None


def _checked_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ValueError(f"dtype must be one of floating point, such as torch.float32 or 'float32'; got {dtype!r}")
    return found


def _set_dtype(model: nn.Module, weights: dict[str, Tensor], dtype: torch.dtype | None) -> None:
    """Give the model the dtype that is asked for, or every parameter that of its weight."""
    # Integers and 8 bits are ways to store a model, not to run it: such weights are loaded into float32.
    saved = {name: weight.dtype for name, weight in weights.items() if weight.dtype in COMPUTED}
    sizes = Counter(dict.fromkeys(saved.values(), 0))
    for name, kind in saved.items():
        sizes[kind] += weights[name].numel()
    if dtype is not None or sizes:
        model.to(dtype or max(sizes, key=sizes.__getitem__))  # what has no weight, such as a new head, goes with most
    if dtype is None:
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(saved.get(name, parameter.dtype))


def _set_head(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Leave the saved head out of a model without one, and give a model its new head where none was saved."""
    own = model.state_dict()
    for name in HEAD:
        if name in own and name not in weights:
            _logger.warning("%s initialised anew, %s", name, list(own[name].shape))
            weights[name] = own[name]
        elif name in weights and name not in own:
            _logger.warning("%s left out, %s", name, list(weights.pop(name).shape))


def _load(model: nn.Module, weights: dict[str, Tensor], source: str, *, strict: bool) -> None:
    """Load weights; adapt and log those of another number of classes or input channels, or without a time axis.

    Raises:
        RuntimeError: they do not fit; or none does, if not `strict`.
    """
    own = model.state_dict()
    fitting = [name for name in weights if name in own]
    changed = [name for name, weight in weights.items() if name in own and own[name].shape != weight.shape]
    spread = []
    for name in changed:
        fitted = _fitted(name, weights[name], own[name].shape)
        if fitted is not None:
            if weights[name].shape[-1] != fitted.shape[-1]:
                _logger.warning("%s adapted, %s", name, _shapes(weights[name], own[name]))
            spread += [name] if weights[name].ndim < fitted.ndim else []
            weights[name] = fitted
        elif name in HEAD:
            _logger.warning("%s initialised anew, %s", name, _shapes(weights[name], own[name]))
            weights[name] = own[name]
            fitting.remove(name)
        # Any other weight stays as it is, and `load_state_dict` refuses it with both shapes.
    if spread:
        _logger.warning("weights of pictures given a time axis: %d convolutions, %s first", len(spread), spread[0])
    if not strict and not fitting:
        raise RuntimeError(
            f"{source} holds no weight of {type(model).__name__}: it holds {_listed(weights)}, and the model has "
            f"{_listed(own)}"
        )
    left = model.load_state_dict(weights, strict=strict)
    if left.unexpected_keys:
        _logger.warning("not loaded from %s: %s", source, _listed(left.unexpected_keys))
    if left.missing_keys:
        _logger.warning("new in %s, not in %s: %s", type(model).__name__, source, _listed(left.missing_keys))


def _listed(names: Iterable[str], most: int = 6) -> str:
    names = sorted(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{rest}"


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
