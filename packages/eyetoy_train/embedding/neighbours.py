"""The nearest vectors of each by the cosine of their angle, a chunk at a time, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyetoy_train.embedding.vectors import VectorFile

ASKING, ASKED = 1024, 4096
"""Rows that are compared at a time: 16 MB of similarities, as float32."""

Mask = NDArray[np.bool_]
Places = NDArray[np.int64]


class Neighbours(NamedTuple):
    """The nearest of some rows, the nearest first."""

    asking: Places
    """The rows, `[rows]`."""
    places: Places
    """Their neighbours' rows, `[rows, k]`."""
    similarity: NDArray[np.float32]
    """Cosine of the angle between them, from -1 to 1, `[rows, k]`."""


def nearest(vectors: VectorFile, k: int, *, asking: Mask, asked: Mask) -> Iterator[Neighbours]:
    """Yield the `k` nearest of every row of `asking` among the rows of `asked`, without itself.

    Of rows with the same similarity, the one that comes first in the file is the nearer.

    Args:
        vectors: all rows.
        k: number of neighbours; fewer if there are not so many.
        asking: whose neighbours are wanted, bool `[rows]`.
        asked: which rows may be neighbours, bool `[rows]`.
    """
    most = min(k, int(asked.sum()) - bool((asking & asked).any()))
    if most < 1:
        return
    for places, rows in _chunks(vectors, asking, ASKING):
        best, found = torch.zeros(len(places), 0), torch.zeros(len(places), 0, dtype=torch.int64)
        for others, keys in _chunks(vectors, asked, ASKED):
            similarity = rows @ keys.T
            _, own, there = np.intersect1d(places, others, assume_unique=True, return_indices=True)
            similarity[own, there] = -torch.inf
            # The best of each chunk first: what is kept beside the similarities is small.
            near, order = similarity.topk(min(most, len(others)))
            best, found = torch.cat([best, near], 1), torch.cat([found, torch.from_numpy(others)[order]], 1)
            best, order = best.topk(min(most, best.shape[1]))
            found = found.gather(1, order)
        order = torch.from_numpy(np.lexsort((found.numpy(), -best.numpy())))
        yield Neighbours(places, found.gather(1, order).numpy(), best.gather(1, order).numpy())


def _chunks(vectors: VectorFile, mask: Mask, size: int) -> Iterator[tuple[Places, Tensor]]:
    """Yield the numbers of the rows of a mask, and these rows at length 1, some at a time."""
    for start in range(0, vectors.num_rows, size):
        kept = np.flatnonzero(mask[start : start + size])
        if len(kept):
            rows = torch.from_numpy(vectors.read(start, start + size)[kept])
            yield start + kept, torch.nn.functional.normalize(rows, dim=1)
