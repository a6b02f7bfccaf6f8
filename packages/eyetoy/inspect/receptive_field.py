"""How far a feature sees: gradients with respect to the input."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from eyetoy.encoder import Encoder
from eyetoy.inspect.features import stage_features, stage_lengths
from eyetoy.inspect.places import check_point, feature_places, unwrapped


def effective_receptive_field(
    encoder: Encoder,
    x: Tensor,
    point: Sequence[int] | None = None,
    *,
    stage: int | None = None,
    lengths: Tensor | None = None,
    num_probes: int | None = 4,
) -> Tensor:
    """Return how much every place of the input moves one feature (Luo et al., NeurIPS 2016, section 4).

    This is the norm of the gradients of the feature's channels, over these and over the input's channels. It is
    estimated: the squared gradient of a sum of channels with random signs has the sum of squares as its mean
    (Hutchinson, 1990). The `num_probes` sets of signs are always the same ones.

    Each probe takes a backward pass, with gradient checkpointing: half the memory for a third more time.

    Args:
        encoder: of any number of dimensions; its weights get no gradients.
        x: `[batch, in_channels, *grid]`.
        point: where on the grid the feature is; its middle by default.
        stage: whose feature, counted from the finest; None for the features after the global stack, through which
            every place is seen a little.
        lengths: in one dimension, int64 `[batch]`: how many samples are real.
        num_probes: backward passes; None for one for every channel, which is exact.

    Returns:
        `[batch, *grid]`, not normalised. The paper takes the mean over many inputs.

    Raises:
        ValueError: the point is not on the input, `num_probes` is below 1, there is no such stage, or as
            `Encoder.forward`.
    """
    if num_probes is not None and num_probes < 1:
        raise ValueError(f"num_probes must be at least 1, or None for all channels; got {num_probes}")
    point = [size // 2 for size in x.shape[2:]] if point is None else point
    check_point(point, x, lengths)
    # A copy that shares all weights: the setting on the encoder itself would be every other thread's, too.
    encoder = copy.copy(cast("Encoder", unwrapped(encoder)))
    encoder.set_grad_checkpointing()
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        # The plain sum of a feature's channels is constant behind a layer norm: its gradient would vanish.
        features = stage_features(encoder, leaf, stage, lengths)
        places, real = feature_places(encoder, -1 if stage is None else stage), stage_lengths(encoder, stage, lengths)
        # Near its end a short clip has another last token than the padded batch.
        grids = [features.shape[2:]] * len(features) if real is None else [(length,) for length in real.tolist()]
        tokens = [places.nearest(point, grid) for grid in grids]
        chosen = [one[:, *token] for one, token in zip(features, tokens, strict=True)]
        feature = torch.stack(chosen)  # [batch, channels]
        squares = [
            torch.autograd.grad(feature, leaf, probe.expand_as(feature), retain_graph=True)[0].square().sum(1)
            for probe in _probes(feature, num_probes)
        ]
    scale = 1 if num_probes is None else 1 / num_probes
    return (torch.stack(squares).sum(0) * scale).sqrt()


def _probes(feature: Tensor, count: int | None) -> Iterator[Tensor]:
    """Yield cotangents `[channels]`: random signs, or every channel in turn."""
    channels = feature.shape[1]
    if count is None:
        yield from torch.eye(channels).to(feature)
        return
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield (torch.randint(2, (channels,), generator=generator) * 2 - 1).to(feature)
