"""The parts that both kinds of transformer block share: norms, feed-forward network and residual branch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eyetoy.lengths import clear_padding
from eyetoy.params import GlobalAttentionParams, Norm, TransformerParams
from eyetoy.tracing import is_jit_tracing, one_fx_node

# Elements of the hidden layer that a feed-forward network computes at once in inference on a CPU, 4 MiB in float32:
# they stay in the caches, well below the size from which malloc maps and clears new pages for every call. At 512 x 512
# pixels such pages took half of the time of the first block.
ELEMENTS_PER_CHUNK = 1 << 20


class GroupNorm(nn.Module):
    """Normalise every input over all of its tokens and channels, then scale and shift each channel.

    Group normalization with one group (Wu and He, ECCV 2018), as PoolFormer (Yu et al., CVPR 2022) has it, and as
    Conv-TasNet (Luo and Mesgarani, 2019) has it for sound. Unlike after a layer norm, a quiet token stays quieter than
    a loud one. Ours instead of `nn.GroupNorm`, which takes channels first and no lengths.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set scales to one and shifts to zero, also after `to_empty`."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    @one_fx_node
    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Normalise `[batch, *grid, channels]`; in one dimension `lengths` tells how many tokens are real."""
        # The layer norm of all numbers of an input; it is also what autocast keeps in float32.
        normed = F.layer_norm(x, x.shape[1:], eps=self.eps) if lengths is None else self._within(x, lengths)
        return torch.addcmul(self.bias.to(normed.dtype), normed, self.weight.to(normed.dtype))

    def _within(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Normalise `[batch, tokens, channels]` by the mean and variance of the real tokens."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        count = (lengths * x.shape[-1])[:, None, None]
        centered = wide - clear_padding(wide, lengths).sum((1, 2), keepdim=True) / count
        variance = clear_padding(centered, lengths).square().sum((1, 2), keepdim=True) / count
        return (centered * (variance + self.eps).rsqrt()).to(x.dtype)

    def extra_repr(self) -> str:
        """Sizes for `print(model)`."""
        return f"{len(self.weight)}, eps={self.eps}"


def build_norm(norm: Norm, channels: int) -> nn.LayerNorm | GroupNorm:
    """Return a norm of `[batch, *grid, channels]`."""
    return GroupNorm(channels) if norm == "group" else nn.LayerNorm(channels)


def normalized(norm: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Apply a norm, or none; only a group norm has to know which tokens are real."""
    # Its modules, not its type: a wrapper, such as that of `torch.compile` or of PEFT, hides the type.
    takes_lengths = lengths is not None and any(isinstance(module, GroupNorm) for module in norm.modules())
    out: Tensor = norm(x, lengths) if takes_lengths else norm(x)
    return out


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, along the last axis."""

    def __init__(self, channels: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = round(channels * mlp_ratio)
        self.expand = nn.Linear(channels, hidden)
        self.contract = nn.Linear(hidden, channels)

    @one_fx_node
    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., channels]` to the same shape."""
        # Inference on a CPU takes the tokens in chunks, so that the hidden layer, which is wider than `x`, is never
        # in memory as a whole. With gradients it has to be kept anyway, and a traced graph must not depend on the size.
        chunk = max(ELEMENTS_PER_CHUNK // self.expand.out_features, 1)
        is_traced = torch.compiler.is_compiling() or is_jit_tracing() or type(x) is not Tensor
        if torch.is_grad_enabled() or is_traced or x.device.type != "cpu" or x.shape[:-1].numel() <= chunk:
            return self._map(x)
        return torch.cat([self._map(tokens) for tokens in torch.split(x.flatten(0, -2), chunk)]).view(x.shape)

    def _map(self, x: Tensor) -> Tensor:
        out: Tensor = self.contract(F.gelu(self.expand(x)))
        return out


class ResidualBranch(nn.Module):
    """Add a branch to its shortcut, after dropout, layer scale (CaiT) and drop path (stochastic depth)."""

    def __init__(self, channels: int, params: TransformerParams | GlobalAttentionParams) -> None:
        super().__init__()
        self.dropout = params.dropout
        self.drop_path = params.drop_path
        self.layer_scale = params.layer_scale
        self.gamma = None if self.layer_scale is None else nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the scale to its initial value, also after `to_empty`."""
        if self.gamma is not None and self.layer_scale is not None:
            nn.init.constant_(self.gamma, self.layer_scale)

    @one_fx_node
    def forward(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        """Return `shortcut + branch`, both `[batch, ..., channels]`."""
        branch = F.dropout(branch, self.dropout, training=self.training)
        if not self.training or self.drop_path == 0:
            # One operation for scale and sum.
            return shortcut + branch if self.gamma is None else torch.addcmul(shortcut, branch, self.gamma)
        # Drops the branch of whole samples, and scales up the others so that the expectation stays the same.
        keep = 1 - self.drop_path
        kept = branch.new_empty(branch.shape[0], *[1] * (branch.ndim - 1)).bernoulli_(keep)
        scale = kept if self.gamma is None else kept * self.gamma  # [batch, 1, ..., 1 or channels]
        return torch.addcmul(shortcut, branch, scale, value=1 / keep)
