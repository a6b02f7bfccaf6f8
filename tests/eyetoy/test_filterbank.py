"""The learned filterbank against a plain computation, and the encoder behind it."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import numpy as np
import pytest
import torch

from eyetoy import create_encoder, encoder_params
from eyetoy.filterbank import Filterbank
from eyetoy.inspect.places import feature_places
from eyetoy.optim_groups import matrices
from eyetoy.params import EncoderParams, FilterbankParams, from_dict

SMALL = FilterbankParams(num_filters=12, sample_rate=4000)  # filters of 100 samples, every 10; a token every 40
BANK = {"num_filters": 12, "sample_rate": 4000}


def plain(x: np.ndarray, bank: Filterbank) -> np.ndarray:
    """The same in float64, a step and a token at a time: `[tokens, bands]` of `[samples]`."""
    size, step = bank.filter_size, bank.step
    filters = (bank.filters * bank.scale).detach().double().numpy()
    steps = -(-len(x) // step)
    around = np.concatenate([np.zeros((size - step + 1) // 2), x, np.zeros(size)])
    waves = np.stack([filters @ around[i * step : i * step + size] for i in range(steps)])
    energy = waves[:, :12] ** 2 + waves[:, 12:] ** 2
    weights = np.sin(np.pi * np.arange(1, 8) / 8) ** 2 / 4
    around = np.concatenate([np.zeros((2, 12)), energy, np.zeros((7, 12))])
    tokens = np.stack([weights @ around[4 * i : 4 * i + 7] for i in range(-(-steps // 4))])
    log = np.log(tokens.clip(tokens.max() * 1e-5))
    standardized: np.ndarray = (log - log.mean()) / np.sqrt(log.var() + 1e-5)
    return standardized


def sound(samples: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    return torch.randn(batch, samples, 1, generator=generator) * torch.linspace(0.01, 1, samples)[:, None]


@pytest.mark.parametrize("samples", [1, 9, 40, 41, 399, 400, 1000])
def test_tokens_are_those_of_a_plain_computation(samples: int) -> None:
    bank, x = Filterbank(SMALL), sound(samples)
    expected = torch.from_numpy(plain(x[0, :, 0].double().numpy(), bank)).float()
    torch.testing.assert_close(bank(x)[0], expected, atol=2e-3, rtol=1e-3)


def test_a_tone_is_loudest_in_its_own_band() -> None:
    params = FilterbankParams()
    bank, mels = Filterbank(params), np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 66)[1:-1]
    time = torch.arange(8000, dtype=torch.float64) / 16_000
    for band in (3, 20, 40, 63):
        hertz = 700 * (10 ** (mels[band] / 2595) - 1)
        tone = (2 * torch.pi * hertz * time).cos().float()
        assert bank(tone[None, :, None])[0].mean(0).argmax() == band


@torch.no_grad()
def test_a_gain_and_a_sign_change_nothing_and_silence_is_zeros() -> None:
    bank, x = Filterbank(SMALL), sound(700, batch=2)
    torch.testing.assert_close(bank(-100 * x), bank(x), atol=1e-4, rtol=1e-4)
    assert not bank(torch.zeros(1, 700, 1)).any()


@torch.no_grad()
def test_a_clip_gets_what_it_gets_alone() -> None:
    encoder = create_encoder("eyetoy1d_pico", filterbank=BANK).eval()
    lengths = torch.tensor([1, 1000, 39, 40, 641])
    x = sound(1000, batch=5).mT.clone()
    for row, length in zip(x, lengths, strict=True):
        row[:, length:] = torch.nan
    features, context = encoder(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(x[row : row + 1, :, :length])
        tokens = alone.features.shape[-1]
        assert (tokens,) == encoder.params.out_grid((length,))
        torch.testing.assert_close(context[row], alone.context[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(features[row, :, :tokens], alone.features[0], atol=1e-4, rtol=1e-4)


def test_filters_learn_and_are_no_matrix_for_decay_or_muon() -> None:
    encoder = create_encoder("eyetoy1d_pico", filterbank=BANK)
    encoder(sound(500, batch=2).mT).context.sum().backward()
    filters = encoder.initial_proj.filterbank.filters  # type: ignore[union-attr]
    assert filters.grad is not None
    assert filters.grad.isfinite().all()
    assert filters.grad.any(1).all()
    assert filters not in matrices(encoder)


def test_a_token_lies_where_it_hears_a_click() -> None:
    encoder = create_encoder("eyetoy1d_pico", filterbank=BANK)
    bank, places = encoder.initial_proj.filterbank, feature_places(encoder, 0)
    assert bank is not None
    x = torch.zeros(1, 1000)
    x[0, 480] = 1
    with torch.no_grad():
        heard = bank._energy(x, None)[0].sum(1)
    center = float((heard * torch.arange(len(heard))).sum() / heard.sum())
    assert places.first[0] + places.step[0] * center == pytest.approx(480, abs=5)


def test_parameters_survive_json_and_older_ones_have_no_filterbank() -> None:
    params = encoder_params("eyetoy1d_pico", filterbank=BANK, stem_strides=[2])
    assert (params.filterbank, params.stage_reductions) == (SMALL, ((80,), (160,)))
    written = json.loads(json.dumps(dataclasses.asdict(params)))
    assert from_dict(EncoderParams, written) == params
    del written["filterbank"]
    assert from_dict(EncoderParams, written).filterbank is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("eyetoy1d_pico", {"in_channels": 2, "filterbank": {}}, "num_spatial_dims=1, in_channels=2"),
        ("eyetoy2d_pico", {"filterbank": {}}, "num_spatial_dims=2, in_channels=3"),
        ("eyetoy1d_pico", {"filterbank": {"num_filters": 0}}, "num_filters must be at least 1; got 0"),
        ("eyetoy1d_pico", {"filterbank": {"range_db": 0.0}}, "range_db must be above 0; got 0.0"),
        ("eyetoy1d_pico", {"filterbank": {"window_ms": 2.0}}, "filters of 32 samples every 40"),
        (
            "eyetoy1d_pico",
            {"filterbank": {"sample_rate": 100}},
            "hop_ms=10.0 at 100 Hz are filters of 2 samples every 0",
        ),
    ],
)
def test_what_holds_no_waveform_or_no_samples_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        encoder_params(name, **options)
