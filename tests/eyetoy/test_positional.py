"""Sinusoidal positions, against the plain formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eyetoy import PositionalEmbedding1D, PositionalEmbedding2D, PositionalEmbedding3D

EMBEDDINGS: dict[int, Any] = {1: PositionalEmbedding1D, 2: PositionalEmbedding2D, 3: PositionalEmbedding3D}
LONGEST = {1: 40, 2: 9, 3: 5}


@given(data=st.data())
@settings(max_examples=20)
def test_equals_the_formula_on_any_grid(data: st.DataObject, dimension: int, device: str, oracle: Any) -> None:
    grid = tuple(data.draw(st.integers(1, LONGEST[dimension])) for _ in range(dimension))
    channels = data.draw(st.integers(2 * dimension, 2 * dimension + 12))
    positions = EMBEDDINGS[dimension](channels).positions(grid, device=torch.device(device))
    assert positions.dtype == torch.float32
    assert positions.device.type == device
    torch.testing.assert_close(positions.cpu().double(), oracle.sinusoids(grid, channels), rtol=0, atol=2e-5)


@pytest.mark.parametrize("default_dtype", [torch.bfloat16, torch.float64])
def test_does_not_depend_on_the_default_dtype(dimension: int, default_dtype: torch.dtype) -> None:
    grid = (500, 3, 5)[:dimension]
    embedding = EMBEDDINGS[dimension](8 * dimension + 1)
    expected = embedding.positions(grid)
    before = torch.get_default_dtype()
    torch.set_default_dtype(default_dtype)
    try:
        found = embedding.positions(grid)
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_wavelengths_end_where_they_are_told_to(dimension: int, oracle: Any) -> None:
    grid = (7,) * dimension
    embedding = EMBEDDINGS[dimension](8 * dimension, max_wavelength=100.0)
    expected = oracle.sinusoids(grid, 8 * dimension, max_wavelength=100.0)
    torch.testing.assert_close(embedding.positions(grid).double(), expected, rtol=0, atol=2e-5)


def test_is_added_to_every_sample_and_learns_nothing(dimension: int, device: str) -> None:
    grid = (4, 3, 5)[:dimension]
    embedding = EMBEDDINGS[dimension](12).to(device)
    x = torch.randn(2, *grid, 12, device=device)
    expected = x + embedding.positions(grid, device=x.device)
    torch.testing.assert_close(embedding(x), expected, rtol=0, atol=1e-6)
    assert not list(embedding.parameters())
    assert not embedding.state_dict()


def test_what_is_made_without_gradients_or_changed_by_a_caller_serves_training(dimension: int) -> None:
    grid = (6, 3, 5)[:dimension]
    embedding, x = EMBEDDINGS[dimension](12), torch.randn(2, *grid, 12)
    with torch.inference_mode():
        embedding(x)
    expected = x + embedding.positions(grid, device=x.device)
    embedding.positions(grid, device=x.device).zero_()
    scale = torch.ones(12, requires_grad=True)
    out = embedding(x * scale)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
    out.square().sum().backward()
    assert scale.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_keeps_the_dtype_of_its_input(dimension: int, dtype: torch.dtype) -> None:
    x = torch.zeros(1, *(3,) * dimension, 12, dtype=dtype)
    assert EMBEDDINGS[dimension](12)(x).dtype == dtype


@pytest.mark.parametrize("channels", [6, 13, 64])
def test_tells_all_positions_apart(dimension: int, channels: int) -> None:
    grid = {1: (200,), 2: (14, 15), 3: (5, 6, 7)}[dimension]
    rows = EMBEDDINGS[dimension](channels).positions(grid).double().flatten(0, -2)
    distances = torch.cdist(rows, rows) + 10 * torch.eye(len(rows))
    assert distances.min() > 1e-4


def test_an_axis_has_channels_of_its_own(dimension: int) -> None:
    grid, share = (5, 4, 3)[:dimension], 4
    positions = EMBEDDINGS[dimension](share * dimension).positions(grid)
    for axis in range(dimension):
        own = positions[..., share * axis : share * (axis + 1)]
        first = own.select(axis, 0).unsqueeze(axis)
        assert (own != first).any()
        for other in set(range(dimension)) - {axis}:
            assert torch.equal(own, own.select(other, 0).unsqueeze(other).expand_as(own))


def test_channels_without_a_pair_for_every_axis_stay_as_they_are(dimension: int) -> None:
    pairs = 2 * dimension
    for extra in range(1, pairs):
        x = torch.randn(1, *(3,) * dimension, 2 * pairs + extra)
        out = EMBEDDINGS[dimension](2 * pairs + extra)(x)
        assert torch.equal(out[..., 2 * pairs :], x[..., 2 * pairs :])
        assert not torch.equal(out[..., : 2 * pairs], x[..., : 2 * pairs])


def test_too_few_channels_are_refused(dimension: int) -> None:
    needed = 2 * dimension
    EMBEDDINGS[dimension](needed)
    with pytest.raises(
        ValueError, match=rf"{dimension} dimensions? need at least {needed} channels; got .*{needed - 1}"
    ):
        EMBEDDINGS[dimension](needed - 1)
