"""The encoder: stem, positions, MSNAT blocks, global stack (proposal, section 4.3)."""

from __future__ import annotations

import itertools
import re
from functools import reduce
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import _register_namedtuple
from torch.utils.checkpoint import checkpoint

from eyetoy.conv import StridedConv
from eyetoy.filterbank import Filterbank
from eyetoy.global_stack import GlobalAttentionStack
from eyetoy.hub import HubModel
from eyetoy.layers import build_norm, normalized
from eyetoy.lengths import check_lengths, clear_padding, mean_over_tokens, shrink
from eyetoy.msnat import TransformerStack
from eyetoy.params import EncoderParams, as_encoder_params, stages_of
from eyetoy.positional import PositionalEmbedding
from eyetoy.tracing import keep_default


class EncoderOutput(NamedTuple):
    """Features and context of an encoder."""

    features: Tensor
    """Spatial features, `[batch, channels, *grid]`."""
    context: Tensor
    """One vector for the whole input, `[batch, channels]`."""


# `torch.export.save` writes the type of a program's output by name, and only names that it was told.
_register_namedtuple(EncoderOutput, serialized_type_name="eyetoy.encoder.EncoderOutput")


class InitialProjection(nn.Module):
    """The stem: strided convolutions, doubling the width up to the last; with `stem_norm`, each is normalised.

    Maps `[batch, *grid, in_channels]` to `[batch, *ceil(grid / strides), stem_channels]`.
    """

    def __init__(self, params: EncoderParams) -> None:
        super().__init__()
        widths = params.stem_widths
        if widths[0] < 2:
            raise ValueError(
                f"stem_channels is halved for every convolution of initial_proj before the last, {len(widths)} in all, "
                f"and must leave at least 2 channels, or a norm hides the input; got stem_channels={widths[-1]}"
            )
        bank = params.filterbank
        self.filterbank = None if bank is None else Filterbank(bank)
        sources = [params.in_channels if bank is None else bank.num_filters, *widths]
        convs = [
            StridedConv(params.num_spatial_dims, source, width, conv)
            for source, width, conv in zip(sources, widths, params.initial_proj, strict=False)
        ]
        self.convs = nn.ModuleList(convs)
        self.strides = [part.stride for part in ([] if self.filterbank is None else [self.filterbank]) + convs]
        self.norms = nn.ModuleList(
            build_norm(params.norm, width) if params.stem_norm else nn.Identity() for width in widths
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Project the input."""
        strides = iter(self.strides)
        if self.filterbank is not None:
            x = self.filterbank(x, lengths)
            lengths = shrink(lengths, next(strides))
        for i, (conv, norm, stride) in enumerate(zip(self.convs, self.norms, strides, strict=True)):
            # The norm's bias turns padding into something else than zeros: they are cleared before every convolution.
            x = conv(clear_padding(F.gelu(x) if i else x, lengths))
            lengths = shrink(lengths, stride)
            x = normalized(norm, x, lengths)
        return x


class Encoder(HubModel):
    """An encoder for inputs `[batch, in_channels, *grid]` of any size, in `params.num_spatial_dims` dimensions.

    `Encoder1D`, `Encoder2D` and `Encoder3D` fix the number of dimensions. `save_pretrained(folder)` and
    `from_pretrained(folder or hub name)` write and read safetensors and a JSON config.

    Args:
        params: its parameters, also as a dict from a JSON config.

    Raises:
        ValueError: no encoder can be built from `params`.
    """

    kind = "encoder"

    def __init__(self, params: EncoderParams | dict[str, Any]) -> None:
        super().__init__()
        self.params = params = as_encoder_params(params)
        self.grad_checkpointing = False
        dim, width = params.num_spatial_dims, params.out_channels
        axes = dim - 1 if params.positional_embedding == "space" else dim
        self.positional_embedding = (
            PositionalEmbedding(axes, params.stem_channels) if params.positional_embedding else nn.Identity()
        )
        self.initial_proj = InitialProjection(params)
        self.transformer = TransformerStack(dim, params.stem_channels, params.transformer)
        self.norm = build_norm(params.norm, width)
        self.global_attention = (
            GlobalAttentionStack(width, params.global_attention) if params.global_attention else None
        )

    @property
    def stages(self) -> tuple[range, ...]:
        """The blocks of every stage, as `params.stages`, also after blocks were appended or cut off."""
        return stages_of(self.transformer.strides)

    def forward(self, x: Tensor, lengths: Tensor | None = None, *, context_only: bool = False) -> EncoderOutput:
        """Encode `[batch, in_channels, *grid]`.

        Args:
            x: the input.
            lengths: in one dimension, int64 `[batch]`: how many samples of each row are real. The samples after them
                change nothing: a clip gets what it gets alone, and zeros as features after its own
                `params.out_grid((length,))`.
            context_only: compute only the part of the global stack's last layer that the context needs, as a classifier
                does. The context is the same; the features are those before the global stack.

        Raises:
            ValueError: `x` has the wrong dtype, number of axes or channels, or an axis of length 0; or `lengths` does
                not fit `x`, or is given in more dimensions than one.
        """
        x, lengths = keep_default(x, lengths, None, "lengths")
        x, context_only = keep_default(x, context_only, False, "context_only")
        return self.finish(self.forward_stages(x, lengths)[-1], lengths, context_only=context_only)

    def forward_stages(
        self, x: Tensor, lengths: Tensor | None = None, *, num_stages: int | None = None
    ) -> list[Tensor]:
        """Return the output of every stage, fine to coarse, `[batch, *grid, channels]` each.

        Args:
            x: the input, as in `forward`.
            lengths: as in `forward`; the output after the end of a clip is meaningless.
            num_stages: compute only the first ones.

        Raises:
            ValueError: as in `forward`.
        """
        x = self.forward_stem(x, lengths)
        lengths = reduce(shrink, self.initial_proj.strides, lengths)
        strides, outputs = self.transformer.strides, []
        for stage in self.stages[:num_stages]:
            for index in stage:
                x = self._apply_block(self.transformer[index], x, lengths)
                lengths = shrink(lengths, strides[index])
            outputs.append(x)
        return outputs

    def forward_stem(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the first block's input, `[batch, *grid, channels]`; arguments and errors as in `forward`."""
        if not isinstance(x, fx.Proxy):  # a stand-in has no shape to look at
            self._check(x)
            self._check_lengths(x, lengths)
        tokens: Tensor = self.positional_embedding(self.initial_proj(x.movedim(1, -1), lengths))
        return tokens

    def _apply_block(self, block: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled() and not isinstance(x, fx.Proxy):
            # The reentrant kind would need an input that asks for gradients, which the first block's may not.
            out: Tensor = checkpoint(block, x, lengths, use_reentrant=False)
        else:
            out = block(x, lengths)
        return out

    def finish(self, x: Tensor, lengths: Tensor | None = None, *, context_only: bool = False) -> EncoderOutput:
        """Turn the output of the last stage into features and context; `lengths` are the input's, as in `forward`."""
        lengths = reduce(shrink, [*self.initial_proj.strides, *self.transformer.strides], lengths)
        x = normalized(self.norm, x, lengths)
        if self.global_attention is None:
            context = mean_over_tokens(x.flatten(1, -2), lengths)
        elif context_only:
            context = self.global_attention.context(x, lengths)
        else:
            x, context = self.global_attention(x, lengths)
        return EncoderOutput(clear_padding(x, lengths).movedim(-1, 1), context)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the inside of every block in the backward pass: less memory for more time."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False, *, prefix: str = "") -> dict[str, Any]:
        """Tell timm's layer decay which parameters make up a layer; without timm, `param_groups` does the same.

        Args:
            coarse: all blocks are one group.
            prefix: what stands before the names, such as "encoder." in a classifier.
        """
        start = "^" + re.escape(prefix)
        blocks = [(rf"{start}transformer\.(\d+)", None), (rf"{start}(?:norm|global_attention)\.", (99998,))]
        return {"stem": rf"{start}initial_proj", "blocks": rf"{start}transformer" if coarse else blocks}

    def no_weight_decay(self) -> set[str]:
        """Tell timm which parameters with two axes must not decay: the learned tokens."""
        return {name for name, _ in self.named_parameters() if name.endswith("global_tokens")}

    def freeze(self, num_stages: int | None = None) -> None:
        """Stop training of the stem and the first `num_stages` stages, or of everything.

        What is frozen drops no paths and no channels any more, also after `train()`: its output stays the same.

        Raises:
            ValueError: there are not so many stages.
        """
        stages = self.stages
        if num_stages is not None and not 0 <= num_stages <= len(stages):
            raise ValueError(f"num_stages must be from 0 to {len(stages)}; got {num_stages}")
        if num_stages is None:
            self.requires_grad_(False)
        else:
            self.initial_proj.requires_grad_(False)
            for index in itertools.chain(*stages[:num_stages]):
                self.transformer[index].requires_grad_(False)
        self._calm_frozen()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; blocks and layers whose parameters are all frozen stay in evaluation mode."""
        super().train(mode)
        self._calm_frozen()
        return self

    def _calm_frozen(self) -> None:
        stack = self.global_attention
        for part in (*self.transformer, *(() if stack is None else stack.layers)):
            trains = [parameter.requires_grad for parameter in part.parameters()]
            # A block without parameters is not frozen: a wrapper, such as FSDP's, keeps them elsewhere.
            if trains and not any(trains):
                part.eval()

    def _check(self, x: Tensor) -> None:
        params = self.params
        if x.ndim != params.num_spatial_dims + 2 or x.shape[1] != params.in_channels or 0 in x.shape[2:]:
            grid = ["length", "height, width", "time, height, width"][params.num_spatial_dims - 1]
            raise ValueError(
                f"{type(self).__name__} takes [batch, {params.in_channels} channels, {grid}], every size at least 1; "
                f"got shape {tuple(x.shape)}"
            )
        dtype = self.norm.weight.dtype
        kind = x.device.type
        # Under autocast any floating-point input is right, but for float64, which it does not cast. Devices without
        # autocast, such as meta, refuse the question.
        castable = x.is_floating_point() and torch.float64 not in (x.dtype, dtype)
        cast = castable and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        if x.dtype != dtype and not cast:
            prepared = "; eyetoy.load(checkpoint).predict takes pixels and samples as they are"
            raise ValueError(
                f"{type(self).__name__} has weights of {dtype} and takes input of {dtype}; got {x.dtype}"
                + prepared * (not x.is_floating_point())
            )

    def _check_lengths(self, x: Tensor, lengths: Tensor | None) -> None:
        if lengths is None:
            return
        if self.params.num_spatial_dims != 1:
            raise ValueError(
                f"lengths is for inputs of one dimension, [batch, channels, length]; {type(self).__name__} takes "
                f"{self.params.num_spatial_dims} of them"
            )
        check_lengths(lengths, x)


class _FixedRankEncoder(Encoder):
    num_spatial_dims: int

    def __init__(self, params: EncoderParams | dict[str, Any]) -> None:
        params = as_encoder_params(params)
        if params.num_spatial_dims != self.num_spatial_dims:
            raise ValueError(
                f"{type(self).__name__} needs params with num_spatial_dims={self.num_spatial_dims}; "
                f"got num_spatial_dims={params.num_spatial_dims}"
            )
        super().__init__(params)


class Encoder1D(_FixedRankEncoder):
    """Sound and other sequences: `[batch, channels, length]`."""

    num_spatial_dims = 1


class Encoder2D(_FixedRankEncoder):
    """Images: `[batch, channels, height, width]`."""

    num_spatial_dims = 2


class Encoder3D(_FixedRankEncoder):
    """Video: `[batch, channels, time, height, width]`."""

    num_spatial_dims = 3


ENCODERS: dict[int, type[_FixedRankEncoder]] = {1: Encoder1D, 2: Encoder2D, 3: Encoder3D}
