"""Precision and extreme values: bounds of every backend, and no sample that spoils another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eyetoy import available_backends, create_encoder, create_model, neighborhood_attention

GRID = {1: (40,), 2: (9, 11), 3: (5, 6, 7)}
INPUT = {1: (1, 1_024), 2: (3, 48, 40), 3: (3, 4, 32, 32)}
WINDOW = 5
BOUNDS = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Largest error against float64 over the largest value: two to eight units in the last place of each."""
BACKENDS = ("tiled", "flex", "reference", "natten")

EXTREMES = {
    "zeros": lambda x: torch.zeros_like(x),
    "ones": lambda x: torch.ones_like(x),
    "1e4": lambda x: torch.full_like(x, 1e4),
    "noise of 1e4": lambda x: (1e4 * x).clamp(-6e4, 6e4),
    "denormals": lambda x: 1e-40 * x,
    "one bright point": lambda x: torch.zeros_like(x).index_fill_(-2, torch.tensor([0]), 6e4),
}


def tokens(dimension: int, batch: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(dimension)
    return [torch.randn(batch, *GRID[dimension], 2, 16, generator=generator) for _ in range(3)]


def attend(backend: str, dtype: torch.dtype, qkv: list[Tensor], device: str) -> Tensor:
    reason = available_backends(device, dtype, head_dim=16)[backend]
    if reason is not None:
        pytest.skip(f"{backend}: {reason}")
    low = [x.to(device, dtype) for x in qkv]
    return neighborhood_attention(*low, window=WINDOW, backend=backend).cpu()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_every_backend_stays_near_float64(dimension, device, backend, dtype):
    qkv = tokens(dimension)
    found = attend(backend, dtype, qkv, device)
    exact = neighborhood_attention(*(x.to(dtype).double() for x in qkv), window=WINDOW, backend="reference")
    assert found.dtype == dtype
    assert (found.double() - exact).abs().max() <= BOUNDS[dtype] * qkv[2].abs().max()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("extreme", EXTREMES)
def test_attention_to_extreme_values_lies_between_them(dimension, device, backend, dtype, extreme):
    """A mean with weights that sum to one; in the values alone, and in queries and keys as far as the type reaches."""
    query, key, value = tokens(dimension)
    value = EXTREMES[extreme](value)
    for scale in (1.0, 10.0):
        found = attend(backend, dtype, [scale * query, scale * key, value], device).float()
        held = value.to(dtype).float()
        slack = BOUNDS[dtype] * held.abs().max()
        assert found.isfinite().all()
        assert found.min() >= held.min() - slack
        assert found.max() <= held.max() + slack


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("spoiled", [torch.nan, torch.inf, -torch.inf], ids=str)
def test_attention_keeps_a_spoiled_sample_to_itself(dimension, device, backend, dtype, spoiled):
    qkv = tokens(dimension)
    clean = attend(backend, dtype, qkv, device)
    for x in qkv:
        x[1] = spoiled
    found = attend(backend, dtype, qkv, device)
    for sample in (0, 2):
        torch.testing.assert_close(found[sample], clean[sample], rtol=0, atol=0)
    assert not found[1].isfinite().all()


def encoder(dimension: int):
    torch.manual_seed(0)
    return create_encoder(f"eyetoy{dimension}d_pico", in_channels=INPUT[dimension][0])


def inputs(dimension: int) -> Tensor:
    return torch.randn(3, *INPUT[dimension], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("spoiled", [torch.nan, torch.inf], ids=str)
def test_an_encoder_keeps_a_spoiled_sample_to_itself(dimension, device, spoiled, training):
    model, x = encoder(dimension).to(device).train(training), inputs(dimension).to(device)
    holed = x.clone()
    holed[1].flatten()[7] = spoiled
    clean, found = model(x), model(holed)
    for kind in (0, 1):
        for sample in (0, 2):
            torch.testing.assert_close(found[kind][sample], clean[kind][sample], rtol=0, atol=0)
    assert not found.context[1].isfinite().all()


@pytest.mark.parametrize("extreme", [name for name in EXTREMES if name != "one bright point"])
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_an_encoder_gives_numbers_whatever_it_is_given(dimension, device, extreme, dtype):
    model, x = encoder(dimension).to(device).eval(), EXTREMES[extreme](inputs(dimension)).to(device)
    with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
        features, context = model(x)
    assert features.isfinite().all()
    assert context.isfinite().all()


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.06), (torch.float16, 0.008)], ids=str)
def test_a_whole_encoder_in_low_precision_stays_near_float32(dimension, device, dtype, bound):
    """The bounds are of norms; twice of what was found."""
    model, x = encoder(dimension).to(device).eval(), inputs(dimension).to(device)
    exact = model(x)
    with torch.autocast(device, dtype=dtype):
        low = model(x)
    for found, expected in zip(low, exact, strict=True):
        assert (found.float() - expected).norm() <= bound * expected.norm()


def test_a_sample_does_not_depend_on_its_batch(dimension, device):
    model, x = encoder(dimension).to(device).eval(), inputs(dimension).to(device)
    together, alone = model(x), [model(x[i : i + 1]) for i in range(3)]
    for kind in (0, 1):
        torch.testing.assert_close(together[kind], torch.cat([out[kind] for out in alone]), rtol=1e-4, atol=1e-4)


def one_step(dimension: int, device: str, seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    model = create_model(f"eyetoy{dimension}d_pico", num_classes=3, in_channels=INPUT[dimension][0], drop_path=0.2)
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(model(inputs(dimension).to(device)), torch.arange(3, device=device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [parameter.detach().cpu() for parameter in model.parameters()]


def test_the_same_seed_gives_the_same_bits(dimension, device):
    first, again, other = (one_step(dimension, device, seed) for seed in (5, 5, 6))
    if device == "cpu":
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
