"""Clips of several lengths in one batch: which tokens are real, and how the others are kept from mattering.

`lengths` is int64 `[batch]` throughout: the number of real tokens in each row; the rest is padding. None means that all
tokens are real, and then nothing is done. Tokens are `[batch, tokens, channels]`.

A padded clip must get what it gets alone. So zeros are put back after its end before every convolution, the last token
is repeated before every interpolation, attention shifts its windows at the clip's own end, and means leave padding out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eyetoy.tracing import is_jit_tracing


def check_lengths(lengths: Tensor, x: Tensor) -> None:
    """Check that lengths fit `x`, `[batch, channels, time]`; compiled and traced programs do not look at their values.

    Raises:
        ValueError: `lengths` has the wrong type, shape or device, or values that are not from 1 to the time of `x`.
    """
    is_tensor = isinstance(lengths, Tensor)
    if not (is_tensor and lengths.dtype == torch.int64 and lengths.shape == x.shape[:1] and lengths.device == x.device):
        got = f"{lengths.dtype} of shape {tuple(lengths.shape)} on {lengths.device}" if is_tensor else repr(lengths)
        raise ValueError(
            f"lengths must be an int64 tensor of shape [batch] = {tuple(x.shape[:1])} on {x.device}; got {got}"
        )
    if torch.compiler.is_compiling() or is_jit_tracing():
        return  # a look at values would break the graph, and wait for the device
    wrong = lengths[(lengths < 1) | (lengths > x.shape[-1])].tolist()
    if wrong:
        raise ValueError(f"lengths must be from 1 to {x.shape[-1]}, the time of the batch; got {wrong}")


def valid_tokens(lengths: Tensor, size: int) -> Tensor:
    """Return which of `size` tokens are real, bool `[batch, size]`."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def shrink(lengths: Tensor | None, stride: tuple[int, ...]) -> Tensor | None:
    """Return the lengths after a `StridedConv` of this stride, which rounds up."""
    return None if lengths is None else -(-lengths // stride[0])


def clear_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Put zeros after the end of every clip: a convolution pads a clip that comes alone with zeros too."""
    # `where` and not a product: padding may hold infinities, and 0 * inf is nan.
    return x if lengths is None else torch.where(valid_tokens(lengths, x.shape[1])[..., None], x, 0)


def repeat_last(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Repeat the last token of every clip once, where there is room.

    Linear interpolation looks one token ahead; for a clip that comes alone, it repeats the last one at the border.
    """
    if lengths is None:
        return x
    # A clip as long as the batch has no room and needs none: the clamped index is its last token, which gets itself.
    rows = torch.arange(x.shape[0], device=x.device)
    return x.index_put((rows, lengths.clamp(max=x.shape[1] - 1)), x[rows, lengths - 1])


def mean_over_tokens(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the mean of every clip, `[batch, channels]`."""
    if lengths is None:
        return x.mean(1)
    wide = torch.promote_types(x.dtype, torch.float32)  # in float16 a sum of many tokens would overflow at 65,504
    return (clear_padding(x, lengths).sum(1, dtype=wide) / lengths[:, None]).to(x.dtype)
