"""Long range at linear cost: register and context tokens that see everything (proposal, section 4.2).

A global token (register or context) attends to every token. A spatial token attends to itself and to the global
tokens, never to another spatial token. With G global and N spatial tokens this costs O(N * G) instead of O(N^2), and
is exact: the rows of the global tokens are one plain attention, and a spatial row is a softmax over G + 1 logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from eyetoy.layers import FeedForward, ResidualBranch
from eyetoy.lengths import mean_over_tokens, valid_tokens
from eyetoy.params import GlobalAttentionParams, Pool
from eyetoy.second_order import fused_attention
from eyetoy.sizes import check_divisible
from eyetoy.tracing import one_fx_node

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


def create_attention_mask(num_global_tokens: int, num_spatial_tokens: int, *, device: str = "cpu") -> BlockMask:
    """Return the pattern as a mask for `flex_attention`; global tokens come first.

    Args:
        num_global_tokens: how many tokens are global.
        num_spatial_tokens: how many are spatial.
        device: where the mask is used.

    Returns:
        the mask; its `mask_mod(batch, head, query, key)` tells whether a query sees a key.
    """

    from torch.nn.attention.flex_attention import create_block_mask  # slow to import

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query < num_global_tokens) | (key < num_global_tokens) | (query == key)

    tokens = num_global_tokens + num_spatial_tokens
    return create_block_mask(sees, None, None, tokens, tokens, device=device)


def global_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    num_global_tokens: int,
    key_mask: Tensor | None = None,
    backend: Literal["exact", "flex"] = "exact",
) -> Tensor:
    """Attend between global tokens and all others.

    Args:
        query: `[batch, heads, tokens, head_dim]`, the global tokens first.
        key: the shape of `query`.
        value: the shape of `query`.
        num_global_tokens: how many of the tokens are global, at least 1.
        key_mask: bool `[batch, tokens]`, true for the tokens that global ones see: real tokens, global ones included.
        backend: "exact" is the linear-cost decomposition. "flex" is PyTorch's FlexAttention under
            `create_attention_mask`; it works in whole blocks of 128 tokens and cannot train on a CPU.

    Returns:
        The shape of `query`.

    Raises:
        ValueError: `num_global_tokens` or `backend` is out of range, or "flex" is given a mask.
    """
    tokens = query.shape[2]
    if not 1 <= num_global_tokens <= tokens:
        raise ValueError(f"num_global_tokens must be from 1 to the number of tokens, {tokens}; got {num_global_tokens}")
    if backend == "flex":
        if key_mask is not None:
            raise ValueError("backend 'flex' takes no key_mask; 'exact' does")
        from torch.nn.attention.flex_attention import flex_attention

        mask = create_attention_mask(num_global_tokens, tokens - num_global_tokens, device=str(query.device))
        out: Tensor = flex_attention(query, key, value, block_mask=mask)
        return out
    if backend != "exact":
        raise ValueError(f"backend must be 'exact' or 'flex'; got {backend!r}")
    # The N x N block of the mask between spatial tokens is a diagonal, so it is never formed:
    #   global rows   [G, G + N]   one call of fused attention, all keys
    #   spatial rows  [N, G + 1]   G shared keys, and the diagonal as one more column
    rows = _global_rows(query[:, :, :num_global_tokens], key, value, key_mask)
    return torch.cat([rows, _spatial_rows(query, key, value, num_global_tokens)], dim=2)


def _global_rows(query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None) -> Tensor:
    """Return the attention of global tokens, `[batch, heads, queries, head_dim]`; `query` holds some or all of them."""
    seen = None if key_mask is None else key_mask[:, None, None]  # [batch, 1, 1, tokens]
    return fused_attention(query, key, value, mask=seen)


def _spatial_rows(query: Tensor, key: Tensor, value: Tensor, num_global: int) -> Tensor:
    """Return the attention of spatial tokens: a softmax over the global keys and each token's own key."""
    q, own_key, own_value = (x[:, :, num_global:] for x in (query, key, value))  # [batch, heads, spatial, head_dim]
    q = q * q.shape[-1] ** -0.5  # before the products, which float16 could not hold otherwise
    shared = q @ key[:, :, :num_global].transpose(-2, -1)  # [batch, heads, spatial, global]
    own = (q * own_key).sum(-1, keepdim=True)
    # Padding needs no mask here: a spatial token sees no other one, and the padded rows are dropped later.
    weights = torch.cat([shared, own], dim=-1).softmax(-1)  # [batch, heads, spatial, G + 1]
    return torch.addcmul(weights[..., :-1] @ value[:, :, :num_global], weights[..., -1:], own_value)


def _context_tokens(tokens: Tensor, pool: Pool, num_global: int) -> Tensor:
    """Return the tokens that make up the context: the first one, or all spatial ones."""
    return tokens[:, :1] if pool == "token" else tokens[:, num_global:]


class GlobalAttentionTransformer(nn.Module):
    """One layer: attention between global and spatial tokens, then a feed-forward, on `[batch, tokens, channels]`."""

    def __init__(self, channels: int, params: GlobalAttentionParams) -> None:
        super().__init__()
        check_divisible(channels, params.num_heads, "channels of the global stack", "num_heads")
        self.num_heads = params.num_heads
        self.num_global_tokens = params.num_global_tokens
        self.residual = params.residual
        self.norm1 = nn.LayerNorm(channels)
        self.qkv_proj = nn.Linear(channels, 3 * channels)
        self.out_proj = nn.Linear(channels, channels)
        self.branch1 = ResidualBranch(channels, params)
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = FeedForward(channels, params.mlp_ratio)
        self.branch2 = ResidualBranch(channels, params)

    @one_fx_node
    def forward(self, tokens: Tensor, key_mask: Tensor | None = None, *, only: Pool | None = None) -> Tensor:
        """Apply the layer.

        Args:
            tokens: `[batch, tokens, channels]`, the global ones first.
            key_mask: bool `[batch, tokens]`: which of them the global ones see.
            only: compute the first token alone, "token", or the spatial tokens alone, "avg".

        Returns:
            the tokens, or those that `only` names.
        """
        normed = self.norm1(tokens)
        shortcut = tokens if self.residual == "input" else normed
        if only is not None:
            shortcut = _context_tokens(shortcut, only, self.num_global_tokens)
        tokens = self.branch1(shortcut, self._attend(normed, key_mask, only))
        out: Tensor = self.branch2(tokens, self.ffn(self.norm2(tokens)))
        return out

    def _attend(self, normed: Tensor, key_mask: Tensor | None, only: Pool | None) -> Tensor:
        qkv = self.qkv_proj(normed).unflatten(-1, (3, self.num_heads, -1))  # [batch, tokens, 3, heads, head_dim]
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if only == "token":
            attended = _global_rows(query[:, :, :1], key, value, key_mask)
        elif only == "avg":
            attended = _spatial_rows(query, key, value, self.num_global_tokens)
        else:
            attended = global_attention(query, key, value, num_global_tokens=self.num_global_tokens, key_mask=key_mask)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


class GlobalAttentionStack(nn.Module):
    """Layers of global attention with learned registers and, if asked for, a learned context token.

    Maps features `[batch, *grid, channels]` to refined features of the same shape and a context `[batch, channels]`:
    the context token, or the mean of the refined features (`GlobalAttentionParams.global_pool`). Registers are dropped
    at the end (Darcet et al., Vision Transformers Need Registers, 2023).

    If the context token begins as the mean of the features, gradients reach the features without passing the attention:
    one pass over Fashion-MNIST then ends at 84.8 % instead of 83.4 %.
    """

    def __init__(self, channels: int, params: GlobalAttentionParams) -> None:
        super().__init__()
        self.has_context_token = params.context_token
        self.global_pool: Pool = params.global_pool if params.context_token else "avg"
        self.begins_as_mean = params.context_token and params.context_init == "mean"
        self.num_global_tokens = params.num_global_tokens
        # The context token is the first, registers follow: `_context_tokens` and the checkpoints rely on it.
        self.global_tokens = nn.Parameter(torch.empty(params.num_global_tokens, channels))
        self.reset_parameters()
        self.layers = nn.Sequential(*(GlobalAttentionTransformer(channels, params) for _ in range(params.depth)))
        self.norm = nn.LayerNorm(channels)

    def reset_parameters(self) -> None:
        """Draw new registers and a new context token, also after `to_empty`."""
        nn.init.normal_(self.global_tokens, std=0.02)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return refined features and context; in one dimension `lengths` tells how many features are real."""
        tokens, key_mask = self.tokens(x, lengths)
        for layer in self.layers:
            tokens = layer(tokens, key_mask)
        tokens = self.norm(tokens)
        refined = tokens[:, self.num_global_tokens :].reshape(x.shape)
        pooled = self._pool(_context_tokens(tokens, self.global_pool, self.num_global_tokens), lengths)
        return refined, pooled

    def context(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the context alone; the last layer computes only the tokens that make it up."""
        tokens, key_mask = self.tokens(x, lengths)
        for number, layer in enumerate(self.layers, start=1):
            tokens = layer(tokens, key_mask, only=self.global_pool if number == len(self.layers) else None)
        return self._pool(self.norm(tokens), lengths)

    def _pool(self, tokens: Tensor, lengths: Tensor | None) -> Tensor:
        """Turn the result of `_context_tokens` into the context, `[batch, channels]`."""
        return tokens[:, 0] if self.global_pool == "token" else mean_over_tokens(tokens, lengths)

    def tokens(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return global and spatial tokens, `[batch, tokens, channels]`, and the mask of the tokens to see."""
        spatial = x.flatten(1, -2)
        given = [self.global_tokens.expand(x.shape[0], -1, -1)]
        if self.begins_as_mean:
            context = given[0][:, :1] + mean_over_tokens(spatial, lengths)[:, None]
            given = [context, given[0][:, 1:]]
        tokens = torch.cat([*given, spatial], dim=1)
        # Global tokens come first and are always real, so a clip's tokens still end in its padding.
        return tokens, None if lengths is None else valid_tokens(lengths + self.num_global_tokens, tokens.shape[1])
