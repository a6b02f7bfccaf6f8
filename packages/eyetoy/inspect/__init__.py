"""What an encoder looks at, as tensors; fused attention stays on.

Attention weights are computed again for the chosen queries alone, from the queries and keys of a usual forward pass, so
that memory stays what that pass takes. A model in training mode drops at random here too: call `model.eval()` before.
"""

from eyetoy.inspect.components import feature_components
from eyetoy.inspect.context import context_maps
from eyetoy.inspect.neighborhoods import NeighborhoodWeights, neighborhood_weights
from eyetoy.inspect.places import TokenPlaces, feature_places, group_places
from eyetoy.inspect.receptive_field import effective_receptive_field
from eyetoy.inspect.stages import find_encoder, stage_features

__all__ = [
    "NeighborhoodWeights",
    "TokenPlaces",
    "context_maps",
    "effective_receptive_field",
    "feature_components",
    "feature_places",
    "find_encoder",
    "group_places",
    "neighborhood_weights",
    "stage_features",
]
