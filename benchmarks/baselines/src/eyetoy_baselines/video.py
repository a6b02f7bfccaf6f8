"""Baselines of Encoder3D: models of pytorchvideo and torchvision, and any 2-D model applied frame by frame.

A recipe names them `pytorchvideo/x3d_s`, `torchvision/swin3d_t`, `framewise/eyetoy2d_nano` or
`framewise/timm/convnext_tiny`. Each maps clips `[batch, 3, frames, height, width]` to logits `[batch, num_classes]`,
and is built, with random weights, for the clip size of the recipe.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.ops import StochasticDepth

from eyetoy import create_model
from eyetoy_train.models.external import TIMM, split_name

REDUCTION = 32
"""Stride of pytorchvideo's convolutional networks in height and width, from the input to the head."""
FRAMES_OF_SLOW = 4
"""SlowFast's slow pathway takes one of this many frames: alpha of its 8x8 variant."""

TORCHVISION = ("mc3_18", "mvit_v1_b", "mvit_v2_s", "r2plus1d_18", "r3d_18", "swin3d_b", "swin3d_s", "swin3d_t")
"""torchvision's video models except s3d, whose head fits 224 pixels only."""
MVIT_GRID = (16, 224, 224)
"""The only clip size that torchvision's MViTs take."""


class FrameWise(nn.Module):
    """A 2-D classifier applied to every frame; a clip's logits are the mean over its frames.

    It has no access to motion, so its score shows how much of a task can be solved without.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map `[batch, channels, frames, height, width]` to `[batch, num_classes]`."""
        logits: Tensor = self.model(x.transpose(1, 2).flatten(0, 1))  # [batch * frames, num_classes]
        return logits.view(len(x), -1, logits.shape[-1]).mean(1)


class SlowFast(nn.Module):
    """pytorchvideo's SlowFast (Feichtenhofer et al., ICCV 2019); both pathways are taken from one clip."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map `[batch, 3, frames, height, width]` to `[batch, num_classes]`."""
        logits: Tensor = self.model([x[:, :, ::FRAMES_OF_SLOW], x])
        return logits


def build_framewise(name: str, arguments: dict[str, Any], grid: Sequence[int] | None) -> nn.Module:
    """Return a frame-wise model over one of this project's 2-D models, or over `timm/...`.

    Raises:
        ValueError: there is no such model, or it does not take images.
        TypeError: the model takes no such argument.
    """
    external = split_name(name, TIMM)
    if external is not None:
        family, rest = external
        return FrameWise(TIMM[family](rest, arguments, None if grid is None else tuple(grid[1:])))
    model = create_model(name, **arguments)
    if model.encoder.params.num_spatial_dims != 2:
        raise ValueError(f"framewise/... takes a model of images, such as framewise/eyetoy2d_nano; got {name!r}")
    return FrameWise(model)


def build_torchvision(name: str, arguments: dict[str, Any], grid: Sequence[int] | None) -> nn.Module:
    """Return one of `TORCHVISION`.

    Raises:
        ValueError: there is no such model, the clip does not fit it, or the recipe asks for dropout or stochastic depth
            that it does not have.
        TypeError: the model takes no such argument.
    """
    _check_known("torchvision", name, TORCHVISION)
    if name.startswith("mvit") and tuple(grid or MVIT_GRID) != MVIT_GRID:
        raise ValueError(
            f"torchvision's {name} takes clips of 16 x 224 x 224; got {' x '.join(map(str, grid or ()))}. "
            "pytorchvideo/mvit_base takes other sizes"
        )
    arguments, drop_path = _for_colours(name, arguments)
    if name.endswith("_18"):  # the ResNets have neither rate, and `get_model` would not know the argument
        _refuse_rate(name, "dropout", arguments.pop("dropout", 0.0))
    model: nn.Module = get_model(name, weights=None, **arguments)
    _set_drop_path(name, model, drop_path)
    return model


def build_pytorchvideo(name: str, arguments: dict[str, Any], grid: Sequence[int] | None) -> nn.Module:
    """Return one of `PYTORCHVIDEO`.

    Raises:
        ValueError: pytorchvideo is not installed, has no such model, or the clip does not fit it.
        TypeError: the model takes no such argument.
    """
    _check_known("pytorchvideo", name, PYTORCHVIDEO)
    arguments, drop_path = _for_colours(name, arguments)
    return PYTORCHVIDEO[name](arguments, drop_path, tuple(grid or (16, 224, 224)))


def _x3d(arguments: dict[str, Any], drop_path: float, grid: tuple[int, ...], **size: float) -> nn.Module:
    """Return X3D (Feichtenhofer, CVPR 2020); XS, S and M are one network for clips of different sizes."""
    _refuse_rate("x3d", "drop_path", drop_path)
    side = _square("x3d", grid)
    # By default the head ends in a softmax, but the loss takes logits.
    options = {"input_clip_length": grid[0], "input_crop_size": side, "head_activation": None, **size}
    options |= _renamed(arguments, num_classes="model_num_class", dropout="dropout_rate")
    model: nn.Module = _pytorchvideo("x3d").create_x3d(**options)
    return model


def _slow(arguments: dict[str, Any], drop_path: float, grid: tuple[int, ...]) -> nn.Module:
    """Return SlowFast's slow pathway alone, pytorchvideo's slow_r50."""
    _refuse_rate("slow_r50", "drop_path", drop_path)
    # The slow pathway has no kernel over time in its stem. The pool before the head spans the whole last grid.
    options: dict[str, Any] = {
        "stem_conv_kernel_size": (1, 7, 7),
        "head_pool_kernel_size": (grid[0], *_last_sides(grid)),
    }
    options |= _renamed(arguments, num_classes="model_num_class", dropout="dropout_rate")
    model: nn.Module = _pytorchvideo("resnet").create_resnet(**options)
    return model


def _r2plus1d(arguments: dict[str, Any], drop_path: float, grid: tuple[int, ...]) -> nn.Module:
    """Return R(2+1)D (Tran et al., CVPR 2018) with bottlenecks, pytorchvideo's r2plus1d_r50."""
    _refuse_rate("r2plus1d_r50", "drop_path", drop_path)
    frames = math.ceil(grid[0] / 4)  # the last two stages halve them
    options: dict[str, Any] = {"head_activation": None, "head_pool_kernel_size": (frames, *_last_sides(grid))}
    options |= _renamed(arguments, num_classes="model_num_class", dropout="dropout_rate")
    model: nn.Module = _pytorchvideo("r2plus1d").create_r2plus1d(**options)
    return model


def _slowfast(arguments: dict[str, Any], drop_path: float, grid: tuple[int, ...], depth: int) -> nn.Module:
    _refuse_rate("slowfast", "drop_path", drop_path)
    if grid[0] % FRAMES_OF_SLOW:
        raise ValueError(f"SlowFast takes a multiple of {FRAMES_OF_SLOW} frames; data.num_frames is {grid[0]}")
    last = _last_sides(grid)
    options: dict[str, Any] = {
        "model_depth": depth,
        "slowfast_fusion_conv_kernel_size": (7 if depth == 50 else 5, 1, 1),
        "head_pool_kernel_sizes": ((grid[0] // FRAMES_OF_SLOW, *last), (grid[0], *last)),
    }
    options |= _renamed(arguments, num_classes="model_num_class", dropout="dropout_rate")
    return SlowFast(_pytorchvideo("slowfast").create_slowfast(**options))


def _mvit(arguments: dict[str, Any], drop_path: float, grid: tuple[int, ...]) -> nn.Module:
    """Return MViT-B (Fan et al., ICCV 2021) in the configuration of pytorchvideo's model zoo."""
    options: dict[str, Any] = {
        "temporal_size": grid[0],
        "spatial_size": grid[1:],
        "embed_dim_mul": [[1, 2.0], [3, 2.0], [14, 2.0]],
        "atten_head_mul": [[1, 2.0], [3, 2.0], [14, 2.0]],
        "pool_q_stride_size": [[1, 1, 2, 2], [3, 1, 2, 2], [14, 1, 2, 2]],
        "pool_kv_stride_adaptive": [1, 8, 8],
        "pool_kvq_kernel": [3, 3, 3],
        "droppath_rate_block": drop_path,
    }
    options |= _renamed(arguments, num_classes="head_num_classes", dropout="head_dropout_rate")
    model: nn.Module = _pytorchvideo("vision_transformers").create_multiscale_vision_transformers(**options)
    return model


PYTORCHVIDEO: Mapping[str, Callable[[dict[str, Any], float, tuple[int, ...]], nn.Module]] = {
    "mvit_base": _mvit,
    "r2plus1d_r50": _r2plus1d,
    "slow_r50": _slow,
    "slowfast_r50": partial(_slowfast, depth=50),
    "slowfast_r101": partial(_slowfast, depth=101),
    "x3d_xs": _x3d,
    "x3d_s": _x3d,
    "x3d_m": _x3d,
    "x3d_l": partial(_x3d, depth_factor=5.0),
}


def _pytorchvideo(module: str) -> Any:
    try:
        return importlib.import_module(f"pytorchvideo.models.{module}")
    except ModuleNotFoundError as error:
        raise ValueError(
            f'models named pytorchvideo/... need pytorchvideo ({error}): pip install "eyetoy[baselines]"'
        ) from error


def _check_known(family: str, name: str, known: Sequence[str] | Mapping[str, Any]) -> None:
    if name not in known:
        raise ValueError(f"there is no {family}/{name} here; there are {', '.join(sorted(known))}")


def _for_colours(name: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Return the arguments without `in_channels`, which must be 3, and without `drop_path`, and `drop_path` itself."""
    rest = dict(arguments)
    channels, drop_path = rest.pop("in_channels", 3), rest.pop("drop_path", 0.0)
    if channels != 3:
        raise ValueError(f"{name} takes clips of 3 channels; got in_channels={channels}")
    return rest, drop_path


def _refuse_rate(name: str, rate: str, value: float) -> None:
    if value:
        raise ValueError(f"{name} has no {rate}; model.{rate} must be 0 for it, not {value}")


def _set_drop_path(name: str, model: nn.Module, drop_path: float) -> None:
    """Scale the drop path rates of a model, which grow linearly over its blocks, so that the last is `drop_path`."""
    # torchvision has no argument for it. Every block has its rate, and the largest one is the last block's.
    branches = [module for module in model.modules() if isinstance(module, StochasticDepth)]
    if not branches:
        _refuse_rate(name, "drop_path", drop_path)
        return
    largest = max(branch.p for branch in branches)
    for branch in branches:
        branch.p *= drop_path / largest


def _renamed(arguments: dict[str, Any], **names: str) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in arguments.items()}


def _last_sides(grid: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.ceil(side / REDUCTION) for side in grid[1:])


def _square(name: str, grid: tuple[int, ...]) -> int:
    if grid[1] != grid[2] or grid[1] < REDUCTION:
        raise ValueError(f"{name} takes squares of {REDUCTION} pixels or more; got {grid[1]} x {grid[2]}")
    return grid[1]
