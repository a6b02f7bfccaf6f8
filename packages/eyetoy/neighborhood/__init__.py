"""Neighborhood attention that runs, and trains, on every device."""

from eyetoy.neighborhood.functional import BACKENDS, neighborhood_attention
from eyetoy.neighborhood.ranks import na1d, na2d, na3d

__all__ = ["BACKENDS", "na1d", "na2d", "na3d", "neighborhood_attention"]
