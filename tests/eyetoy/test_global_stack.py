"""The global stack: its attention against dense masked attention, who hears whom, what it returns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eyetoy import (
    GlobalAttentionParams,
    GlobalAttentionStack,
    GlobalAttentionTransformer,
    create_attention_mask,
    global_attention,
)

EXACT = {"rtol": 1e-9, "atol": 1e-10}
GRIDS = {1: (9,), 2: (3, 4), 3: (2, 3, 2)}


def random_qkv(tokens: int, *, batch: int = 2, heads: int = 2, head_dim: int = 4, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, heads, tokens, head_dim, generator=generator, dtype=torch.float64) for _ in range(3)]


def materialize(num_global_tokens: int, num_spatial_tokens: int, device: str = "cpu") -> Tensor:
    """Ask the block mask about every pair of tokens."""
    tokens = torch.arange(num_global_tokens + num_spatial_tokens, device=device)
    mask = create_attention_mask(num_global_tokens, num_spatial_tokens, device=device)
    zero = torch.zeros((), dtype=torch.int64, device=device)
    return mask.mask_mod(zero, zero, tokens[:, None], tokens[None, :]).cpu()


@torch.no_grad()
def randomize(module: nn.Module) -> nn.Module:
    """Move every parameter off its initial value, so that no bias or scale hides."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return module


@torch.no_grad()
def silence_branches(layer: GlobalAttentionTransformer) -> None:
    """Leave only the residual path."""
    for linear in (layer.out_proj, layer.ffn.contract):
        linear.weight.zero_()
        linear.bias.zero_()


def make_layer(channels: int = 8, **options: Any) -> GlobalAttentionTransformer:
    params = GlobalAttentionParams(depth=1, num_heads=2, **options)
    return randomize(GlobalAttentionTransformer(channels, params).double()).eval()


@pytest.mark.parametrize(("num_global", "num_spatial"), [(1, 1), (1, 12), (3, 10), (5, 200)])
def test_mask_is_the_documented_pattern(oracle: Any, num_global: int, num_spatial: int) -> None:
    assert torch.equal(materialize(num_global, num_spatial), oracle.global_mask(num_global, num_global + num_spatial))


@given(
    num_global=st.integers(1, 6),
    num_spatial=st.integers(0, 30),
    batch=st.integers(0, 3),
    heads=st.integers(1, 3),
    head_dim=st.sampled_from((1, 3, 8)),
)
@settings(max_examples=40)
def test_equals_dense_attention_with_gradients(
    device: str,
    double: torch.dtype,
    oracle: Any,
    num_global: int,
    num_spatial: int,
    batch: int,
    heads: int,
    head_dim: int,
) -> None:
    qkv = random_qkv(num_global + num_spatial, batch=batch, heads=heads, head_dim=head_dim)
    leaves = [x.to(device, double).requires_grad_() for x in qkv]
    dense_leaves = [x.requires_grad_() for x in qkv]
    out = global_attention(*leaves, num_global_tokens=num_global)
    expected = oracle.dense_attention(*dense_leaves, oracle.global_mask(num_global, num_global + num_spatial))
    torch.testing.assert_close(out.cpu(), expected, **EXACT)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad(out, leaves, cotangent.to(device))
    for gradient, dense in zip(gradients, torch.autograd.grad(expected, dense_leaves, cotangent), strict=True):
        torch.testing.assert_close(gradient.cpu(), dense, **EXACT)


@pytest.mark.parametrize(("num_global", "num_spatial"), [(1, 1), (3, 10), (5, 140)])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_backend_agrees(device: str, num_global: int, num_spatial: int) -> None:
    if device == "mps":
        pytest.skip("FlexAttention does not run on mps")
    qkv = [x.to(device, torch.float32) for x in random_qkv(num_global + num_spatial, head_dim=16)]
    exact, flex = (
        global_attention(*qkv, num_global_tokens=num_global, backend=backend) for backend in ("exact", "flex")
    )
    torch.testing.assert_close(flex, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_global_tokens", [-1, 0, 8])
def test_number_of_global_tokens_must_fit(num_global_tokens: int) -> None:
    with pytest.raises(ValueError, match=rf"num_global_tokens must be from 1 .*7; got {num_global_tokens}"):
        global_attention(*random_qkv(7), num_global_tokens=num_global_tokens)


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend must be 'exact' or 'flex'; got 'dense'"):
        global_attention(*random_qkv(7), num_global_tokens=1, backend="dense")


@pytest.mark.parametrize("residual", ["input", "norm"])
@pytest.mark.parametrize(("num_registers", "context_token"), [(0, True), (1, False), (4, False), (4, True)])
def test_spatial_tokens_do_not_hear_each_other_but_global_tokens_hear_all(
    device: str, double: torch.dtype, residual: str, num_registers: int, context_token: bool
) -> None:
    num_global = num_registers + context_token
    layer = make_layer(num_register_tokens=num_registers, context_token=context_token, residual=residual)
    layer = layer.to(device)
    tokens = torch.randn(1, num_global + 10, 8, dtype=double, device=device)
    before = layer(tokens)
    for changed in range(num_global, num_global + 10):
        other = tokens.clone()
        other[:, changed] += torch.randn(8, dtype=double, device=device)
        moved = (layer(other) - before).abs().amax(-1)[0]
        others = [at for at in range(num_global, num_global + 10) if at != changed]
        assert (moved[others] < 1e-12).all()
        assert (moved[:num_global] > 1e-8).all()
        assert moved[changed] > 1e-8


def test_a_global_token_reaches_every_token(device: str, double: torch.dtype) -> None:
    layer = make_layer(num_register_tokens=1, context_token=True).to(device)
    tokens = torch.randn(1, 12, 8, dtype=double, device=device)
    for changed in range(2):
        other = tokens.clone()
        other[:, changed] += torch.randn(8, dtype=double, device=device)
        assert ((layer(other) - layer(tokens)).abs().amax(-1) > 1e-8).all()


@pytest.mark.parametrize("residual", ["input", "norm"])
def test_layer_equals_its_equations(residual: str, oracle: Any) -> None:
    layer = make_layer(num_register_tokens=2, context_token=True, residual=residual)
    tokens = torch.randn(2, 11, 8, dtype=torch.float64)
    normed = layer.norm1(tokens)
    qkv = layer.qkv_proj(normed).split(8, dim=-1)
    heads = [
        oracle.dense_attention(*(x[:, None, :, low : low + 4] for x in qkv), oracle.global_mask(3, 11))[:, 0]
        for low in (0, 4)
    ]
    attended = (tokens if residual == "input" else normed) + layer.out_proj(torch.cat(heads, dim=-1))
    expected = attended + layer.ffn(layer.norm2(attended))
    torch.testing.assert_close(layer(tokens), expected, **EXACT)


def test_residual_comes_from_the_input_or_from_the_normalised_tokens() -> None:
    tokens = 5 + 3 * torch.randn(2, 7, 8, dtype=torch.float64)
    layers = {residual: make_layer(residual=residual) for residual in ("input", "norm")}
    for layer in layers.values():
        silence_branches(layer)
    torch.testing.assert_close(layers["input"](tokens), tokens, **EXACT)
    torch.testing.assert_close(layers["norm"](tokens), layers["norm"].norm1(tokens), **EXACT)
    assert not torch.allclose(layers["norm"](tokens), tokens)


def test_norm_residual_forgets_the_scale_of_its_input() -> None:
    tokens = torch.randn(2, 7, 8, dtype=torch.float64)
    layers = {residual: make_layer(residual=residual) for residual in ("input", "norm")}
    torch.testing.assert_close(layers["norm"](3 * tokens + 1), layers["norm"](tokens), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(layers["input"](3 * tokens + 1), layers["input"](tokens), rtol=1e-1, atol=1e-1)


def make_stack(num_registers: int, context_token: bool, *, depth: int = 2, pool: str = "token") -> GlobalAttentionStack:
    params = GlobalAttentionParams(
        depth=depth, num_heads=2, num_register_tokens=num_registers, context_token=context_token, global_pool=pool
    )
    return randomize(GlobalAttentionStack(8, params).double()).eval()


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize(("num_registers", "context_token"), [(0, True), (1, False), (1, True), (4, False), (4, True)])
def test_stack_returns_features_on_the_grid_and_one_context(
    dimension: int, device: str, double: torch.dtype, num_registers: int, context_token: bool, pool: str
) -> None:
    stack = make_stack(num_registers, context_token, pool=pool).to(device)
    x = torch.randn(3, *GRIDS[dimension], 8, dtype=double, device=device)
    features, context = stack(x)
    assert features.shape == x.shape
    assert context.shape == (3, 8)
    mean = features.flatten(1, -2).mean(1)
    assert torch.allclose(context, mean, rtol=0, atol=1e-10) == (pool == "avg" or not context_token)


def test_stack_keeps_every_token_at_its_place(dimension: int, device: str, double: torch.dtype) -> None:
    """With silent branches a stack is its final norm."""
    stack = make_stack(4, True).to(device)
    for layer in stack.layers:
        silence_branches(layer)
    x = torch.randn(2, *GRIDS[dimension], 8, dtype=double, device=device)
    features, context = stack(x)
    torch.testing.assert_close(features, stack.norm(x), **EXACT)
    assert torch.allclose(context[0], context[1])


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("num_registers", "context_token"), [(0, True), (1, False), (4, True)])
def test_context_alone_is_that_of_the_whole_stack_and_so_are_its_gradients(
    dimension: int, device: str, double: torch.dtype, depth: int, num_registers: int, context_token: bool, pool: str
) -> None:
    stack = make_stack(num_registers, context_token, depth=depth, pool=pool).to(device)
    x = torch.randn(3, *GRIDS[dimension], 8, dtype=double, device=device, requires_grad=True)
    cases = [None] if dimension > 1 else [None, torch.tensor([9, 1, 4], device=device)]
    for lengths in cases:
        whole, alone = stack(x, lengths)[1], stack.context(x, lengths)
        torch.testing.assert_close(alone, whole, **EXACT)
        leaves = [x, *stack.parameters()]
        for ours, theirs in zip(
            torch.autograd.grad(alone.pow(3).sum(), leaves),
            torch.autograd.grad(whole.pow(3).sum(), leaves),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize(("pool", "needed"), [("token", 1), ("avg", 100)])
def test_context_alone_computes_less_of_the_last_layer(pool: str, needed: int) -> None:
    stack, x = make_stack(4, True, pool=pool), torch.randn(1, 100, 8, dtype=torch.float64)
    seen: list[int] = []
    stack.layers[-1].ffn.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    stack(x)
    stack.context(x)
    assert seen == [105, needed]


def test_spatial_tokens_hear_each_other_through_two_layers(dimension: int, device: str, double: torch.dtype) -> None:
    x = torch.randn(1, *GRIDS[dimension], 8, dtype=double, device=device)
    other = x.clone()
    other[(0,) * (dimension + 1)] += torch.randn(8, dtype=double, device=device)
    for depth, hears in ((1, False), (2, True)):
        stack = make_stack(1, True, depth=depth).to(device)
        moved = (stack(other)[0] - stack(x)[0]).abs().amax(-1).flatten()
        assert moved[0] > 1e-8
        assert bool((moved[1:] > 1e-8).all()) == hears
        assert bool((moved[1:] > 1e-12).any()) == hears


@pytest.mark.parametrize(("num_registers", "context_token"), [(0, True), (1, False), (4, True)])
def test_there_are_as_many_learned_tokens_as_asked_for(num_registers: int, context_token: bool) -> None:
    params = GlobalAttentionParams(depth=1, num_heads=2, num_register_tokens=num_registers, context_token=context_token)
    assert params.num_global_tokens == num_registers + context_token
    bare = sum(p.numel() for p in GlobalAttentionTransformer(8, params).parameters()) + 2 * 8
    total = sum(p.numel() for p in GlobalAttentionStack(8, params).parameters())
    assert total - bare == 8 * params.num_global_tokens


def test_global_tokens_differ_from_each_other() -> None:
    """Equal tokens would stay equal, and count as one."""
    tokens = GlobalAttentionStack(8, GlobalAttentionParams(depth=1, num_heads=2)).global_tokens
    distances = torch.cdist(tokens, tokens)
    assert (distances[~torch.eye(len(tokens), dtype=torch.bool)] > 0).all()


def test_channels_must_be_shared_among_the_heads() -> None:
    with pytest.raises(ValueError, match=r"multiple of num_heads; got 9 and 2"):
        GlobalAttentionTransformer(9, GlobalAttentionParams(depth=1, num_heads=2))


@pytest.mark.parametrize("num_registers", [0, 2])
def test_a_context_token_begins_as_what_is_learned_or_that_and_the_mean(num_registers: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, 8, dtype=torch.float64)
    for context_init in ("learned", "mean"):
        params = GlobalAttentionParams(
            depth=1, num_heads=2, num_register_tokens=num_registers, context_init=context_init
        )
        stack = GlobalAttentionStack(8, params).double()
        for layer in stack.layers:
            silence_branches(layer)
        begun = stack.global_tokens[0] + (x.mean((1, 2)) if context_init == "mean" else 0)
        torch.testing.assert_close(stack(x)[1], stack.norm(begun).expand(3, -1))


def test_without_a_context_token_nothing_begins_as_the_mean() -> None:
    torch.manual_seed(0)
    options = {"depth": 1, "num_heads": 2, "num_register_tokens": 2, "context_token": False}
    stacks = [
        GlobalAttentionStack(8, GlobalAttentionParams(**options, context_init=init)) for init in ("learned", "mean")
    ]
    stacks[1].load_state_dict(stacks[0].state_dict())
    x = torch.randn(2, 6, 8)
    assert all(torch.equal(one, other) for one, other in zip(stacks[0](x), stacks[1](x), strict=True))


def test_products_of_large_tokens_stay_finite_in_float16() -> None:
    # Their sum of products, 64 x 36 x 36, is beyond float16; scaled by an eighth it is not.
    generator = torch.Generator().manual_seed(0)
    tokens = 36 * torch.randn(1, 1, 10, 64, generator=generator).sign()
    expected = global_attention(tokens, tokens, tokens, num_global_tokens=2)
    found = global_attention(*[tokens.half()] * 3, num_global_tokens=2)
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-2)
