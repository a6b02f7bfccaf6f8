"""The parameters of an encoder: frozen dataclasses that go to JSON and come back equal.

Names follow the proposal (section 4). A size is one integer for all axes or a tuple with one per axis.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from eyetoy.sizes import Size, ceil_div, check_count, check_divisible, check_rates, per_axis

T = TypeVar("T")
Pool = Literal["token", "avg"]
Norm = Literal["layer", "group"]

DEEPEST = 1024
"""The most layers that a global stack may have."""


@dataclass(frozen=True, kw_only=True)
class ConvParams:
    """A strided convolution; the stride divides the grid, rounding up.

    With `spread_bias`, biases start spread evenly over the range of the initial weights instead of at zero.
    """

    kernel_size: Size = 1
    stride: Size = 1
    spread_bias: bool = False

    def __post_init__(self) -> None:
        """Check that the kernel skips no inputs."""
        kernel, stride = _same_length(self.kernel_size, self.stride)
        if any(k < s for k, s in zip(kernel, stride, strict=True)):
            raise ValueError(
                f"kernel_size must be at least the stride, or inputs are skipped; got kernel_size="
                f"{self.kernel_size!r}, stride={self.stride!r}"
            )


@dataclass(frozen=True, kw_only=True)
class FilterbankParams:
    """A learned filterbank over waveforms; see `Filterbank`.

    `sample_rate` is that of the waveforms, in Hz. It sets where the first filters lie, and with `window_ms`, their
    length, and `hop_ms`, the time from one token to the next, their sizes in samples. `range_db` is the dynamic range.
    """

    rate: ClassVar[int] = 4
    """Steps of the filters from one token to the next."""

    num_filters: int = 64
    sample_rate: int = 16_000
    window_ms: float = 25.0
    hop_ms: float = 10.0
    range_db: float = 50.0

    def __post_init__(self) -> None:
        """Check that filters and steps hold samples."""
        if self.range_db <= 0:
            raise ValueError(f"range_db must be above 0; got {self.range_db}")
        check_count(self.num_filters, "num_filters")
        check_count(self.sample_rate, "sample_rate")
        if self.step < 1 or self.window < max(2, self.step):
            raise ValueError(
                f"window_ms={self.window_ms} and hop_ms={self.hop_ms} at {self.sample_rate} Hz are filters of "
                f"{self.window} samples every {self.step}; they should be at least 2 and 1, and leave no sample out"
            )

    @property
    def window(self) -> int:
        """Samples of a filter."""
        return round(self.sample_rate * self.window_ms / 1000)

    @property
    def step(self) -> int:
        """Samples from one place of the filters to the next."""
        return round(self.sample_rate * self.hop_ms / 1000 / self.rate)

    @property
    def stride(self) -> int:
        """Samples from one token to the next."""
        return self.step * self.rate


@dataclass(frozen=True, kw_only=True)
class AttentionParams:
    """The neighborhood of one head group, in tokens of that group's own scale."""

    attention_window: Size
    dilation: Size = 1
    is_causal: bool = False


@dataclass(frozen=True, kw_only=True)
class HeadParams:
    """One head group of `MultiScaleMultiHeadNA`: its tokenizer, its window, its width.

    `intermediate_channels` is the group's width over all its heads. Without `conv_params` there is no tokenizer:
    queries, keys and values are projected from the block's channels, as in NAT (Hassani et al., CVPR 2023).
    """

    conv_params: ConvParams | None
    attn_params: AttentionParams
    num_heads: int
    intermediate_channels: int

    def __post_init__(self) -> None:
        """Check that the heads can share the width."""
        check_count(self.num_heads, "num_heads")
        check_count(self.intermediate_channels, "intermediate_channels")
        check_divisible(self.intermediate_channels, self.num_heads, "intermediate_channels", "num_heads")


@dataclass(frozen=True, kw_only=True)
class TransformerParams:
    """One `MSNATTransformer` block.

    `scale_factor` scales the grid before attention: 1 keeps it, 0.5 halves it (any 1/n, per axis if a tuple).
    `layer_scale` is the initial value of a learned scale per channel on both residual branches, or none.
    `local_kernel` is the kernel of a depthwise convolution whose result is added to the block's tokens before attention
    (conditional positional encoding: Chu et al., ICLR 2023), or none. Without `heads` a block has no attention, and the
    convolution alone lets its tokens see each other. `norm` is as in `EncoderParams`.
    """

    heads: tuple[HeadParams, ...]
    out_channels: int
    scale_factor: float | tuple[float, ...] = 1.0
    mlp_ratio: float = 3.0
    dropout: float = 0.0
    drop_path: float = 0.0
    layer_scale: float | None = None
    local_kernel: Size | None = None
    norm: Norm = "layer"

    def __post_init__(self) -> None:
        """Check heads, width, rates and norm."""
        check_count(self.out_channels, "out_channels")
        check_rates(dropout=self.dropout, drop_path=self.drop_path)
        if not self.heads and self.local_kernel is None:
            raise ValueError("heads must hold at least one HeadParams, or a local_kernel be given; got neither")
        if self.local_kernel is not None:
            axes = len(self.local_kernel) if isinstance(self.local_kernel, tuple) else 1
            per_axis(self.local_kernel, axes, "local_kernel")
        _check_norm(self.norm)


@dataclass(frozen=True, kw_only=True)
class GlobalAttentionParams:
    """The global stack: `depth` layers in which register and context tokens exchange with every spatial token.

    `residual` is the residual of a layer's attention: "input", its input (the usual pre-norm block), or "norm", the
    normalised tokens, as the proposal's second diagram (section 4.5) draws it.

    `context_init` is the context token before the first layer: "learned", a parameter alone, as in the proposal, or
    "mean", the parameter plus the mean of the spatial tokens. With the mean, gradients reach the encoder from the first
    step on without passing the attention.

    `global_pool` is the context that the stack returns: "token", the context token after the last layer, or "avg", the
    mean of the refined spatial tokens. Without a context token it is always "avg".
    """

    depth: int
    num_heads: int
    num_register_tokens: int = 4
    context_token: bool = True
    mlp_ratio: float = 3.0
    dropout: float = 0.0
    drop_path: float = 0.0
    layer_scale: float | None = None
    residual: Literal["input", "norm"] = "input"
    context_init: Literal["learned", "mean"] = "learned"
    global_pool: Pool = "token"

    def __post_init__(self) -> None:
        """Check layers, heads, global tokens, rates and choices."""
        check_count(self.depth, "depth", most=DEEPEST)
        check_count(self.num_heads, "num_heads")
        check_rates(dropout=self.dropout, drop_path=self.drop_path)
        if self.num_register_tokens < 0 or self.num_global_tokens == 0:
            raise ValueError(
                "a global stack needs at least one global token: num_register_tokens >= 1, or context_token=True; "
                f"got num_register_tokens={self.num_register_tokens}, context_token={self.context_token}"
            )
        if self.residual not in ("input", "norm"):
            raise ValueError(f"residual must be 'input' or 'norm'; got {self.residual!r}")
        if self.context_init not in ("learned", "mean"):
            raise ValueError(f"context_init must be 'learned' or 'mean'; got {self.context_init!r}")
        if self.global_pool not in ("token", "avg"):
            raise ValueError(f"global_pool must be 'token' or 'avg'; got {self.global_pool!r}")

    @property
    def num_global_tokens(self) -> int:
        """Registers and context together."""
        return self.num_register_tokens + self.context_token


@dataclass(frozen=True, kw_only=True)
class EncoderParams:
    """An encoder (proposal, section 4.3): stem, positions, MSNAT blocks, global stack.

    `initial_proj` is the stem: convolutions in a row, doubling the width up to `stem_channels`. With
    `positional_embedding="space"`, positions in a clip hold the place in the frame but not the time. A `filterbank`
    comes before the stem, which then takes its bands. With `stem_norm`, a norm follows each convolution of the stem.

    `norm` is that of the stem, and of the features at the end; a block has its own. "layer" normalises each token by
    itself, and so hides how loud or bright it is beside the others. "group" normalises each input as a whole, over all
    of its tokens and channels; see `eyetoy.layers.GroupNorm`. The global stack always has layer norms.
    """

    num_spatial_dims: int
    in_channels: int
    stem_channels: int
    initial_proj: tuple[ConvParams, ...]
    transformer: tuple[TransformerParams, ...]
    global_attention: GlobalAttentionParams | None = None
    positional_embedding: bool | Literal["space"] = True
    filterbank: FilterbankParams | None = None
    stem_norm: bool = True
    norm: Norm = "layer"

    def __post_init__(self) -> None:
        """Check dimensions, channels, positions and norm."""
        _check_norm(self.norm)
        if self.num_spatial_dims not in (1, 2, 3):
            raise ValueError(f"num_spatial_dims must be 1, 2 or 3; got {self.num_spatial_dims!r}")
        if not self.initial_proj or not self.transformer:
            raise ValueError("an encoder needs at least one convolution in initial_proj and one transformer block")
        check_count(self.in_channels, "in_channels")
        if self.filterbank is not None and (self.num_spatial_dims, self.in_channels) != (1, 1):
            raise ValueError(
                "a filterbank takes waveforms, of 1 dimension and 1 channel; got "
                f"num_spatial_dims={self.num_spatial_dims}, in_channels={self.in_channels}"
            )
        if self.positional_embedding not in (True, False, *(["space"] if self.num_spatial_dims == 3 else [])):
            raise ValueError(
                "positional_embedding must be True or False, or, in 3 dimensions, 'space'; got "
                f"{self.positional_embedding!r}"
            )
        if self.stem_norm not in (True, False):  # the text "false" would be true
            raise ValueError(f"stem_norm must be True or False; got {self.stem_norm!r}")

    @property
    def stem_widths(self) -> tuple[int, ...]:
        """Channels after each convolution of the stem."""
        last = len(self.initial_proj) - 1
        return tuple(self.stem_channels >> (last - i) for i in range(last + 1))

    @property
    def out_channels(self) -> int:
        """Channels of the features and of the context token."""
        return self.transformer[-1].out_channels

    @property
    def stages(self) -> tuple[range, ...]:
        """The blocks of every stage: one begins at the first block and at every block that shrinks the grid."""
        return stages_of(self._block_strides)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of every stage's output."""
        return tuple(self.transformer[stage[-1]].out_channels for stage in self.stages)

    @property
    def stage_reductions(self) -> tuple[tuple[int, ...], ...]:
        """The input's grid divided by that of every stage, per axis."""
        # For example in 2d, a stem of strides 2, 2 and two stages: ((4, 4), (8, 8)).
        stem, blocks = self._stem_strides, self._block_strides
        ends = [stage[-1] + 1 for stage in self.stages]
        return tuple(tuple(map(math.prod, zip(*stem, *blocks[:end], strict=True))) for end in ends)

    @property
    def _stem_strides(self) -> list[tuple[int, ...]]:
        bank = [] if self.filterbank is None else [(self.filterbank.stride,)]
        return bank + [per_axis(conv.stride, self.num_spatial_dims, "stride") for conv in self.initial_proj]

    @property
    def _block_strides(self) -> list[tuple[int, ...]]:
        return [downsampling(block.scale_factor, self.num_spatial_dims) for block in self.transformer]

    def out_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Return the grid of the features of an input with this grid."""
        for stride in (*self._stem_strides, *self._block_strides):
            grid = tuple(ceil_div(n, s) for n, s in zip(grid, stride, strict=True))
        return grid


def stages_of(strides: Sequence[tuple[int, ...]]) -> tuple[range, ...]:
    """Return the blocks of every stage, given the strides of the blocks; see `EncoderParams.stages`."""
    starts = [i for i, stride in enumerate(strides) if i == 0 or any(s > 1 for s in stride)]
    return tuple(map(range, starts, [*starts[1:], len(strides)]))


def downsampling(scale_factor: float | tuple[float, ...], num_spatial_dims: int) -> tuple[int, ...]:
    """Return the stride per axis that a `scale_factor` stands for: 0.5 is a stride of 2.

    Raises:
        ValueError: a factor is not 1/n for a positive integer n, or there is not one per axis.
    """
    factors = (scale_factor,) * num_spatial_dims if isinstance(scale_factor, int | float) else tuple(scale_factor)
    if len(factors) != num_spatial_dims:
        raise ValueError(
            f"scale_factor must be one number or {num_spatial_dims} of them, one per axis; got {scale_factor!r}"
        )
    strides = tuple(round(1 / factor) if factor > 0 else 0 for factor in factors)
    if any(stride < 1 or abs(stride * factor - 1) > 1e-6 for stride, factor in zip(strides, factors, strict=True)):
        raise ValueError(f"scale_factor must be 1/n for a whole n, such as 1, 0.5 or 0.25; got {scale_factor!r}")
    return strides


def as_encoder_params(params: EncoderParams | dict[str, Any]) -> EncoderParams:
    """Return `params`, rebuilt if they are a dict from a JSON config."""
    return params if isinstance(params, EncoderParams) else from_dict(EncoderParams, params)


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """Rebuild parameters of type `cls` from the result of `dataclasses.asdict`, also by way of JSON.

    Raises:
        ValueError: a key is not a field of `cls`.
    """
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(hints)}")
    return cls(**{key: _decode(hints[key], value) for key, value in values.items()})


def _decode(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(typing.cast("type[Any]", hint), value)
    arguments = typing.get_args(hint)
    # JSON has lists for tuples, and a frozen dataclass needs tuples to be equal and hashable. A union holds either one
    # dataclass, as in `ConvParams | None`, or a tuple that a list stands for, as in `int | tuple[int, ...]`.
    if isinstance(hint, types.UnionType):
        dataclass_type = next((option for option in arguments if dataclasses.is_dataclass(option)), None)
        if dataclass_type:
            return _decode(dataclass_type, value)
        return tuple(value) if isinstance(value, list) else value
    if typing.get_origin(hint) is tuple:
        return tuple(_decode(arguments[0], item) for item in value)
    return value


def _check_norm(norm: str) -> None:
    if norm not in typing.get_args(Norm):
        raise ValueError(f"norm must be 'layer' or 'group'; got {norm!r}")


def _same_length(first: Size, second: Size) -> tuple[tuple[int, ...], tuple[int, ...]]:
    length = max(len(size) if isinstance(size, tuple) else 1 for size in (first, second))
    return per_axis(first, length, "kernel_size"), per_axis(second, length, "stride")
