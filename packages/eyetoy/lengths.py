"""Clips of several lengths in one batch: which tokens are real, and what stands in for the others.

`lengths` is int64 `[batch]` throughout: how many tokens of each row are real; what lies after them is padding. None
says that all are, and then nothing is done. Tokens are `[batch, tokens, channels]`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def check_lengths(lengths: Tensor, x: Tensor) -> None:
    """Refuse lengths that do not fit `x`, `[batch, channels, time]`. A compiled program does not look at the values.

    Raises:
        ValueError: `lengths` has the wrong type, shape or device, or values that are not from 1 to the time of `x`.
    """
    is_tensor = isinstance(lengths, Tensor)
    if not (is_tensor and lengths.dtype == torch.int64 and lengths.shape == x.shape[:1] and lengths.device == x.device):
        got = f"{lengths.dtype} of shape {tuple(lengths.shape)} on {lengths.device}" if is_tensor else repr(lengths)
        raise ValueError(
            f"lengths must be an int64 tensor of shape [batch] = {tuple(x.shape[:1])} on {x.device}; got {got}"
        )
    if torch.compiler.is_compiling():
        return
    wrong = lengths[(lengths < 1) | (lengths > x.shape[-1])].tolist()
    if wrong:
        raise ValueError(f"lengths must be from 1 to {x.shape[-1]}, the time of the batch; got {wrong}")


def valid_tokens(lengths: Tensor, size: int) -> Tensor:
    """Return which of `size` tokens are real, bool `[batch, size]`."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def shrink(lengths: Tensor | None, stride: tuple[int, ...]) -> Tensor | None:
    """Return the lengths after a `StridedConv` of this stride."""
    return None if lengths is None else -(-lengths // stride[0])


def clear_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Put zeros after the end of every clip, as a convolution finds them after the end of a clip alone."""
    return x if lengths is None else torch.where(valid_tokens(lengths, x.shape[1])[..., None], x, 0)


def repeat_last(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Repeat the last token of every clip once, where there is room: interpolation looks one token ahead."""
    if lengths is None:
        return x
    rows = torch.arange(x.shape[0], device=x.device)
    return x.index_put((rows, lengths.clamp(max=x.shape[1] - 1)), x[rows, lengths - 1])


def mean_over_tokens(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the mean of every clip, `[batch, channels]`."""
    if lengths is None:
        return x.mean(1)
    wide = torch.promote_types(x.dtype, torch.float32)  # a sum could be too much for half precision
    return (clear_padding(x, lengths).sum(1, dtype=wide) / lengths[:, None]).to(x.dtype)
