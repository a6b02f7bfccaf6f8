"""Features as a picture: their principal components."""

from __future__ import annotations

import torch
from torch import Tensor

from eyetoy.encoder import Encoder
from eyetoy.inspect.stages import stage_features, stage_lengths
from eyetoy.lengths import valid_tokens


@torch.no_grad()
def feature_components(
    encoder: Encoder,
    x: Tensor,
    *,
    stage: int | None = None,
    num_components: int = 3,
    lengths: Tensor | None = None,
) -> Tensor:
    """Return the first principal components of the features, of all places of the batch together.

    Three of them are what is usually shown as red, green and blue (Oquab et al., DINOv2, 2023, section 7.6).
    `feature_places` says where the places lie on the input.

    Args:
        encoder: of any number of dimensions.
        x: `[batch, in_channels, *grid]`.
        stage: whose features, counted from the finest; None for what comes after the global stack.
        num_components: how many.
        lengths: in one dimension, int64 `[batch]`: how many samples are real.

    Returns:
        `[batch, num_components, *tokens]`, of mean zero, the one with the greatest variance first. Of both signs that
        a component may have, it has the one that makes its direction's largest entry positive. Zeros after the end of
        a clip.

    Raises:
        ValueError: there are not so many channels, there is no such stage, or as `Encoder.forward`.
    """
    features = stage_features(encoder, x, stage, lengths)
    channels = features.shape[1]
    if not 1 <= num_components <= channels:
        raise ValueError(f"num_components must be from 1 to the features' channels, {channels}; got {num_components}")
    rows = features.movedim(1, -1).cpu().double()  # not every accelerator has float64
    real = stage_lengths(encoder, stage, lengths)
    kept = torch.ones(rows.shape[:-1], dtype=torch.bool) if real is None else valid_tokens(real.cpu(), rows.shape[1])
    centered = torch.where(kept[..., None], rows - rows[kept].mean(0), 0)
    flat = centered.flatten(0, -2)
    directions: Tensor = torch.linalg.eigh(flat.T @ flat).eigenvectors.flip(-1)[:, :num_components]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    components: Tensor = centered @ (directions * largest.sign())
    return components.movedim(-1, 1).to(features)
