"""The encoder of a model, and the features of its stages."""

from __future__ import annotations

from functools import reduce

from torch import Tensor, nn

from eyetoy.encoder import Encoder
from eyetoy.lengths import clear_padding, shrink


def find_encoder(model: nn.Module) -> Encoder:
    """Return the encoder of a classifier, a detector or whatever else is built over one.

    Raises:
        ValueError: the model holds none, or several.
    """
    found = [module for module in model.modules() if isinstance(module, Encoder)]
    if len(found) != 1:
        raise ValueError(f"a model with one of EyeToy's encoders is needed; {type(model).__name__} has {len(found)}")
    return found[0]


def stage_features(encoder: Encoder, x: Tensor, stage: int | None = None, lengths: Tensor | None = None) -> Tensor:
    """Return the features of a stage, before the global stack, or those that the encoder gives.

    Args:
        encoder: of any number of dimensions.
        x: `[batch, in_channels, *grid]`.
        stage: counted from the finest, negative ones from the end; None for what comes after the global stack.
        lengths: in one dimension, int64 `[batch]`: how many samples are real.

    Returns:
        `[batch, channels, *grid]`; zeros after the end of a clip.

    Raises:
        ValueError: there is no such stage, or as `Encoder.forward`.
    """
    if stage is None:
        features: Tensor = encoder(x, lengths).features
        return features
    _check_stage(encoder, stage)
    features = encoder.forward_stages(x, lengths, num_stages=stage % len(encoder.params.stages) + 1)[-1]
    return clear_padding(features, stage_lengths(encoder, stage, lengths)).movedim(-1, 1)


def stage_lengths(encoder: Encoder, stage: int | None, lengths: Tensor | None) -> Tensor | None:
    """Return how many tokens of a stage are real, of the lengths of the input."""
    blocks = encoder.params.stages[-1 if stage is None else stage]
    return reduce(shrink, [*encoder.initial_proj.strides, *encoder.transformer.strides[: blocks[-1] + 1]], lengths)


def _check_stage(encoder: Encoder, stage: int) -> None:
    count = len(encoder.params.stages)
    if not -count <= stage < count:
        raise ValueError(f"stage must be from {-count} to {count - 1}; got {stage}")
