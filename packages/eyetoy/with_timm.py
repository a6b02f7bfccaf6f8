"""The named models under timm's registry, where timm is installed: `timm.create_model("eyetoy_nano")`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import nn

from eyetoy.factory import create_model, create_pyramid, list_models


def register_timm_models() -> list[str]:
    """Tell timm of every model for images, `eyetoy2d_nano` by the name of `eyetoy_nano`, and return those names.

    They take `num_classes`, `in_chans`, `drop_rate`, `drop_path_rate`, `features_only` and `out_indices`, as timm's do.

    Raises:
        ModuleNotFoundError: timm is not installed.
    """
    register = import_module("timm.models").register_model
    entries = [_entry(name) for name in list_models("eyetoy2d_*")]
    for entry in entries:
        register(entry)
    return [entry.__name__ for entry in entries]


def _entry(name: str) -> Callable[..., nn.Module]:
    def build(
        pretrained: bool = False,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        features_only: bool = False,
        out_indices: tuple[int, ...] | None = None,
        **of_timm: Any,
    ) -> nn.Module:
        unknown = sorted(set(of_timm) - {"pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"})
        if unknown:
            raise TypeError(f"{build.__name__} takes no {', '.join(unknown)}")
        if pretrained:
            raise ValueError(
                f"there are no pretrained weights of {build.__name__}; train some, and use from_pretrained"
            )
        if features_only:
            return create_pyramid(name, out_indices=out_indices, in_channels=in_chans, drop_path=drop_path_rate)
        return create_model(
            name, num_classes=num_classes, in_channels=in_chans, drop_path=drop_path_rate, dropout=drop_rate
        )

    build.__name__ = name.replace("eyetoy2d", "eyetoy")
    build.__module__ = __name__
    return build
