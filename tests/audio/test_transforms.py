"""Waveform transforms: lengths, levels, and where chance comes from."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eyetoy_audio.transforms import (
    LEVEL,
    Augment,
    Fit,
    add_noise,
    change_speed,
    fit_length,
    normalize_level,
    place,
)

STILL = {"speed": 0.0, "shift": 0.0, "noise_probability": 0.0, "gain": 0.0}


def rms(waveform: torch.Tensor) -> float:
    return float(waveform.double().square().mean().sqrt())


def decibels(ratio: float) -> float:
    return 20 * math.log10(ratio)


@given(length=st.integers(0, 300), samples=st.integers(1, 300))
def test_fit_length_keeps_the_center(length, samples):
    waveform = torch.arange(1.0, length + 1)[None]
    fitted = fit_length(waveform, samples)
    assert fitted.shape == (1, samples)
    kept = fitted[fitted > 0]
    assert len(kept) == min(length, samples)
    if length <= samples:
        before = (samples - length) // 2
        assert torch.equal(fitted[0, before : before + length], waveform[0])
    else:
        before = (length - samples) // 2
        assert torch.equal(fitted[0], waveform[0, before : before + samples])


@given(length=st.integers(0, 400), samples=st.integers(1, 200), seed=st.integers(0, 2**31))
def test_training_gives_the_asked_length_and_finite_samples(length, samples, seed):
    torch.manual_seed(seed)
    augmented = Augment(samples, noise_probability=1.0, speed=0.3, shift=0.5)(torch.randn(1, length))
    assert augmented.shape == (1, samples)
    assert augmented.dtype == torch.float32
    assert augmented.isfinite().all()


@given(length=st.integers(1, 200), samples=st.integers(1, 200), offset=st.integers(-150, 150))
def test_place_moves_by_the_offset(length, samples, offset):
    waveform = torch.arange(1.0, length + 1)[None]
    moved = place(waveform, samples, offset)
    assert moved.shape == (1, samples)
    heard = moved[0].nonzero().flatten()
    if len(heard):
        # What is left tells where the waveform starts; centered, it would start at (samples - length) / 2.
        start = int(heard[0]) - (int(moved[0, heard[0]]) - 1)
        assert abs(start - (samples - length) / 2 - offset) <= 0.5


@given(gain=st.floats(-50, 50))
def test_the_level_of_the_input_does_not_matter(gain):
    waveform = torch.sin(torch.arange(1000.0))[None]
    louder = Fit(1200)(waveform * 10 ** (gain / 20))
    assert rms(louder) == pytest.approx(LEVEL, rel=1e-4)
    assert torch.allclose(louder, Fit(1200)(waveform), atol=1e-6)


def test_silence_stays_silence_and_what_is_nearly_silent_stays_quiet():
    assert torch.equal(Fit(100)(torch.zeros(1, 40)), torch.zeros(1, 100))
    assert torch.equal(Fit(100)(torch.zeros(1, 0)), torch.zeros(1, 100))
    assert rms(normalize_level(torch.full((1, 100), 1e-8))) < 1e-4


def test_without_randomness_training_is_the_same_as_testing():
    waveform = torch.randn(1, 700)
    assert torch.allclose(Augment(1000, **STILL)(waveform), Fit(1000)(waveform))


@pytest.mark.parametrize("part", [{"speed": 0.2}, {"shift": 0.2}, {"noise_probability": 1.0}, {"gain": 6.0}])
def test_every_part_changes_the_waveform_and_follows_torchs_seed(part):
    waveform, augment = torch.sin(torch.arange(800.0) / 5)[None], Augment(1000, **{**STILL, **part})
    torch.manual_seed(1)
    first, second = augment(waveform), augment(waveform)
    torch.manual_seed(1)
    assert torch.equal(augment(waveform), first)
    assert not torch.allclose(second, first, atol=1e-4)
    assert not torch.allclose(first, Fit(1000)(waveform), atol=1e-4)


def test_the_input_is_left_as_it_is():
    waveform = torch.randn(1, 1000)
    before = waveform.clone()
    Augment(1000, noise_probability=1.0)(waveform)
    assert torch.equal(waveform, before)


def test_gain_is_drawn_from_the_whole_range_in_decibels():
    augment = Augment(500, **{**STILL, "gain": 6.0})
    waveform = torch.randn(1, 500)
    drawn = [decibels(rms(augment(waveform)) / LEVEL) for _ in range(200)]
    assert -6.01 < min(drawn) < -5
    assert 5 < max(drawn) < 6.01


def test_shift_is_drawn_from_the_whole_range_and_loses_nothing_that_fits():
    augment = Augment(1000, **{**STILL, "shift": 0.2})
    click = torch.zeros(1, 101)
    click[0, 50] = 1.0
    places = [int(augment(click).argmax()) for _ in range(200)]
    assert 299 <= min(places) < 320
    assert 680 < max(places) <= 701


def test_speed_changes_length_and_pitch_within_the_range():
    waveform = torch.sin(torch.arange(8000.0) * 2 * math.pi * 0.01)[None]  # 0.01 periods per sample
    for factor in (0.8, 1.0, 1.25):
        changed = change_speed(waveform, factor)
        assert changed.shape == (1, round(8000 / factor))
        crossings = (changed[0, :-1].signbit() != changed[0, 1:].signbit()).sum()
        assert crossings / changed.shape[1] == pytest.approx(0.02 * factor, rel=0.02)
    augment = Augment(20_000, **{**STILL, "speed": 0.25})
    lengths = [int((augment(torch.ones(1, 8000)) != 0).sum()) for _ in range(200)]
    assert 6399 <= min(lengths) < 6600
    assert 9700 < max(lengths) <= 10_001


@given(snr=st.floats(-20, 40), color=st.floats(0, 3), length=st.integers(1, 3000))
def test_noise_has_the_asked_power(snr, color, length):
    waveform = torch.ones(1, length, dtype=torch.float64)
    noise = add_noise(waveform, snr, color) - waveform
    assert decibels(1 / rms(noise)) == pytest.approx(snr, abs=0.01)


@pytest.mark.parametrize("color", [0.0, 1.0, 2.0])
def test_the_noises_power_falls_with_the_frequency_as_asked(color):
    torch.manual_seed(0)
    noise = add_noise(torch.zeros(1, 2**17), 0.0, color)
    power = torch.fft.rfft(noise[0].double()).abs().square()
    low, high = power[1000:2000].mean(), power[16_000:32_000].mean()
    assert math.log(low / high) / math.log(16) == pytest.approx(color, abs=0.05)


def test_noise_comes_as_often_as_asked():
    augment, waveform = Augment(50, **{**STILL, "noise_probability": 0.25}), torch.ones(1, 50)
    torch.manual_seed(0)
    noisy = sum(not torch.allclose(augment(waveform), Fit(50)(waveform), atol=1e-5) for _ in range(400))
    assert 70 < noisy < 130


@pytest.mark.parametrize("transform", [Fit(100), Augment(100)])
def test_transforms_can_be_sent_to_workers(transform):
    assert pickle.loads(pickle.dumps(transform)) == transform  # noqa: S301 (its own bytes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 0}, "samples is 0; it should be positive"),
        ({"samples": 9, "speed": -0.1}, "speed is -0.1"),
        ({"samples": 9, "shift": -1.0}, "shift is -1.0"),
        ({"samples": 9, "gain": -1.0}, "gain is -1.0"),
        ({"samples": 9, "noise_color": -1.0}, "noise_color is -1.0"),
        ({"samples": 9, "noise_probability": 1.5}, "noise_probability is 1.5; it should be from 0 to 1"),
        ({"samples": 9, "snr": (20.0, 10.0)}, r"snr is \(20.0, 10.0\)"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Augment(**values)


@pytest.mark.parametrize("shape", [(100,), (2, 100), (1, 1, 100)])
def test_other_shapes_are_refused(shape):
    for transform in (Fit(50), Augment(50)):
        with pytest.raises(ValueError, match=r"it should be \[1, samples\]"):
            transform(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"int64"):
        fit_length(torch.zeros(1, 4, dtype=torch.int64), 5)
