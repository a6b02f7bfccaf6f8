"""The parts that both kinds of block share: feed-forward, residual branch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eyetoy.params import GlobalAttentionParams, TransformerParams

NUMBERS_AT_ONCE = 1 << 20
"""Hidden numbers that a CPU makes at once where none are kept for gradients: more leave its caches, and the system
hands out new pages for them at every call. At 512 by 512 pixels that was half of the first block's time."""


class FeedForward(nn.Module):
    """Two linear layers with a GELU between, on the last axis."""

    def __init__(self, channels: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = round(channels * mlp_ratio)
        self.expand = nn.Linear(channels, hidden)
        self.contract = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., channels]` to the same shape."""
        at_once = NUMBERS_AT_ONCE // self.expand.out_features
        is_traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None or type(x) is not Tensor
        if torch.is_grad_enabled() or is_traced or x.device.type != "cpu" or x.shape[:-1].numel() <= at_once:
            return self._map(x)
        return torch.cat([self._map(rows) for rows in torch.split(x.flatten(0, -2), max(at_once, 1))]).view(x.shape)

    def _map(self, x: Tensor) -> Tensor:
        out: Tensor = self.contract(F.gelu(self.expand(x)))
        return out


class ResidualBranch(nn.Module):
    """What happens to a branch before it is added: dropout, layer scale (CaiT), drop path (stochastic depth)."""

    def __init__(self, channels: int, params: TransformerParams | GlobalAttentionParams) -> None:
        super().__init__()
        self.dropout = params.dropout
        self.drop_path = params.drop_path
        scale = params.layer_scale
        self.gamma = None if scale is None else nn.Parameter(torch.full((channels,), scale))

    def forward(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        """Return `shortcut + branch`, both `[batch, ..., channels]`."""
        branch = F.dropout(branch, self.dropout, training=self.training)
        if self.gamma is not None:
            branch = branch * self.gamma
        if self.training and self.drop_path > 0:
            keep = 1 - self.drop_path
            kept = branch.new_empty(branch.shape[0], *[1] * (branch.ndim - 1)).bernoulli_(keep)
            branch = branch * (kept / keep)
        return shortcut + branch
