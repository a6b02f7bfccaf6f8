"""Models of other projects, by a name such as `timm/resnet18`: what stands before the stroke is a family.

timm's is known here; an app adds those of its modality, such as `torchvision/r3d_18` for video.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WEIGHTS, CONFIG = "model.safetensors", "config.json"

Build = Callable[[str, dict[str, Any], Sequence[int] | None], nn.Module]
"""Returns the model of a name in its family with random weights, from arguments (`num_classes` and `in_channels` among
them) and the spatial size of its input."""
Families = Mapping[str, Build]


def split_name(name: str, families: Families) -> tuple[str, str] | None:
    """Return family and name of a model of another project, or None for one of this project's.

    Raises:
        ValueError: there is no such family.
    """
    family, stroke, rest = name.partition("/")
    if not stroke:
        return None
    if family not in families:
        known = ", ".join(f"{family}/..." for family in families)
        raise ValueError(f"model.name {name!r} is of no known family; there are {known}, and eyetoy.list_models()")
    return family, rest


class OtherModel(nn.Module):
    """A classifier of another project that saves as this project's do.

    Args:
        family: the key of `families` that it belongs to.
        name: its name there.
        arguments: what it is built from.
        grid: spatial size of the input, for models that are built for one.
        families: how those of every family are built.

    Raises:
        ValueError: there is no such model, or it takes no such argument.
    """

    def __init__(
        self, family: str, name: str, arguments: dict[str, Any], grid: Sequence[int] | None, families: Families
    ) -> None:
        super().__init__()
        self.family = family
        self.config = {family: name, "arguments": arguments, "grid": None if grid is None else list(grid)}
        try:
            self.model = families[family](name, dict(arguments), grid)
        except TypeError as error:
            raise ValueError(f"model.options do not fit {family}'s {name}: {error}") from error

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`."""
        logits: Tensor = self.model(x)
        return logits

    @property
    def _no_split_modules(self) -> list[str]:
        """Tell Accelerate's FSDP what to keep in one piece: the classes of which a list of blocks is made."""
        lists = (module for module in self.model.modules() if isinstance(module, nn.ModuleList | nn.Sequential))
        return sorted({type(block).__name__ for blocks in lists for block in blocks if "Block" in type(block).__name__})

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the inside of blocks again in the backward pass.

        Raises:
            ValueError: the model cannot.
        """
        checkpointing: Any = getattr(self.model, "set_grad_checkpointing", None)
        if checkpointing is None:
            raise ValueError(f"model.grad_checkpointing is on, and a model of {self.family} does not know it")
        checkpointing(enable)

    def save_pretrained(self, folder: Path) -> None:
        """Write weights and config."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2), encoding="utf-8")


def load_other_model(folder: Path, config: dict[str, Any], families: Families) -> OtherModel | None:
    """Return the model that `OtherModel.save_pretrained` wrote, or None if its config is of none of the families."""
    family = next((family for family in families if family in config), None)
    if family is None:
        return None
    model = OtherModel(family, config[family], config["arguments"], config["grid"], families)
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model


def build_timm(name: str, arguments: dict[str, Any], grid: Sequence[int] | None) -> nn.Module:
    """Return a model of timm, by its name without a pretrained tag.

    Raises:
        ValueError: timm is not installed, or has no such model.
        TypeError: the model takes no such argument.
    """
    timm = _timm()
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:8]
        raise ValueError(f"timm has no model named {name!r}; near it are {', '.join(near) or 'none'}")
    refuse_foreign_weights(arguments)
    arguments = {TIMM_NAMES.get(key, key): value for key, value in arguments.items()}
    fixed = timm.models.get_pretrained_cfg_value(name, "fixed_input_size")
    size = {"img_size": tuple(grid)} if fixed and grid is not None else {}
    model: nn.Module = timm.create_model(name, pretrained=False, **(size | arguments))
    return model


FOREIGN_WEIGHTS = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
"""Arguments by which timm loads weights, which may be pickles, or fetches them."""


def refuse_foreign_weights(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that would have timm read files: a recipe or a checkpoint is somebody else's.

    Raises:
        ValueError: there is one of them.
    """
    found = sorted(set(FOREIGN_WEIGHTS).intersection(arguments))
    if found:
        raise ValueError(f"model.options must not have {', '.join(found)}: weights are read by model.weights alone")


TIMM_NAMES = {"in_channels": "in_chans", "drop_path": "drop_path_rate", "dropout": "drop_rate"}
TIMM: Families = {"timm": build_timm}


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ValueError("models named timm/... need timm: pip install timm") from error
