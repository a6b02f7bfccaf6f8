"""An encoder as a backbone: features at every stage, fine to coarse, for detection and segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from torch import Tensor, nn

from eyetoy.encoder import ENCODERS
from eyetoy.hub import HubModel
from eyetoy.layers import build_norm
from eyetoy.params import EncoderParams, as_encoder_params


@dataclass(frozen=True, kw_only=True)
class FeatureInfo(Mapping[str, Any]):
    """One level of a pyramid; also a mapping with timm's keys, so that `info["num_chs"]` is `info.num_chs`.

    timm's models have one reduction for all axes: `info["reduction"]` is one integer if it is the same on every axis.
    """

    index: int
    """The stage, counted from the finest."""
    num_chs: int
    """Its channels."""
    reduction: tuple[int, ...]
    """The input's grid divided by its own, per axis."""
    module: str = ""
    """The last block of the stage, as `named_modules` calls it."""

    def __getitem__(self, key: str) -> Any:
        """Return a field by its name."""
        if key not in iter(self):
            raise KeyError(key)
        value = getattr(self, key)
        return value[0] if key == "reduction" and len(set(value)) == 1 else value

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the fields."""
        return (field.name for field in fields(self))

    def __len__(self) -> int:
        """Return the number of fields."""
        return len(fields(self))


class FeatureLevels(tuple[FeatureInfo, ...]):
    """The levels that a pyramid returns, with the methods of timm's `FeatureInfo`.

    `info` holds all stages of the encoder, and `out_indices` tells which of them are returned. Where a method takes
    `idx`, that is a stage or several; by default it answers for the returned ones.
    """

    info: tuple[FeatureInfo, ...]
    out_indices: tuple[int, ...]

    def __new__(cls, info: Sequence[FeatureInfo], out_indices: Sequence[int]) -> Self:
        """Return the levels of `out_indices`."""
        levels = super().__new__(cls, [info[i] for i in out_indices])
        levels.info, levels.out_indices = tuple(info), tuple(out_indices)
        return levels

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Tell `copy` and `pickle` how to build it."""
        return self.info, self.out_indices

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """Return a field of every level, such as "num_chs"."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[i][key] for i in (self.out_indices if idx is None else idx)]

    def get_dicts(self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None) -> Any:
        """Return the fields of every level, or those in `keys`, as dicts."""
        if isinstance(idx, int):
            return {key: self.info[idx][key] for key in keys or self.info[idx]}
        return [self.get_dicts(keys, i) for i in (self.out_indices if idx is None else idx)]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the channels of every level."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the reduction of every level: an integer, or one for each axis if they differ."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the name of every level's last block."""
        return self.get("module", idx)


class FeaturePyramid(HubModel):
    """Map inputs `[batch, in_channels, *grid]` to one `[batch, channels, *grid / reduction]` per chosen stage.

    The last stage gives the encoder's features, after the global stack; every other one has a layer norm of its own, as
    in backbones of dense predictors (Liu et al., Swin Transformer, 2021, section 4.2). `feature_info` describes each
    level, as timm's does. Blocks after the last of the chosen stages are neither computed nor trained.

    Args:
        params: the encoder's parameters, also as a dict from a JSON config.
        out_indices: stages to return, counted from the finest; negative ones from the end; all by default. One integer
            is the number of the last stages, as in timm.

    Raises:
        ValueError: there is no such stage, one is named twice, or there are fewer.
    """

    kind = "pyramid"

    def __init__(self, params: EncoderParams | dict[str, Any], out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__()
        params = as_encoder_params(params)
        self.out_indices = stage_indices(out_indices, len(params.stages))
        self.encoder = ENCODERS[params.num_spatial_dims](params)
        self.last = len(params.stages) - 1
        widths, reductions = params.stage_channels, params.stage_reductions
        info = [
            FeatureInfo(index=i, num_chs=widths[i], reduction=reductions[i], module=f"encoder.transformer.{stage[-1]}")
            for i, stage in enumerate(params.stages)
        ]
        self.feature_info = FeatureLevels(info, self.out_indices)
        self.norms = nn.ModuleDict(
            {str(i): build_norm(params.norm, widths[i]) for i in self.out_indices if i != self.last}
        )
        self._freeze_unused()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of the chosen stages."""
        stages = self.encoder.forward_stages(x, num_stages=max(self.out_indices) + 1)
        return [
            self.encoder.finish(stages[i]).features if i == self.last else self.norms[str(i)](stages[i]).movedim(-1, 1)
            for i in self.out_indices
        ]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the inside of every block in the backward pass: less memory for more time."""
        self.encoder.set_grad_checkpointing(enable)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Tell timm's layer decay which parameters make up a layer; without timm, `param_groups` does the same."""
        return self.encoder.group_matcher(coarse, prefix="encoder.")

    def no_weight_decay(self) -> set[str]:
        """Tell timm which parameters with two axes must not decay: the learned tokens."""
        return {f"encoder.{name}" for name in self.encoder.no_weight_decay()}

    def _freeze_unused(self) -> None:
        # Processes that train together wait for the gradient of every parameter that asks for one. An unused one would
        # have none, and they would wait for ever.
        last = max(self.out_indices)
        if last == self.last:
            return
        blocks = list(self.encoder.transformer)[self.encoder.params.stages[last].stop :]
        for module in filter(None, (*blocks, self.encoder.norm, self.encoder.global_attention)):
            module.requires_grad_(False)


def stage_indices(out_indices: int | Sequence[int] | None, num_stages: int) -> tuple[int, ...]:
    """Return the chosen stages, counted from the finest; arguments and errors as in `FeaturePyramid`."""
    if isinstance(out_indices, int):
        if not 1 <= out_indices <= num_stages:
            raise ValueError(
                f"out_indices as one integer is the number of the last stages, from 1 to {num_stages}; got "
                f"{out_indices}. For one stage, give ({out_indices},)"
            )
        return tuple(range(num_stages - out_indices, num_stages))
    wanted = range(num_stages) if out_indices is None else out_indices
    found = tuple(index + num_stages if index < 0 else index for index in wanted)
    if not found or len(set(found)) < len(found) or any(not 0 <= index < num_stages for index in found):
        raise ValueError(f"out_indices must name stages from 0 to {num_stages - 1}, each once; got {tuple(wanted)!r}")
    return found
