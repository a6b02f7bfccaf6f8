"""The features of an encoder's stages, and their principal components."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn

from eyetoy.encoder import Encoder
from eyetoy.lengths import clear_padding, shrink, valid_tokens


def find_encoder(model: nn.Module) -> Encoder:
    """Return the encoder inside a classifier, a detector or any other module.

    Raises:
        ValueError: the model holds no encoder, or several.
    """
    found = [module for module in model.modules() if isinstance(module, Encoder)]
    if len(found) != 1:
        raise ValueError(f"a model with one of EyeToy's encoders is needed; {type(model).__name__} has {len(found)}")
    return found[0]


def stage_features(encoder: Encoder, x: Tensor, stage: int | None = None, lengths: Tensor | None = None) -> Tensor:
    """Return the features of a stage before the global stack, or the encoder's own.

    Args:
        encoder: of any number of dimensions.
        x: `[batch, in_channels, *grid]`.
        stage: counted from the finest, negative ones from the end; None for the features after the global stack.
        lengths: in one dimension, int64 `[batch]`: how many samples are real.

    Returns:
        `[batch, channels, *grid]`; zeros after the end of a clip.

    Raises:
        ValueError: there is no such stage, or as `Encoder.forward`.
    """
    if stage is None:
        features: Tensor = encoder(x, lengths).features
        return features
    count = len(encoder.stages)
    if not -count <= stage < count:
        raise ValueError(f"stage must be from {-count} to {count - 1}; got {stage}")
    features = encoder.forward_stages(x, lengths, num_stages=stage % count + 1)[-1]
    return clear_padding(features, stage_lengths(encoder, stage, lengths)).movedim(-1, 1)


def stage_lengths(encoder: Encoder, stage: int | None, lengths: Tensor | None) -> Tensor | None:
    """Return how many tokens of a stage are real, given the lengths of the input."""
    blocks = encoder.stages[-1 if stage is None else stage]
    return reduce(shrink, [*encoder.initial_proj.strides, *encoder.transformer.strides[: blocks[-1] + 1]], lengths)


@torch.no_grad()
def feature_components(
    encoder: Encoder,
    x: Tensor,
    *,
    stage: int | None = None,
    num_components: int = 3,
    lengths: Tensor | None = None,
) -> Tensor:
    """Return the first principal components of the features, over all places of the batch together.

    Three of them are usually shown as red, green and blue (Oquab et al., DINOv2, 2023, section 7.6). `feature_places`
    tells where the places lie on the input.

    Args:
        encoder: of any number of dimensions.
        x: `[batch, in_channels, *grid]`.
        stage: whose features, counted from the finest; None for the features after the global stack.
        num_components: how many.
        lengths: in one dimension, int64 `[batch]`: how many samples are real.

    Returns:
        `[batch, num_components, *tokens]`, of mean zero, the one with the greatest variance first. Of the two signs
        that a component may have, it has the one that makes its direction's largest entry positive. Zeros after the end
        of a clip.

    Raises:
        ValueError: there are not so many channels, there is no such stage, or as `Encoder.forward`.
    """
    features = stage_features(encoder, x, stage, lengths)
    channels = features.shape[1]
    if not 1 <= num_components <= channels:
        raise ValueError(f"num_components must be from 1 to the features' channels, {channels}; got {num_components}")
    rows = features.movedim(1, -1).cpu().double()  # [batch, *tokens, channels]; not every accelerator has float64
    real = stage_lengths(encoder, stage, lengths)
    kept = torch.ones(rows.shape[:-1], dtype=torch.bool) if real is None else valid_tokens(real.cpu(), rows.shape[1])
    centered = torch.where(kept[..., None], rows - rows[kept].mean(0), 0)
    # The scatter matrix is [channels, channels], whatever the number of tokens. `eigh` sorts by growing eigenvalues,
    # and leaves the signs to chance: without the last step two machines would show other colors.
    flat = centered.flatten(0, -2)
    directions: Tensor = torch.linalg.eigh(flat.T @ flat).eigenvectors.flip(-1)[:, :num_components]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    components: Tensor = centered @ (directions * largest.sign())
    return components.movedim(-1, 1).to(features)
