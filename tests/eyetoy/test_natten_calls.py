"""Calls written for NATTEN 0.21 work unchanged, or are refused with the name of the argument."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from eyetoy import na1d, na2d, na3d, neighborhood_attention

OPERATORS = {1: na1d, 2: na2d, 3: na3d}
GRID = {1: (29,), 2: (9, 11), 3: (5, 6, 7)}

NATTEN_PARAMETERS: dict[str, Any] = {
    "query": inspect.Parameter.empty,
    "key": inspect.Parameter.empty,
    "value": inspect.Parameter.empty,
    "kernel_size": inspect.Parameter.empty,
    "stride": 1,
    "dilation": 1,
    "is_causal": False,
    "scale": None,
    "additional_keys": None,
    "additional_values": None,
    "attention_kwargs": None,
    "backend": None,
    "q_tile_shape": None,
    "kv_tile_shape": None,
    "backward_q_tile_shape": None,
    "backward_kv_tile_shape": None,
    "backward_kv_splits": None,
    "backward_use_pt_reduction": False,
    "run_persistent_kernel": True,
    "kernel_schedule": None,
    "torch_compile": False,
    "return_lse": False,
}
"""The parameters of NATTEN 0.21's `na1d`, `na2d` and `na3d` in order, with their defaults."""


def qkv(dimension: int, heads: int = 4, kv_heads: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, *GRID[dimension], count, 8, generator=generator) for count in (heads, kv_heads, kv_heads)
    )
    return query, key, value


def positional(operator: Any) -> dict[str, Any]:
    parameters = inspect.signature(operator).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_parameters_are_those_of_natten_in_its_order(dimension: int) -> None:
    ours = positional(OPERATORS[dimension])
    assert list(ours) == list(NATTEN_PARAMETERS)
    # `window` may take the place of kernel_size, and "auto" is our spelling of NATTEN's None.
    assert ours == NATTEN_PARAMETERS | {"kernel_size": None, "backend": "auto"}


def test_the_table_is_that_of_the_installed_natten(dimension: int) -> None:
    natten = pytest.importorskip("natten")
    assert positional(getattr(natten, f"na{dimension}d")) == NATTEN_PARAMETERS


def test_the_operator_takes_the_first_arguments_in_the_same_order() -> None:
    assert list(positional(neighborhood_attention)) == list(NATTEN_PARAMETERS)[:8]


def test_every_spelling_of_the_window_is_the_same(dimension: int) -> None:
    operator, tokens, size = OPERATORS[dimension], qkv(dimension), (3,) * dimension
    expected = neighborhood_attention(*tokens, window=3)
    calls = [
        operator(*tokens, 3),
        operator(*tokens, size),
        operator(*tokens, list(size)),
        operator(*tokens, kernel_size=3),
        operator(*tokens, window=3),
        operator(query=tokens[0], key=tokens[1], value=tokens[2], kernel_size=size),
        neighborhood_attention(*tokens, 3),
        neighborhood_attention(*tokens, kernel_size=3),
    ]
    assert all(torch.equal(out, expected) for out in calls)


def test_positional_arguments_mean_what_they_mean_to_natten(dimension: int) -> None:
    """The order is kernel_size, stride, dilation, is_causal, scale."""
    tokens = qkv(dimension)
    expected = neighborhood_attention(*tokens, window=3, stride=2, dilation=1, is_causal=True, scale=0.5)
    assert torch.equal(OPERATORS[dimension](*tokens, 3, 2, 1, True, 0.5), expected)
    causal = [True, *[False] * (dimension - 1)]
    assert torch.equal(
        OPERATORS[dimension](*tokens, 3, None, None, causal),
        neighborhood_attention(*tokens, window=3, is_causal=tuple(causal)),
    )
    assert torch.equal(OPERATORS[dimension](*tokens, 3, is_causal=None), OPERATORS[dimension](*tokens, 3))


def test_defaults_of_natten_pass(dimension: int) -> None:
    tokens = qkv(dimension)
    defaults = dict(list(NATTEN_PARAMETERS.items())[4:])
    out = OPERATORS[dimension](*tokens, 3, **defaults)
    assert torch.equal(out, neighborhood_attention(*tokens, window=3))
    assert torch.equal(OPERATORS[dimension](*tokens, 3, *defaults.values()), out)
    assert torch.equal(OPERATORS[dimension](*tokens, 3, run_persistent_kernel=False, attention_kwargs={}), out)


def test_our_own_options_go_through_the_named_operators(dimension: int) -> None:
    tokens, mask = qkv(dimension), torch.rand(2, *GRID[dimension]) < 0.7
    out = OPERATORS[dimension](*tokens, 3, key_mask=mask, backend="reference")
    assert torch.equal(out, neighborhood_attention(*tokens, window=3, key_mask=mask, backend="reference"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("additional_keys", torch.zeros(2, 3, 4, 8)),
        ("additional_values", torch.zeros(2, 3, 4, 8)),
        ("attention_kwargs", {"backend": "flex-fmha"}),
        ("q_tile_shape", (8, 8)),
        ("kv_tile_shape", (8, 8)),
        ("backward_q_tile_shape", (8, 8)),
        ("backward_kv_tile_shape", (8, 8)),
        ("backward_kv_splits", (1, 1)),
        ("backward_use_pt_reduction", True),
        ("kernel_schedule", "coop"),
        ("torch_compile", True),
        ("return_lse", True),
    ],
)
def test_what_only_natten_has_is_refused_by_name(dimension: int, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: natten has this argument"):
        OPERATORS[dimension](*qkv(dimension), 3, **{name: value})


def test_backends_inside_natten_are_refused_with_a_hint(dimension: int) -> None:
    with pytest.raises(ValueError, match=r"backend must be .*got 'cutlass-fna'; 'natten' leaves the choice"):
        OPERATORS[dimension](*qkv(dimension), 3, backend="cutlass-fna")


@pytest.mark.parametrize("sizes", [{}, {"kernel_size": 3, "window": 3}])
def test_the_window_is_given_once(dimension: int, sizes: dict[str, int]) -> None:
    for operator in (OPERATORS[dimension], neighborhood_attention):
        with pytest.raises(
            ValueError, match=r"give kernel_size or window \(a synonym\), not both; got kernel_size=.*window="
        ):
            operator(*qkv(dimension), **sizes)


@pytest.mark.parametrize("name", ["kernel_size", "window"])
def test_errors_use_the_spelling_of_the_call(dimension: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must hold integers of at least 1; got 0"):
        OPERATORS[dimension](*qkv(dimension), **{name: 0})
    with pytest.raises(ValueError, match=f"stride=3, {name}=2"):
        OPERATORS[dimension](*qkv(dimension), stride=3, **{name: 2})


def test_an_unknown_argument_is_a_type_error(dimension: int) -> None:
    with pytest.raises(TypeError, match="rel_pos_bias"):
        OPERATORS[dimension](*qkv(dimension), 3, rel_pos_bias=None)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_fewer_key_heads_serve_consecutive_query_heads(dimension: int, backend: str, kv_heads: int) -> None:
    query, key, value = (x.requires_grad_() for x in qkv(dimension, heads=4, kv_heads=kv_heads))
    out = OPERATORS[dimension](query, key, value, 3, backend=backend)
    group = 4 // kv_heads
    expected = torch.cat(
        [
            OPERATORS[dimension](
                query[..., head, None, :],
                key[..., head // group, None, :],
                value[..., head // group, None, :],
                3,
                backend=backend,
            )
            for head in range(4)
        ],
        dim=-2,
    )
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    gradients, expected_gradients = (
        torch.autograd.grad(y.square().sum(), (query, key, value)) for y in (out, expected)
    )
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-5)


def test_key_heads_that_do_not_divide_query_heads_are_refused(dimension: int) -> None:
    with pytest.raises(ValueError, match="query and key must have one shape"):
        OPERATORS[dimension](*qkv(dimension, heads=4, kv_heads=3), 3)


def test_results_are_those_of_natten(dimension: int) -> None:
    """The same call by both, word for word; NATTEN without its kernels runs on a CPU, without gradients."""
    natten = pytest.importorskip("natten")
    theirs = getattr(natten, f"na{dimension}d")
    for kv_heads in (4, 2):
        tokens = qkv(dimension, kv_heads=kv_heads)
        for args, kwargs in [((3,), {}), ((3, 2), {}), ((2, 1, 2), {}), ((3,), {"is_causal": True, "scale": 0.3})]:
            torch.testing.assert_close(
                OPERATORS[dimension](*tokens, *args, **kwargs), theirs(*tokens, *args, **kwargs), rtol=1e-4, atol=2e-5
            )
