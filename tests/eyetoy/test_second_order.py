"""Gradients that are differentiated again, and many gradients at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from eyetoy import GlobalAttentionParams, GlobalAttentionStack, create_model, global_attention, neighborhood_attention
from eyetoy.neighborhood.backends import reference
from eyetoy.neighborhood.backends.registry import BACKENDS
from eyetoy.neighborhood.varlen import varlen_attention
from eyetoy.second_order import fused_attention, plain_attention

GRIDS = {1: (5,), 2: (3, 2), 3: (2, 2, 2)}
OPTIONS: list[dict[str, Any]] = [
    {"window": 2},
    {"window": 2, "dilation": 2},
    {"window": 2, "stride": 2, "is_causal": True},
    {"window": 9},
]
ROUNDING = {torch.float32: {"rtol": 1e-3, "atol": 1e-4}, torch.float64: {"rtol": 1e-9, "atol": 1e-11}}


def _fixed(x: Tensor) -> Tensor:
    """Return tokens that need no gradient."""
    return torch.linspace(-1, 1, x.numel(), dtype=x.dtype, device=x.device).view(x.shape)


def _packed(x: Tensor) -> tuple[Tensor, ...]:
    return x.unflatten(-1, (3, -1)).unbind(-2)


# Query, key and value from one tensor `[batch, *grid, heads, 6]`, in the ways in which models make them.
SOURCES: dict[str, Callable[[Tensor], tuple[Tensor, ...]]] = {
    "one tensor three times": lambda x: (x, x, x),
    "one tensor as key and value": lambda x: (_fixed(x), x, x),
    "views of one tensor": _packed,
    "linear functions of one tensor": lambda x: (x, 2 * x, 0.5 * x + 1),
    "key from query, value fixed": lambda x: (x, F.normalize(x, dim=-1), _fixed(x)),
    "a chain": lambda x: (x.sin(), x.sin().cos(), x.sin().cos() * x),
    "value from key": lambda x: (_fixed(x), x, x * x),
}


def source_tokens(dimension: int, device: str, dtype: torch.dtype) -> Tensor:
    shape = (2, *GRIDS[dimension], 2, 6)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype).requires_grad_()


def key_mask(dimension: int, device: str) -> Tensor:
    mask = torch.arange(2 * torch.Size(GRIDS[dimension]).numel()) % 3 > 0
    return mask.view(2, *GRIDS[dimension]).to(device)


each_problem = pytest.mark.parametrize(("options", "masked"), list(itertools.product(OPTIONS, (False, True))), ids=str)


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Callable[[Tensor], tuple[Tensor, ...]]:
    return SOURCES[request.param]


@each_problem
def test_a_graph_of_the_gradient_leaves_the_gradient_as_it_is(
    dimension: int,
    device: str,
    double: torch.dtype,
    backend: str,
    source: Callable[[Tensor], tuple[Tensor, ...]],
    options: dict[str, Any],
    masked: bool,
) -> None:
    x = source_tokens(dimension, device, double)
    mask = key_mask(dimension, device) if masked else None

    def gradient(name: str, *, create_graph: bool) -> Tensor:
        out = neighborhood_attention(*source(x), key_mask=mask, backend=name, **options)
        return torch.autograd.grad(out.square().sum(), x, create_graph=create_graph)[0]

    expected = gradient("reference", create_graph=False)
    for create_graph in (False, True):
        actual = gradient(backend, create_graph=create_graph)
        torch.testing.assert_close(actual, expected, **ROUNDING[double])
    penalties = [gradient(name, create_graph=True).square().sum() for name in (backend, "reference")]
    actual, expected = (torch.autograd.grad(penalty, x)[0] for penalty in penalties)
    torch.testing.assert_close(actual, expected, **ROUNDING[double])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_second_derivatives_where_tokens_have_one_source(
    dimension: int,
    device: str,
    double: torch.dtype,
    source: Callable[[Tensor], tuple[Tensor, ...]],
    options: dict[str, Any],
) -> None:
    x = source_tokens(dimension, device, double)[:1, ..., :1, :].detach().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda t: neighborhood_attention(*source(t), backend="tiled", **options), [x])


@each_problem
def test_backends_with_one_derivative_get_the_others(
    dimension: int,
    device: str,
    double: torch.dtype,
    options: dict[str, Any],
    masked: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Like FlexAttention's and NATTEN's kernels, the backend here has a backward pass that ends the graph."""

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, attend: Callable[..., Tensor], *qkv: Tensor) -> Tensor:
            ctx.attend = attend
            ctx.save_for_backward(*qkv)
            return attend(*qkv)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            leaves = [x.detach().requires_grad_() for x in ctx.saved_tensors]
            with torch.enable_grad():
                return None, *torch.autograd.grad(ctx.attend(*leaves), leaves, grad)

    def attend(query: Tensor, key: Tensor, value: Tensor, problem: Any) -> Tensor:
        once: Tensor = Once.apply(lambda *qkv: reference.attend(*qkv, problem), query, key, value)
        return once

    monkeypatch.setitem(BACKENDS, "flex", replace(BACKENDS["flex"], attend=attend, why_not=lambda call: None))
    x = source_tokens(dimension, device, double)
    mask = key_mask(dimension, device) if masked else None

    def derivatives(backend: str) -> list[Tensor]:
        out = neighborhood_attention(x, 2 * x, x, key_mask=mask, backend=backend, **options)
        plain = torch.autograd.grad(out.square().sum(), x, retain_graph=True)
        (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        return [out, *plain, first, *torch.autograd.grad(first.square().sum(), x)]

    for actual, expected in zip(derivatives("flex"), derivatives("reference"), strict=True):
        torch.testing.assert_close(actual, expected, **ROUNDING[double])


def test_third_derivatives_flow(dimension: int, device: str, double: torch.dtype) -> None:
    x = source_tokens(dimension, device, double)

    def third(backend: str) -> Tensor:
        y = neighborhood_attention(x, 2 * x, x + 1, window=2, backend=backend).square().sum()
        for _ in range(2):
            (gradient,) = torch.autograd.grad(y, x, create_graph=True)
            y = gradient.square().sum()
        return torch.autograd.grad(y, x)[0]

    torch.testing.assert_close(third("tiled"), third("reference"), rtol=1e-8, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_fused_attention_has_second_derivatives(device: str, dtype: torch.dtype, masked: bool) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("mps has no float64")
    x = torch.randn(2, 2, 5, 8, device=device, dtype=dtype, requires_grad=True)
    mask = torch.rand(2, 1, 1, 5, device=device) < 0.8 if masked else None
    mask = mask if mask is None else mask | ~mask.any(-1, keepdim=True)

    def derivatives(attend: Callable[..., Tensor]) -> list[Tensor]:
        out = attend(x, 2 * x, x, mask=mask, scale=0.3)
        (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        return [out, first, *torch.autograd.grad(first.square().sum(), x)]

    for actual, expected in zip(derivatives(fused_attention), derivatives(plain_attention), strict=True):
        torch.testing.assert_close(actual, expected, **ROUNDING[dtype])


def test_fused_attention_is_pytorchs_to_the_bit(device: str) -> None:
    x = torch.randn(2, 2, 50, 8, device=device, requires_grad=True)
    results = []
    for attend in (fused_attention, F.scaled_dot_product_attention):
        out = attend(x, 2 * x, x + 1)
        results.append([out, *torch.autograd.grad(out.square().sum(), x)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_global_attention_has_second_derivatives(device: str, dtype: torch.dtype, masked: bool, oracle: Any) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("mps has no float64")
    x = torch.randn(1, 2, 7, 4, device=device, dtype=dtype, requires_grad=True)
    mask = torch.tensor([[True] * 5 + [False] * 2], device=device) if masked else None
    seen = oracle.global_mask(2, 7)
    if masked:
        seen[:2, 5:] = False  # a spatial token in the padding still sees itself

    def derivatives(out: Tensor) -> list[Tensor]:
        (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        return [first, *torch.autograd.grad(first.square().sum(), x)]

    ours = derivatives(global_attention(x, 2 * x, x, num_global_tokens=2, key_mask=mask))
    expected = derivatives(oracle.dense_attention(x, 2 * x, x, seen.to(device)))
    for actual, plain in zip(ours, expected, strict=True):
        torch.testing.assert_close(actual, plain, **ROUNDING[dtype])


@pytest.mark.parametrize("with_lengths", [False, True])
def test_global_stack_has_second_derivatives(device: str, double: torch.dtype, with_lengths: bool) -> None:
    stack = GlobalAttentionStack(4, GlobalAttentionParams(depth=2, num_heads=2)).to(device, double)
    lengths = torch.tensor([3, 2], device=device) if with_lengths else None
    x = torch.randn(2, 3, 4, device=device, dtype=double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: stack(t, lengths), [x])
    assert torch.autograd.gradgradcheck(lambda t: stack.context(t, lengths), [x])


@pytest.mark.parametrize("options", [{"window": 3}, {"window": 2, "dilation": 2}, {"window": 2, "is_causal": True}])
def test_clips_of_several_lengths_have_second_derivatives(
    device: str, double: torch.dtype, options: dict[str, Any]
) -> None:
    x = torch.randn(2, 6, 1, 2, device=device, dtype=double, requires_grad=True)
    lengths = torch.tensor([6, 4], device=device)
    real = torch.arange(6, device=device) < lengths[:, None]

    def attend(t: Tensor) -> Tensor:
        return varlen_attention(t, 2 * t, t, lengths, **options)[real]

    assert torch.autograd.gradcheck(attend, [x])
    assert torch.autograd.gradgradcheck(attend, [x])


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_penalty_of_a_model(
    dimension: int, device: str, dtype: torch.dtype, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("mps has no float64")
    model = create_model(f"eyetoy{dimension}d_pico", num_classes=2).to(device, dtype)
    channels, grid = model.encoder.params.in_channels, {1: (400,), 2: (32, 24), 3: (4, 16, 24)}[dimension]
    x = torch.randn(1, channels, *grid, device=device, dtype=dtype, requires_grad=True)

    def derivatives() -> list[Tensor]:
        (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        penalty = 1e3 * (gradient.norm() - 1).square()
        return [gradient, *torch.autograd.grad(penalty, [x, *model.parameters()], materialize_grads=True)]

    (expected,) = torch.autograd.grad(model(x).square().sum(), x)
    model.set_grad_checkpointing(checkpointing)
    ours = derivatives()
    torch.testing.assert_close(ours[0], expected, rtol=1e-3, atol=1e-5)
    model.set_grad_checkpointing(False)
    monkeypatch.setenv("EYETOY_NEIGHBORHOOD_BACKEND", "reference")
    monkeypatch.setattr("eyetoy.global_stack.fused_attention", plain_attention)
    tolerance = {torch.float32: 2e-3, torch.float64: 1e-9}[dtype]
    for actual, plain in zip(ours, derivatives(), strict=True):
        assert (actual - plain).norm() <= tolerance * (plain.norm() + 1e-3)


@each_problem
@pytest.mark.parametrize("create_graph", [False, True])
def test_many_gradients_at_once_are_those_one_by_one(
    dimension: int, device: str, backend: str, options: dict[str, Any], masked: bool, create_graph: bool
) -> None:
    qkv = [source_tokens(dimension, device, torch.float32) for _ in range(3)]
    mask = key_mask(dimension, device) if masked else None
    out = neighborhood_attention(*qkv, key_mask=mask, backend=backend, **options)
    cotangents = torch.randn(4, *out.shape, device=device)

    def gradients(cotangent: Tensor, **how: Any) -> tuple[Tensor, ...]:
        return torch.autograd.grad(out, qkv, cotangent, retain_graph=True, create_graph=create_graph, **how)

    one_by_one = [torch.stack(x) for x in zip(*map(gradients, cotangents), strict=True)]
    for together in (gradients(cotangents, is_grads_batched=True), torch.vmap(gradients)(cotangents)):
        for actual, expected in zip(together, one_by_one, strict=True):
            torch.testing.assert_close(actual, expected, **ROUNDING[torch.float32])


def test_jacobian_of_a_model_in_one_pass(dimension: int, device: str) -> None:
    model = create_model(f"eyetoy{dimension}d_pico", num_classes=3).to(device).eval()
    channels, grid = model.encoder.params.in_channels, {1: (400,), 2: (32, 24), 3: (4, 16, 24)}[dimension]
    x = torch.randn(1, channels, *grid, device=device)
    together, one_by_one = (torch.autograd.functional.jacobian(model, x, vectorize=v) for v in (True, False))
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_hessian_in_every_way(
    dimension: int, device: str, double: torch.dtype, backend: str, options: dict[str, Any]
) -> None:
    x = source_tokens(dimension, device, double)[:1, ..., :1, :2].detach()

    def loss(t: Tensor) -> Tensor:
        return neighborhood_attention(t, 2 * t, t, backend=backend, **options).square().sum()

    expected = torch.func.hessian(loss)(x)
    for vectorize in (False, True):
        actual = torch.autograd.functional.hessian(loss, x, vectorize=vectorize)
        torch.testing.assert_close(actual, expected, **ROUNDING[double])


def test_hessian_of_float32_by_torch_func(dimension: int, device: str) -> None:
    """Windows over the whole grid are fused attention, which `torch.func` cannot differentiate twice either."""
    x = source_tokens(dimension, device, torch.float32)[:1, ..., :1, :2].detach()

    def hessian(backend: str) -> Tensor:
        found: Tensor = torch.func.jacrev(
            torch.func.jacrev(lambda t: neighborhood_attention(t, 2 * t, t, window=9, backend=backend).square().sum())
        )(x)
        return found

    torch.testing.assert_close(hessian("tiled"), hessian("reference"), **ROUNDING[torch.float32])
