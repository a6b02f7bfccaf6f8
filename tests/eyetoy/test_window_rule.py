"""Which keys a query sees, read off the operator: with equal logits and one-hot values, outputs are weights."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eyetoy import neighborhood_attention
from eyetoy.neighborhood.window import AxisRule


def attention_weights(
    grid: tuple[int, ...], backend: str, device: str = "cpu", dtype: torch.dtype = torch.float64, **options: Any
) -> Tensor:
    """Return `[query, key]` weights of a call in which every visible key counts the same."""
    tokens = math.prod(grid)
    same = torch.zeros(1, *grid, 1, 4, dtype=dtype, device=device)
    one_hot = torch.eye(tokens, dtype=dtype, device=device).view(1, *grid, 1, tokens)
    return neighborhood_attention(same, same, one_hot, backend=backend, **options).reshape(tokens, tokens).cpu()


def seen(grid: tuple[int, ...], query: int, backend: str, **options: Any) -> list[int]:
    return attention_weights(grid, backend, **options)[query].nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("length", "query", "options", "keys"),
    [
        (9, 4, {"window": 3}, [3, 4, 5]),
        (9, 4, {"window": 4}, [2, 3, 4, 5]),
        (9, 0, {"window": 4}, [0, 1, 2, 3]),
        (9, 1, {"window": 5}, [0, 1, 2, 3, 4]),
        (9, 8, {"window": 5}, [4, 5, 6, 7, 8]),
        (9, 7, {"window": 2}, [6, 7]),
        (9, 3, {"window": 1}, [3]),
        (4, 2, {"window": 7}, [0, 1, 2, 3]),
        (9, 0, {"window": 3, "is_causal": True}, [0]),
        (9, 5, {"window": 3, "is_causal": True}, [3, 4, 5]),
        (10, 5, {"window": 3, "dilation": 3}, [2, 5, 8]),
        (10, 9, {"window": 3, "dilation": 3}, [3, 6, 9]),
        (10, 8, {"window": 4, "dilation": 3}, [2, 5, 8]),
        (10, 7, {"window": 2, "dilation": 3, "is_causal": True}, [4, 7]),
        (12, 3, {"window": 5, "stride": 3}, [2, 3, 4, 5, 6]),
        (12, 5, {"window": 5, "stride": 3}, [2, 3, 4, 5, 6]),
        (12, 6, {"window": 4, "stride": 2}, [5, 6, 7, 8]),
        (11, 10, {"window": 3, "stride": 3}, [8, 9, 10]),
        (12, 6, {"window": 4, "stride": 3, "is_causal": True}, [5, 6]),
        (12, 8, {"window": 4, "stride": 3, "is_causal": True}, [5, 6, 7, 8]),
        (20, 13, {"window": 3, "dilation": 2, "stride": 2}, [13, 15, 17]),
    ],
)
def test_worked_examples(backend: str, length: int, query: int, options: dict[str, Any], keys: list[int]) -> None:
    assert seen((length,), query, backend, **options) == keys


@pytest.mark.parametrize("is_causal", [False, True])
def test_every_short_axis_follows_the_rule(backend: str, oracle: Any, is_causal: bool) -> None:
    sizes = itertools.product((1, 2, 3, 5, 8, 11), (1, 2, 3, 4, 6, 12), (1, 2, 3, 5), (1, 2, 3, 4))
    for length, window, dilation, stride in sizes:
        if stride > window:
            continue
        options = {"window": window, "dilation": dilation, "stride": stride, "is_causal": is_causal}
        expected = oracle.neighbor_mask((length,), [oracle.Axis(**options)]).double()
        weights = attention_weights((length,), backend, **options)
        assert torch.allclose(weights, expected / expected.sum(1, keepdim=True), rtol=0, atol=1e-12), options


@given(data=st.data())
@settings(max_examples=30)
def test_neighborhood_is_the_product_of_the_axes(
    data: st.DataObject, dimension: int, device: str, double: torch.dtype, backend: str, oracle: Any, problems: Any
) -> None:
    problem = data.draw(problems.attention_problems(dimension, with_mask=False))
    expected = oracle.neighbor_mask(problem.grid, problem.axes(oracle.Axis)).double()
    weights = attention_weights(problem.grid, backend, device, double, **problem.options)
    torch.testing.assert_close(weights, expected / expected.sum(1, keepdim=True), rtol=0, atol=1e-12)


@given(data=st.data())
@settings(max_examples=20)
def test_every_query_has_a_whole_window_and_sees_itself(
    data: st.DataObject, dimension: int, backend: str, problems: Any
) -> None:
    length = data.draw(st.integers(1, problems.SMALL[dimension]))
    window = data.draw(st.integers(1, length))
    stride = data.draw(st.integers(1, window))
    weights = attention_weights((length,) * dimension, backend, window=window, stride=stride)
    assert ((weights > 0).sum(1) == window**dimension).all()
    assert (weights.diagonal() > 0).all()


@given(data=st.data())
@settings(max_examples=20)
def test_causal_query_sees_itself_and_nothing_later(
    data: st.DataObject, dimension: int, backend: str, problems: Any
) -> None:
    problem = data.draw(problems.attention_problems(dimension, with_mask=False))
    options = problem.options | {"is_causal": True}
    weights = attention_weights(problem.grid, backend, **options)
    places = torch.cartesian_prod(*(torch.arange(length) for length in problem.grid)).view(-1, dimension)
    later = (places[None] > places[:, None]).any(-1)
    assert (weights[later] == 0).all()
    assert (weights.diagonal() > 0).all()


@given(data=st.data())
@settings(max_examples=20)
def test_tokens_outside_a_window_do_not_matter(
    data: st.DataObject, dimension: int, device: str, double: torch.dtype, backend: str, oracle: Any, problems: Any
) -> None:
    problem = data.draw(problems.attention_problems(dimension, large=True, with_mask=False))
    query, key, value, _ = problem.tensors(double, device)
    place = tuple(data.draw(st.integers(0, length - 1)) for length in problem.grid)
    axes = problem.axes(oracle.Axis)
    outside = torch.ones(problem.grid, dtype=torch.bool)
    reach = [axis.keys(at, length) for axis, at, length in zip(axes, place, problem.grid, strict=True)]
    outside[torch.meshgrid(*map(torch.tensor, reach), indexing="ij")] = False
    other_key, other_value = key.clone(), value.clone()
    other_key[:, outside.to(device)] = 1e4
    other_value[:, outside.to(device)] = -1e4
    before = neighborhood_attention(query, key, value, backend=backend, **problem.options)
    after = neighborhood_attention(query, other_key, other_value, backend=backend, **problem.options)
    torch.testing.assert_close(after[:, *place], before[:, *place], rtol=0, atol=1e-10)


@given(data=st.data())
@settings(max_examples=20)
def test_interior_moves_with_its_input(
    data: st.DataObject, dimension: int, device: str, double: torch.dtype, backend: str
) -> None:
    window = data.draw(st.integers(1, {1: 9, 2: 4, 3: 3}[dimension]))
    dilation = data.draw(st.integers(1, 2))
    stride = data.draw(st.integers(1, window))
    is_causal = data.draw(st.booleans())
    step = stride * dilation
    reach = (window + stride) * dilation
    length = 2 * reach + step + {1: 40, 2: 4, 3: 1}[dimension]
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    long = [
        torch.randn(1, *(length + step,) * dimension, 1, 3, generator=generator, dtype=double).to(device)
        for _ in range(3)
    ]
    options = {"window": window, "dilation": dilation, "stride": stride, "is_causal": is_causal, "backend": backend}
    here = (slice(None), *[slice(0, length)] * dimension)
    there = (slice(None), *[slice(step, length + step)] * dimension)
    moved = neighborhood_attention(*(x[here] for x in long), **options)
    original = neighborhood_attention(*(x[there] for x in long), **options)
    moved_interior = (slice(None), *[slice(reach + step, length - reach)] * dimension)
    interior = (slice(None), *[slice(reach, length - reach - step)] * dimension)
    assert original[interior].numel() > 0
    torch.testing.assert_close(moved[moved_interior], original[interior], rtol=0, atol=1e-12)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("length", [3, 7, 20])
def test_a_stride_beyond_the_window_is_that_of_the_window(length: int, is_causal: bool) -> None:
    """The longer one would leave queries without their own key."""
    found, expected = (
        AxisRule(length=length, window=3, stride=stride, is_causal=is_causal).bounds() for stride in (5, 3)
    )
    assert [bound.tolist() for bound in found] == [bound.tolist() for bound in expected]


def test_a_window_as_long_as_its_axis_sees_all() -> None:
    """What then need not be asked query by query."""
    assert [AxisRule(length=length, window=5).sees_all for length in (4, 5, 6)] == [True, True, False]
