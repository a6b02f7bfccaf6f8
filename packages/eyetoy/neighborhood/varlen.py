"""Neighborhood attention along clips of several lengths in one batch, padded at their ends.

Every clip gets what it would get alone, where windows are shifted at its end. In the padded row they are not:

    clip of 6, window 3      tokens 0 1 2 3 4 5 | padding
    alone                    token 5 sees 3 4 5
    in the padded row        token 5 sees 4 5 and padding

A window that is not shifted lies inside the clip and is right already. The others belong to the last tokens of the
clip. So as many tokens as a window spans are cut out and attend among themselves, where a shifted window sees all.

A backend that knows of lengths, `triton`, does all this in one call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from eyetoy.lengths import valid_tokens
from eyetoy.neighborhood.backends.registry import BACKENDS, choose_backend
from eyetoy.neighborhood.functional import neighborhood_attention
from eyetoy.neighborhood.problem import check_problem, describe_call
from eyetoy.second_order import in_autocast_dtype
from eyetoy.sizes import Size, volume


def varlen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Tensor | None,
    *,
    window: Size,
    dilation: Size = 1,
    is_causal: bool = False,
) -> Tensor:
    """Attend from every token of a clip to the neighbors that it has in the clip alone.

    Args:
        query: `[batch, length, heads, head_dim]`; finite in the padding too, as are `key` and `value`.
        key: the shape of `query`.
        value: the shape of `query`, except that it may have another `head_dim`.
        lengths: int64 `[batch]`, the tokens of every clip, from 1 to `length`. None if no clip is padded; there may be
            several grid axes then.
        window: keys per axis.
        dilation: distance between neighboring keys of a window.
        is_causal: let windows end at their query.

    Returns:
        `[batch, length, heads, head_dim of value]`; its values in the padding have no meaning.
    """
    attend = partial(neighborhood_attention, kernel_size=window, dilation=dilation, is_causal=is_causal)
    if lengths is None or is_causal:  # a causal window is never shifted and never reaches the padding after it
        return attend(query, key, value)
    query, key, value = in_autocast_dtype(query, key, value)
    problem = check_problem(
        query,
        key,
        value,
        kernel_size=window,
        dilation=dilation,
        stride=None,
        is_causal=is_causal,
        key_mask=None,
        scale=None,
        kernel_size_name="window",
    )
    (rule,) = problem.rules
    in_parts = partial(_attend_in_parts, lengths=lengths, width=rule.window, step=rule.dilation)
    backend = BACKENDS[choose_backend("auto", describe_call(query, key, value, problem))]
    if backend.takes_lengths and volume(query.shape):
        plain = partial(in_parts, attend=partial(attend, backend="tiled"))
        return backend(query, key, value, replace(problem, lengths=lengths), plain=plain)
    return in_parts(query, key, value, attend=attend)


def _attend_in_parts(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    lengths: Tensor,
    width: int,
    step: int,
    attend: Callable[..., Tensor],
) -> Tensor:
    """Return `varlen_attention` by calls of `attend` with whole rows, and with the ends of the clips."""
    length = query.shape[1]
    if width * step >= length:  # the window sees the whole row, or what the mask leaves of it
        return attend(query, key, value, key_mask=valid_tokens(lengths, length))
    positions = _last_positions(lengths, width * step)
    rows = torch.arange(lengths.shape[0], device=lengths.device)[:, None]
    alone = attend(*(x[rows, positions] for x in (query, key, value)), key_mask=positions < lengths[:, None])
    out = attend(query, key, value)
    is_shifted = _are_shifted(positions, lengths, width, step)[..., None, None]
    return out.index_put((rows, positions), torch.where(is_shifted, alone, out[rows, positions]))


def _last_positions(lengths: Tensor, span: int) -> Tensor:
    """Return the last `span` positions of every clip, `[batch, span]`; a shorter clip gives all, and some padding."""
    return (lengths[:, None] - span).clamp(min=0) + torch.arange(span, device=lengths.device)


def _are_shifted(positions: Tensor, lengths: Tensor, width: int, step: int) -> Tensor:
    """Return which of the last positions have a shifted window, `[batch, span]`."""
    # The cut holds the last `width` members of each dilation group, which are the last window. Its middle member is the
    # last whose window is not shifted. In a clip that is not longer than the cut, every window is the whole clip.
    member = torch.arange(positions.shape[1], device=positions.device) // step
    return (member > width // 2) | (lengths[:, None] < positions.shape[1])
