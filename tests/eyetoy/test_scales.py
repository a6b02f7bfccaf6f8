"""Tokenizers, upsampling and head groups keep position and channel apart, at every stride."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eyetoy import AttentionParams, ConvParams, HeadParams, MultiScaleMultiHeadNA, SharedScaleNA
from eyetoy.conv import StridedConv, upsample

STRIDES = {1: [(1,), (2,), (3,)], 2: [(1, 1), (2, 2), (3, 2)], 3: [(1, 1, 1), (2, 2, 2), (2, 1, 3)]}
GRIDS = {1: (11,), 2: (7, 5), 3: (5, 4, 3)}
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for `stride` the kinds there are: 1, 2, and one that differs per axis."""
    if "stride_kind" in metafunc.fixturenames:
        metafunc.parametrize("stride_kind", [0, 1, 2], ids=["stride 1", "stride 2", "stride per axis"])


def coded(grid: tuple[int, ...], channels: int, dtype: torch.dtype, device: str, batch: int = 2) -> Tensor:
    """Return `[batch, *grid, channels]` in which every number tells its sample, place and channel."""
    places = torch.arange(batch * math.prod(grid), dtype=dtype).view(batch, *grid, 1)
    return (places + torch.arange(channels, dtype=dtype) / channels).to(device)


@torch.no_grad()
def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


@torch.no_grad()
def soften(module: MultiScaleMultiHeadNA) -> None:
    """Make the logits small, so that the softmax leaves every neighbor a share well above rounding."""
    for each in module.groups:
        weight = each.qkv_proj.weight
        weight[: 2 * len(weight) // 3] *= 0.1


@torch.no_grad()
def pass_values_only(module: SharedScaleNA) -> None:
    """Make all logits equal, and the activation and the value projection the identity."""
    module.activation = torch.nn.Identity()
    channels = module.qkv_proj.in_features
    module.qkv_proj.weight.zero_()
    module.qkv_proj.weight[2 * channels :] = torch.eye(channels)
    module.qkv_proj.bias.zero_()


@torch.no_grad()
def pick_corner(tokenizer: StridedConv, offset: tuple[int, ...]) -> None:
    """Make every token a copy of the cell at this offset of its patch."""
    tokenizer.weight.zero_()
    tokenizer.weight[:, *offset] = torch.eye(tokenizer.weight.shape[0])
    tokenizer.bias.zero_()


def padded_corner(x: Tensor, stride: tuple[int, ...], offset: tuple[int, ...]) -> Tensor:
    """Return the cells at this offset of all patches, zeros where a patch leaves the grid."""
    grid = [-(-length // step) for length, step in zip(x.shape[1:-1], stride, strict=True)]
    padded = x.new_zeros(len(x), *(tokens * step for tokens, step in zip(grid, stride, strict=True)), x.shape[-1])
    padded[(slice(None), *(slice(length) for length in x.shape[1:-1]))] = x
    return padded[(slice(None), *(slice(o, None, s) for o, s in zip(offset, stride, strict=True)))]


def group(
    stride: tuple[int, ...], window: int | tuple[int, ...], num_heads: int, channels: int, **attention: Any
) -> HeadParams:
    return HeadParams(
        conv_params=ConvParams(kernel_size=stride, stride=stride),
        attn_params=AttentionParams(attention_window=window, **attention),
        num_heads=num_heads,
        intermediate_channels=channels,
    )


def expected_group(oracle: Any, module: SharedScaleNA, x: Tensor, params: HeadParams) -> Tensor:
    """Compute a head group by loops and dense attention: queries, keys and values lie one after the other."""
    stride = params.conv_params.stride
    weights = {name: value.cpu() for name, value in module.state_dict().items()}
    tokens = oracle.strided_conv(
        x.cpu(), weights["tokenizer.weight"], weights["tokenizer.bias"], stride, (0,) * len(stride)
    )
    tokens = torch.nn.functional.gelu(tokens)
    grid, channels = tokens.shape[1:-1], params.intermediate_channels
    qkv = (tokens @ weights["qkv_proj.weight"].T + weights["qkv_proj.bias"]).flatten(1, -2).split(channels, dim=-1)
    attention = params.attn_params
    window = attention.attention_window
    axes = [
        oracle.Axis(window=size, dilation=attention.dilation, is_causal=attention.is_causal)
        for size in (window if isinstance(window, tuple) else (window,) * len(grid))
    ]
    mask = oracle.neighbor_mask(grid, axes)
    width = channels // params.num_heads
    heads = [
        oracle.dense_attention(*(part[..., head * width : (head + 1) * width][:, None] for part in qkv), mask)[:, 0]
        for head in range(params.num_heads)
    ]
    return torch.cat(heads, dim=-1).view(*tokens.shape)


def test_tokenizer_copies_any_cell_of_its_patches(
    dimension: int, device: str, double: torch.dtype, stride_kind: int, oracle: Any
) -> None:
    stride = STRIDES[dimension][stride_kind]
    x = coded(GRIDS[dimension], 4, double, device)
    tokenizer = StridedConv(dimension, 4, 4, ConvParams(kernel_size=stride, stride=stride)).to(device, double)
    for offset in oracle.tokens(stride):
        pick_corner(tokenizer, offset)
        torch.testing.assert_close(tokenizer(x), padded_corner(x, stride, offset), **EXACT)


@given(data=st.data())
@settings(max_examples=25)
def test_convolution_equals_loops_at_any_size(
    data: st.DataObject, dimension: int, device: str, double: torch.dtype, oracle: Any
) -> None:
    longest = {1: 20, 2: 7, 3: 5}[dimension]
    grid, stride, extra = (
        tuple(data.draw(st.integers(low, high)) for _ in range(dimension))
        for low, high in ((1, longest), (1, 3), (0, 2))
    )
    kernel = tuple(step + more for step, more in zip(stride, extra, strict=True))
    conv = randomize(StridedConv(dimension, 2, 3, ConvParams(kernel_size=kernel, stride=stride)).to(device, double))
    x = torch.randn(2, *grid, 2, dtype=double, device=device)
    weight, bias = (value.cpu() for value in (conv.weight, conv.bias))
    before = [(size - step + 1) // 2 for size, step in zip(kernel, stride, strict=True)]  # the one more comes first
    expected = oracle.strided_conv(x.cpu(), weight.detach(), bias.detach(), stride, before)
    torch.testing.assert_close(conv(x).detach().cpu(), expected, **EXACT)
    with torch.inference_mode():  # where a single input may go another way
        single = conv.float()(x[:1].float())
    torch.testing.assert_close(single.cpu().to(double), expected[:1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_single_clip_uses_onednn_unless_it_is_switched_off(enabled):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of PyTorch has no oneDNN")
    conv = StridedConv(3, 4, 4, ConvParams(kernel_size=3))
    activities = [torch.profiler.ProfilerActivity.CPU]
    switched = torch.backends.mkldnn.flags(enabled=enabled)
    with switched, torch.inference_mode(), torch.profiler.profile(activities=activities) as profile:
        conv(torch.randn(1, 4, 4, 4, 4))
    assert ("aten::mkldnn_convolution" in {event.key for event in profile.key_averages()}) == enabled


@given(data=st.data())
@settings(max_examples=25)
def test_upsampling_interpolates_between_token_centers(
    data: st.DataObject, dimension: int, device: str, double: torch.dtype, oracle: Any
) -> None:
    longest = {1: 30, 2: 9, 3: 6}[dimension]
    grid = tuple(data.draw(st.integers(1, longest)) for _ in range(dimension))
    stride = tuple(data.draw(st.integers(1, 4)) for _ in range(dimension))
    coarse = tuple(-(-length // step) for length, step in zip(grid, stride, strict=True))
    x = coded(coarse, 3, double, device)
    torch.testing.assert_close(upsample(x, stride, grid).cpu(), oracle.upsample(x.cpu(), stride, grid), **EXACT)


def test_gradients_of_upsampling_among_other_channels(dimension: int, stride_kind: int) -> None:
    """The gradient that comes back from a concatenation has gaps between its tokens; so has the crop's."""
    stride = STRIDES[dimension][stride_kind]
    grid = tuple(2 * step - (step > 1) for step in stride)
    x = torch.randn(2, *(2,) * dimension, 3, dtype=torch.float64, requires_grad=True)
    other = torch.randn(2, *grid, 2, dtype=torch.float64)

    def joined(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([other, upsample(x, stride, grid)], dim=-1).sin()

    assert torch.autograd.gradcheck(joined, x)
    assert torch.autograd.gradgradcheck(joined, x)


def test_upsampling_keeps_a_ramp_and_its_channels(
    dimension: int, device: str, double: torch.dtype, stride_kind: int
) -> None:
    """A token's place in the input, told by its channel, comes back at that place away from the borders."""
    stride = STRIDES[dimension][stride_kind]
    grid = tuple(4 * step for step in stride)
    centers = [torch.arange(4, dtype=double) * step + (step - 1) / 2 for step in stride]
    x = torch.stack(torch.meshgrid(*centers, indexing="ij"), dim=-1)[None].to(device)
    places = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=double) for n in grid), indexing="ij"), dim=-1)
    inside = (slice(None), *(slice(step, length - step) for step, length in zip(stride, grid, strict=True)))
    torch.testing.assert_close(upsample(x, stride, grid).cpu()[inside], places[None][inside], **EXACT)


def test_single_token_window_returns_the_tokens(
    dimension: int, device: str, double: torch.dtype, stride_kind: int
) -> None:
    stride = STRIDES[dimension][stride_kind]
    x = coded(GRIDS[dimension], 6, double, device)
    module = SharedScaleNA(dimension, 6, group(stride, 1, 3, 6)).to(device, double)
    pass_values_only(module)
    offset = tuple(step - 1 for step in stride)
    pick_corner(module.tokenizer, offset)
    torch.testing.assert_close(module(x), padded_corner(x, stride, offset), **EXACT)


@pytest.mark.parametrize("num_heads", [1, 2, 6])
def test_head_split_and_join_leave_channels_in_place(
    dimension: int, device: str, double: torch.dtype, stride_kind: int, num_heads: int, oracle: Any
) -> None:
    """With equal logits a head group averages each channel over the window, whatever the heads."""
    stride = STRIDES[dimension][stride_kind]
    x = coded(GRIDS[dimension], 6, double, device)
    module = SharedScaleNA(dimension, 6, group(stride, 3, num_heads, 6)).to(device, double)
    pass_values_only(module)
    pick_corner(module.tokenizer, (0,) * dimension)
    tokens = padded_corner(x, stride, (0,) * dimension)
    mask = oracle.neighbor_mask(tokens.shape[1:-1], [oracle.Axis(window=3)] * dimension).to(device, double)
    mean = mask / mask.sum(1, keepdim=True)
    expected = torch.einsum("qk,bkc->bqc", mean, tokens.flatten(1, -2)).view_as(tokens)
    torch.testing.assert_close(module(x), expected, **EXACT)


@pytest.mark.parametrize("attention", [{}, {"dilation": 2}, {"is_causal": True}], ids=["plain", "dilated", "causal"])
def test_head_group_equals_loops_and_dense_attention(
    dimension: int,
    device: str,
    double: torch.dtype,
    stride_kind: int,
    attention: dict[str, Any],
    oracle: Any,
) -> None:
    params = group(STRIDES[dimension][stride_kind], 3, 2, 6, **attention)
    module = randomize(SharedScaleNA(dimension, 4, params).to(device, double))
    x = torch.randn(2, *GRIDS[dimension], 4, dtype=double, device=device)
    expected = expected_group(oracle, module, x, params)
    torch.testing.assert_close(module(x).detach().cpu(), expected, **EXACT)


@pytest.mark.parametrize("out_channels", [3, 40])
def test_scales_meet_on_the_input_grid_side_by_side(
    dimension: int, device: str, double: torch.dtype, out_channels: int, oracle: Any
) -> None:
    windows = (3, 2, (5, 3, 1)[:dimension])
    groups = [group(STRIDES[dimension][i], window, 2, 4 + 2 * i) for i, window in enumerate(windows)]
    module = randomize(MultiScaleMultiHeadNA(dimension, 4, out_channels, groups).to(device, double))
    x = torch.randn(2, *GRIDS[dimension], 4, dtype=double, device=device)
    parts = [
        oracle.upsample(expected_group(oracle, part, x, params), params.conv_params.stride, GRIDS[dimension])
        for part, params in zip(module.groups, groups, strict=True)
    ]
    expected = torch.cat(parts, dim=-1) @ module.out_proj.weight.cpu().T + module.out_proj.bias.cpu()
    torch.testing.assert_close(module(x).cpu(), expected, **EXACT)


@torch.no_grad()
def test_scales_do_not_scramble_a_coded_input(
    dimension: int, device: str, double: torch.dtype, stride_kind: int, oracle: Any
) -> None:
    """Two groups pass on the corner of each patch; the first half of the output is fine, the second coarse."""
    stride = STRIDES[dimension][stride_kind]
    fine = (1,) * dimension
    x = coded(GRIDS[dimension], 4, double, device)
    module = MultiScaleMultiHeadNA(dimension, 4, 8, [group(fine, 1, 2, 4), group(stride, 1, 1, 4)]).to(device, double)
    for part in module.groups:
        pass_values_only(part)
        pick_corner(part.tokenizer, (0,) * dimension)
    module.out_proj.weight.copy_(torch.eye(8))
    module.out_proj.bias.zero_()
    out = module(x)
    coarse = oracle.upsample(padded_corner(x, stride, (0,) * dimension).cpu(), stride, GRIDS[dimension])
    torch.testing.assert_close(out[..., :4], x, **EXACT)
    torch.testing.assert_close(out[..., 4:].cpu(), coarse, **EXACT)


def reach_of_group(oracle: Any, grid: tuple[int, ...], stride: tuple[int, ...], axis: Any) -> Tensor:
    """Return which inputs can change which outputs, `[output, input]`: interpolation, window, patch."""
    coarse = [-(-length // step) for length, step in zip(grid, stride, strict=True)]
    interpolation, patch = torch.ones(1, 1).double(), torch.ones(1, 1).double()
    for length, step, tokens in zip(grid, stride, coarse, strict=True):
        interpolation = torch.kron(interpolation, oracle.upsampling_matrix(length, step))
        patch = torch.kron(patch, (torch.arange(length)[None] // step == torch.arange(tokens)[:, None]).double())
    window = oracle.neighbor_mask(coarse, [axis] * len(grid)).double()
    return interpolation @ window @ patch > 0


def test_output_depends_on_all_inputs_in_reach_and_no_others(
    dimension: int, device: str, double: torch.dtype, oracle: Any
) -> None:
    grid = {1: (23,), 2: (9, 8), 3: (5, 6, 4)}[dimension]
    coarse = STRIDES[dimension][2]
    groups = [group((1,) * dimension, 2, 1, 4, dilation=2), group(coarse, 2, 2, 4)]
    module = MultiScaleMultiHeadNA(dimension, 3, 2, groups).to(device, double)
    randomize(module)
    soften(module)
    reach = reach_of_group(oracle, grid, (1,) * dimension, oracle.Axis(window=2, dilation=2))
    reach |= reach_of_group(oracle, grid, coarse, oracle.Axis(window=2))
    assert not reach.all()
    x = torch.randn(1, *grid, 3, dtype=double, device=device, requires_grad=True)
    out = module(x).flatten(1, -2)[0]
    for place, row in enumerate(reach):
        (gradient,) = torch.autograd.grad(out[place].sum(), x, retain_graph=True)
        # A neighbor's share in the middle of a patch is zero, but for the rounding of a place on CUDA.
        touched = gradient.flatten(1, -2)[0].abs().sum(-1).cpu() > 1e-12
        assert torch.equal(touched, row), f"output {place}"
