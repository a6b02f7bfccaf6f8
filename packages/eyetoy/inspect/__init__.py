"""Look inside an encoder: features, attention and receptive fields as tensors, while fused attention stays on.

Call `model.eval()` first: dropout and drop path act here too.
"""

from eyetoy.inspect.attention import NeighborhoodWeights, context_maps, neighborhood_weights
from eyetoy.inspect.features import feature_components, find_encoder, stage_features
from eyetoy.inspect.places import TokenPlaces, feature_places, group_places
from eyetoy.inspect.receptive_field import effective_receptive_field

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
