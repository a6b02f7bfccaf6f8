"""What the context token looks at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eyetoy.encoder import Encoder
from eyetoy.global_stack import GlobalAttentionTransformer
from eyetoy.inspect.recording import recorded
from eyetoy.inspect.stages import stage_lengths
from eyetoy.lengths import valid_tokens


@torch.no_grad()
def context_maps(encoder: Encoder, x: Tensor, lengths: Tensor | None = None, *, average_heads: bool = True) -> Tensor:
    """Return how much of its attention the context token gives to every place, in every layer of the global stack.

    What is missing to a sum of 1 goes to the context token itself and to the registers. `feature_places` says where
    the places lie on the input.

    Args:
        encoder: of any number of dimensions, with a context token.
        x: `[batch, in_channels, *grid]`.
        lengths: in one dimension, int64 `[batch]`: how many samples are real.
        average_heads: return the mean over the heads.

    Returns:
        `[batch, layers, *tokens]`, or `[batch, layers, heads, *tokens]`.

    Raises:
        ValueError: the encoder has no context token, or as `Encoder.forward`.
    """
    stack = encoder.global_attention
    if stack is None or not stack.has_context_token:
        raise ValueError("the encoder has no context token: its context is the mean of its features")
    layers = [layer for layer in stack.layers if isinstance(layer, GlobalAttentionTransformer)]
    real = stage_lengths(encoder, None, lengths)
    modules: list[nn.Module] = [layer.qkv_proj for layer in layers]
    rows = recorded(encoder, x, lengths, modules, lambda place, qkv: _row(layers[place], qkv, real))
    weights = torch.unflatten(torch.stack(rows, dim=1), -1, encoder.params.out_grid(tuple(x.shape[2:])))
    return weights.mean(2) if average_heads else weights


def _row(layer: GlobalAttentionTransformer, qkv: Tensor, lengths: Tensor | None) -> Tensor:
    """Return what the first token gives to spatial ones, `[batch, heads, tokens]`.

    Args:
        layer: a layer of the global stack.
        qkv: `[batch, tokens, 3 * channels]`, of all tokens.
        lengths: int64 `[batch]`: how many spatial tokens are real.
    """
    query, key, _ = torch.unflatten(qkv, -1, (3, layer.num_heads, -1)).unbind(-3)
    logits: Tensor = torch.einsum("bhd,bthd->bht", query[:, 0], key) * query.shape[-1] ** -0.5
    if lengths is not None:
        seen = valid_tokens(lengths + layer.num_global_tokens, key.shape[1])
        logits = logits.masked_fill(~seen[:, None], float("-inf"))
    return logits.softmax(-1)[..., layer.num_global_tokens :]
