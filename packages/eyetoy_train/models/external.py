"""Models of other projects, by a name such as `timm/resnet18`: the part before the slash is a family.

The engine knows timm's; an app adds those of its modality, such as `torchvision/r3d_18` for video. A family is one
function, `Build`, and one entry of a mapping, `Families`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

Build = Callable[[str, dict[str, Any], Sequence[int] | None], nn.Module]
"""Returns the model of a name in its family with random weights, from arguments (`num_classes` and `in_channels` among
them) and the spatial size of its input. It raises a `ValueError` for an unknown name and a `TypeError` for arguments
that the model does not take."""
Families = Mapping[str, Build]


@dataclass(frozen=True)
class Family:
    """A `Build` by its address, so that a package that few recipes need is imported only for those."""

    address: str
    """`package.module:function`; the function is a `Build`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the function."""

    def __call__(self, name: str, arguments: dict[str, Any], grid: Sequence[int] | None) -> nn.Module:
        """Build a model; arguments as in `Build`.

        Raises:
            ValueError: the package is not installed, or as in `Build`.
            TypeError: the model takes no such argument.
        """
        module, _, function = self.address.partition(":")
        package = module.partition(".")[0]
        try:
            build: Build = getattr(importlib.import_module(module), function)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise  # the package is there, and lacks something itself: its own error says what
            raise ValueError(
                f"the model {name!r} is built by {self.address}, and the package {package} is not installed"
            ) from error
        return build(name, arguments, grid, **self.options)


def split_name(name: str, families: Families) -> tuple[str, str] | None:
    """Return family and name of a model of another project, or None for one of this project's.

    Raises:
        ValueError: there is no such family.
    """
    family, slash, rest = name.partition("/")
    if not slash:
        return None
    if family not in families:
        known = ", ".join(f"{family}/..." for family in families)
        raise ValueError(f"model.name {name!r} is of no known family; there are {known}, and eyetoy.list_models()")
    return family, rest


def build_timm(name: str, arguments: dict[str, Any], grid: Sequence[int] | None) -> nn.Module:
    """Return a model of timm, by its name without a pretrained tag.

    Raises:
        ValueError: timm is not installed, or has no such model.
        TypeError: the model takes no such argument.
    """
    timm = import_timm()
    require_timm_model(timm, name)
    refuse_weight_arguments(arguments)
    arguments = {TIMM_NAMES.get(key, key): value for key, value in arguments.items()}
    # Transformers with learned positions are built for one size, 224 by default; convolutional models take any, and
    # refuse the argument.
    fixed = timm.models.get_pretrained_cfg_value(name, "fixed_input_size")
    size = {"img_size": tuple(grid)} if fixed and grid is not None else {}
    model: nn.Module = timm.create_model(name, pretrained=False, **(size | arguments))
    return model


def require_timm_model(timm: Any, name: str) -> None:
    """Refuse a name that timm does not have.

    Raises:
        ValueError: it has no such model; the message has the nearest names.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise ValueError(f"timm has no model named {name!r}; near it are {', '.join(near) or 'none'}")


TIMM_NAMES = {"in_channels": "in_chans", "drop_path": "drop_path_rate", "dropout": "drop_rate"}
TIMM: Families = {"timm": build_timm}

WEIGHT_ARGUMENTS = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
"""Arguments by which timm loads weights, which may be pickles, or fetches them."""


def refuse_weight_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments by which timm would read files: a recipe or a checkpoint may be a stranger's.

    Raises:
        ValueError: there is one of them.
    """
    found = sorted(set(WEIGHT_ARGUMENTS).intersection(arguments))
    if found:
        raise ValueError(f"model.options must not have {', '.join(found)}: weights are read by model.weights alone")


def import_timm() -> Any:
    """Return the module timm.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ValueError("models named timm/... need timm: pip install timm") from error
