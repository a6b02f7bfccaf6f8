"""The block of a plain vision transformer, of which baselines of sounds and pictures are made."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ViTBlock(nn.Module):
    """A pre-norm block: attention and a feed-forward part on residual paths."""

    def __init__(self, dim: int, num_heads: int, hidden: int, drop_path: float) -> None:
        super().__init__()
        self.num_heads, self.drop_path = num_heads, drop_path
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.project = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[batch, tokens, dim]` to the same shape."""
        x = x + self._dropped(self._attend(self.attention_norm(x)))
        return x + self._dropped(self.mlp(self.mlp_norm(x)))

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # [B, heads, tokens, D]
        attended: Tensor = self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return attended

    def _dropped(self, branch: Tensor) -> Tensor:
        """Drop the branch of some samples, in training (stochastic depth)."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        return branch * (branch.new_empty(len(branch), 1, 1).bernoulli_(keep) / keep)


def vit_blocks(dim: int, depth: int, num_heads: int, hidden: int, drop_path: float) -> nn.Sequential:
    """Return blocks in a row, whose stochastic depth grows linearly from 0 at the first to `drop_path` at the last."""
    rates = torch.linspace(0, drop_path, depth).tolist()
    return nn.Sequential(*[ViTBlock(dim, num_heads, hidden, rate) for rate in rates])


def init_linear(module: nn.Module) -> None:
    """Initialize weights like timm's vision transformers."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
