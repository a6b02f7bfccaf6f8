"""The MSNAT block and the stack of them."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from eyetoy import (
    MSNATTransformer,
    MSNATTransformer1D,
    MSNATTransformer2D,
    MSNATTransformer3D,
    SharedScaleNA,
    TransformerStack,
    neighborhood_attention,
)
from eyetoy.layers import ELEMENTS_PER_CHUNK, FeedForward, GroupNorm

BLOCKS: dict[int, Any] = {1: MSNATTransformer1D, 2: MSNATTransformer2D, 3: MSNATTransformer3D}
GRIDS = {1: (11,), 2: (7, 5), 3: (3, 4, 5)}


@given(data=st.data())
@settings(max_examples=15)
def test_block_rounds_the_scaled_grid_up(data: st.DataObject, dimension: int, device: str, encoders: Any) -> None:
    grid = tuple(data.draw(st.integers(1, {1: 30, 2: 9, 3: 5}[dimension])) for _ in range(dimension))
    strides = tuple(data.draw(st.integers(1, 3)) for _ in range(dimension))
    params = encoders.block(out_channels=10, scale_factor=tuple(1 / stride for stride in strides))
    block = BLOCKS[dimension](6, params).to(device)
    out = block(torch.randn(2, *grid, 6, device=device))
    assert out.shape == (2, *(-(-length // stride) for length, stride in zip(grid, strides, strict=True)), 10)
    assert out.isfinite().all()


@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize(("in_channels", "scale_factor"), [(12, 1.0), (8, 1.0), (12, 0.5), (8, 0.5)])
def test_block_equals_its_equations(
    dimension: int, device: str, encoders: Any, in_channels: int, scale_factor: float, norm: str
) -> None:
    block = BLOCKS[dimension](in_channels, encoders.block(out_channels=12, scale_factor=scale_factor, norm=norm))
    block = block.to(device).eval()
    x = torch.randn(2, *GRIDS[dimension], in_channels, device=device)
    rescaled = block.rescale(x)
    attended = block.shortcut(rescaled) + block.attention(block.norm1(rescaled))
    expected = attended + block.ffn(block.norm2(attended))
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_group_norm_is_pytorchs_with_one_group(dimension: int, device: str, double: torch.dtype) -> None:
    """Padding, which may hold anything, changes nothing for the tokens before it."""
    torch.manual_seed(0)
    norm = GroupNorm(6).to(device, double)
    norm.weight.normal_()
    norm.bias.normal_()
    x = 5 + 3 * torch.randn(2, *GRIDS[dimension], 6, device=device, dtype=double)
    expected = nn.functional.group_norm(x.movedim(-1, 1), 1, norm.weight, norm.bias).movedim(1, -1)
    torch.testing.assert_close(norm(x), expected)
    if dimension == 1:
        padded = torch.cat([x, torch.full_like(x, 1e3)], dim=1)
        lengths = torch.full((2,), x.shape[1], device=device)
        torch.testing.assert_close(norm(padded, lengths)[:, : x.shape[1]], expected)


@pytest.mark.parametrize("kernel", [1, 3, 4])
@torch.no_grad()
def test_a_local_kernel_adds_a_sum_over_neighbors_of_the_same_channel(
    dimension: int, device: str, double: torch.dtype, encoders: Any, kernel: int
) -> None:
    sizes = (kernel, 3, 2)[:dimension]
    block = BLOCKS[dimension](12, encoders.block(scale_factor=0.5, local_kernel=sizes)).to(device, double)
    x = torch.randn(2, *GRIDS[dimension], 12, device=device, dtype=double)
    rescaled = block.rescale(x)
    expected = rescaled + block.local.bias
    grid = rescaled.shape[1:-1]
    for place in itertools.product(*map(range, grid)):
        for tap in itertools.product(*map(range, sizes)):
            # A kernel of 3 has one token before and one after, a kernel of 4 two before and one after.
            source = tuple(p + t - size // 2 for p, t, size in zip(place, tap, sizes, strict=True))
            if all(0 <= s < n for s, n in zip(source, grid, strict=True)):
                expected[:, *place] += rescaled[:, *source] * block.local.weight[:, *tap, 0]
    torch.testing.assert_close(block.tokens(x), expected)
    attended = block.shortcut(expected) + block.attention(block.norm1(expected))
    torch.testing.assert_close(block(x), attended + block.ffn(block.norm2(attended)))


@torch.no_grad()
def test_block_without_its_branches_is_the_identity(dimension: int, device: str, encoders: Any) -> None:
    block = BLOCKS[dimension](12, encoders.block(layer_scale=0.0)).to(device)
    x = torch.randn(2, *GRIDS[dimension], 12, device=device)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)


def test_layer_scale_weighs_the_branches_at_its_initial_value(dimension: int, encoders: Any) -> None:
    torch.manual_seed(0)
    plain = BLOCKS[dimension](12, encoders.block()).eval()
    scaled = BLOCKS[dimension](12, encoders.block(layer_scale=0.25)).eval()
    scaled.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, *GRIDS[dimension], 12)
    attended = x + 0.25 * plain.attention(plain.norm1(x))
    expected = attended + 0.25 * plain.ffn(plain.norm2(attended))
    torch.testing.assert_close(scaled(x), expected, rtol=1e-5, atol=1e-5)
    assert len(list(scaled.parameters())) == len(list(plain.parameters())) + 2


def test_drop_path_drops_whole_samples_and_keeps_the_mean(dimension: int, device: str, encoders: Any) -> None:
    """A sample's branch is either left out or weighted by what the others lose."""
    torch.manual_seed(0)
    block = BLOCKS[dimension](12, encoders.block(drop_path=0.5)).to(device)
    torch.nn.init.zeros_(block.ffn.contract.weight)
    torch.nn.init.zeros_(block.ffn.contract.bias)
    x = torch.randn(64, *(3,) * dimension, 12, device=device)
    branch = block.eval()(x) - x
    in_training = block.train()(x) - x
    dropped = (in_training == 0).flatten(1).all(1)
    assert 10 < dropped.sum() < 54
    torch.testing.assert_close(in_training[~dropped], 2 * branch[~dropped], rtol=1e-4, atol=1e-5)


def test_stack_hands_each_block_the_width_of_the_one_before(dimension: int, device: str, encoders: Any) -> None:
    widths = (8, 10, 14)
    stack = TransformerStack(dimension, 6, [encoders.block(out_channels=width) for width in widths]).to(device)
    x = torch.randn(1, *GRIDS[dimension], 6, device=device)
    for block, width in zip(stack, widths, strict=True):
        x = block(x)
        assert x.shape == (1, *GRIDS[dimension], width)


def test_a_slice_of_a_stack_is_a_stack_of_its_blocks(dimension: int, device: str, encoders: Any) -> None:
    blocks = [encoders.block(out_channels=width, scale_factor=1 / width) for width in (2, 3, 4, 5)]
    stack = TransformerStack(dimension, 6, blocks).to(device)
    x = torch.randn(1, *GRIDS[dimension], 6, device=device)
    for start, stop in ((0, 2), (2, None), (-1, None), (None, None)):
        part = stack[start:stop]
        assert isinstance(part, TransformerStack)
        assert list(part) == list(stack)[start:stop]
        assert part.strides == [(width,) * dimension for width in (2, 3, 4, 5)][start:stop]
        assert list(dict(part.named_children())) == [str(place) for place in range(len(part))]
    torch.testing.assert_close(stack[2:](stack[:2](x)), stack(x))
    assert list(stack[::-2]) == [stack[3], stack[1]]


def test_named_block_is_the_general_one(dimension: int, encoders: Any) -> None:
    torch.manual_seed(0)
    named = BLOCKS[dimension](12, encoders.block())
    general = MSNATTransformer(dimension, 12, encoders.block())
    assert isinstance(named, MSNATTransformer)
    general.load_state_dict(named.state_dict())
    x = torch.randn(1, *GRIDS[dimension], 12)
    assert torch.equal(named(x), general(x))


def test_sizes_for_another_number_of_axes_are_refused(dimension: int, encoders: Any) -> None:
    sizes = (2,) * (dimension + 1)
    with pytest.raises(ValueError, match=r"one integer or \d of them, one per axis; got \(2, "):
        BLOCKS[dimension](12, encoders.block(heads=(encoders.head_group(stride=sizes),)))
    with pytest.raises(ValueError, match=rf"scale_factor .*{dimension} of them, one per axis; got \(0\.5, "):
        BLOCKS[dimension](12, encoders.block(scale_factor=(0.5,) * (dimension + 1)))


def test_without_a_tokenizer_attention_reads_the_channels(dimension: int, device: str, encoders: Any) -> None:
    params = dataclasses.replace(encoders.head_group(window=3), conv_params=None)
    group = SharedScaleNA(dimension, 12, params).to(device)
    x = torch.randn(2, *GRIDS[dimension], 12, device=device)
    query, key, value = group.qkv_proj(x).unflatten(-1, (3, 2, 3)).unbind(-3)
    torch.testing.assert_close(group(x), neighborhood_attention(query, key, value, window=3).flatten(-2))


def test_feed_forward_of_many_tokens_is_that_of_few(device: str) -> None:
    """Without gradients a CPU takes many tokens in turns."""
    ffn = FeedForward(8, 4.0).to(device)
    x = torch.randn(3, ELEMENTS_PER_CHUNK // 64, 8, device=device)
    with torch.no_grad():
        torch.testing.assert_close(ffn(x), ffn.contract(nn.functional.gelu(ffn.expand(x))))
