"""Neighborhood attention that runs, and trains, on every device."""

from eyetoy.neighborhood.backends.registry import BACKENDS, available_backends
from eyetoy.neighborhood.functional import na1d, na2d, na3d, neighborhood_attention

__all__ = ["BACKENDS", "available_backends", "na1d", "na2d", "na3d", "neighborhood_attention"]
