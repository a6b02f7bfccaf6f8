"""The operator under a fixed number of grid axes, with NATTEN's names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from torch import Tensor

from eyetoy.neighborhood.functional import neighborhood_attention

P = ParamSpec("P")


def _fixed_rank(operator: Callable[P, Tensor], num_spatial_dims: int, name: str) -> Callable[P, Tensor]:
    @functools.wraps(operator)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        query: Any = args[0] if args else kwargs["query"]
        if query.ndim != num_spatial_dims + 3:
            raise ValueError(
                f"{name} takes [batch, *grid, heads, head_dim] with {num_spatial_dims} grid axes, so "
                f"{num_spatial_dims + 3} axes in all; got shape {tuple(query.shape)}"
            )
        return operator(*args, **kwargs)

    checked.__name__ = checked.__qualname__ = name
    checked.__doc__ = f"Neighborhood attention over {num_spatial_dims} grid axes; see `neighborhood_attention`."
    return checked


na1d = _fixed_rank(neighborhood_attention, 1, "na1d")
na2d = _fixed_rank(neighborhood_attention, 2, "na2d")
na3d = _fixed_rank(neighborhood_attention, 3, "na3d")
