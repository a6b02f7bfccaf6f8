"""Neighborhood attention along clips of several lengths in one batch.

A clip alone shifts the windows at its end, and shrinks to itself those that are longer than it is; in a longer row
neither happens. But wherever a window is not shifted, it lies inside the clip, and the row gives what the clip alone
would. What is left are the last tokens of every clip: as many of them as a window spans are cut out and attend among
themselves, and there every window that was shifted sees all of them.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from eyetoy.lengths import valid_tokens
from eyetoy.neighborhood.functional import neighborhood_attention
from eyetoy.sizes import Size, per_axis


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
    """Attend, from every token of a clip, to the neighbors that it has in the clip alone.

    Args:
        query: `[batch, length, heads, head_dim]`; finite after the end of a clip too, as are `key` and `value`.
        key: the shape of `query`.
        value: the shape of `query`, but for a `head_dim` of its own if need be.
        lengths: int64 `[batch]`, the tokens of every clip, from 1 to `length`. None where none is padded; then there
            may be more axes than one.
        window: as in `neighborhood_attention`, and so are the others.
        dilation: distance between neighboring keys of a window.
        is_causal: let windows end at their query.

    Returns:
        `[batch, length, heads, head_dim of value]`; after the end of a clip it means nothing.
    """
    attend = partial(neighborhood_attention, window=window, dilation=dilation, is_causal=is_causal)
    if lengths is None or is_causal:  # a causal window is never shifted, and looks at nothing after it
        return attend(query, key, value)
    (width,), (step,), length = per_axis(window, 1, "window"), per_axis(dilation, 1, "dilation"), query.shape[1]
    if width * step >= length:
        return attend(query, key, value, key_mask=valid_tokens(lengths, length))
    places = _last_places(lengths, width * step)
    rows = torch.arange(lengths.shape[0], device=lengths.device)[:, None]
    alone = attend(*(x[rows, places] for x in (query, key, value)), key_mask=places < lengths[:, None])
    out = attend(query, key, value)
    is_shifted = _past_middle(places, lengths, width, step)[..., None, None]
    return out.index_put((rows, places), torch.where(is_shifted, alone, out[rows, places]))


def _last_places(lengths: Tensor, span: int) -> Tensor:
    """Return the last `span` places of every clip, `[batch, span]`; of a shorter clip all, and some after its end."""
    return (lengths[:, None] - span).clamp(min=0) + torch.arange(span, device=lengths.device)


def _past_middle(places: Tensor, lengths: Tensor, width: int, step: int) -> Tensor:
    """Return which of the last places have a shifted window, `[batch, span]`.

    Of a dilation group there are the last `width` members, the whole last window: its middle is not shifted yet. In a
    clip that is not longer than that, every window is the clip.
    """
    member = torch.arange(places.shape[1], device=places.device) // step
    return (member > width // 2) | (lengths[:, None] < places.shape[1])
