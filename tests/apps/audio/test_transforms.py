"""Waveform transforms: lengths, levels, and where chance comes from."""

from __future__ import annotations

import math
import pickle  # noqa: TID251 (its own bytes)

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torchaudio.functional import add_noise as torchaudio_add_noise
from torchaudio.functional import fftconvolve

from eyetoy_audio.transforms.augmentation import (
    Augment,
    add_background,
    add_noise,
    change_speed,
    change_tempo,
    equalize,
    excerpt,
    fast_size,
    mixup,
    place,
    recorded_response,
    reverberate,
    synthetic_response,
)
from eyetoy_audio.transforms.waveform import LEVEL, Fit, fit_length, normalize_level

STILL = {"speed": 0.0, "shift": 0.0, "noise_probability": 0.0, "gain": 0.0}
ROOM = {"reverberation_probability": 1.0}


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


@pytest.mark.parametrize(
    "part",
    [
        {"speed": 0.2},
        {"tempo": 0.5, "sample_rate": 4000},
        {"shift": 0.2},
        {"equalizer": 6.0},
        {"noise_probability": 1.0},
        {"gain": 6.0},
        ROOM,
    ],
)
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


def test_tempo_changes_length_and_neither_pitch_nor_level():
    tone = torch.sin(torch.arange(8000.0) * 2 * math.pi * 0.0257)[None]  # 0.0257 periods per sample
    for factor in (0.7, 1.0, 1.4):
        changed = change_tempo(tone, factor, 8000)
        assert changed.shape == (1, round(8000 / factor))
        spectrum = torch.fft.rfft(changed * torch.hann_window(changed.shape[-1])).abs()
        assert float(spectrum.argmax()) / changed.shape[-1] == pytest.approx(0.0257, abs=2e-4)
        loudest = changed[0, :-240].unfold(0, 80, 80).abs().amax(1)  # no gap and no sum between frames
        assert loudest.min() > 0.97
        assert loudest.max() < 1.01
    bursts = torch.zeros(1, 8000)
    bursts[0, 2000:2200] = bursts[0, 6000:6200] = 1.0
    loud = change_tempo(bursts, 0.5, 8000)[0].nonzero().flatten()
    assert (int(loud[0]), int(loud[-1])) == (pytest.approx(4000, abs=200), pytest.approx(12_400, abs=200))


@given(length=st.integers(0, 2000), factor=st.floats(0.5, 2), rate=st.sampled_from([50, 8000, 16_000]))
def test_any_clip_has_a_tempo(length, factor, rate):
    clip = torch.ones(1, length)
    changed = change_tempo(clip, factor, rate)
    assert changed.shape[-1] in (length, round(length / factor))
    assert changed.isfinite().all()


def test_a_margin_is_silence_around_a_whole_clip_and_never_more_than_fits():
    clip, starts, lengths = torch.ones(1, 600), set(), set()
    for _ in range(300):
        augmented = Augment(1000, pads=False, margin=0.3, **STILL)(clip)
        heard = augmented[0].nonzero().flatten()
        assert len(heard) == 600 == int(heard[-1] - heard[0]) + 1
        starts.add(int(heard[0]))
        lengths.add(augmented.shape[-1])
    assert (min(starts), min(lengths)) == (0, 600) or max(min(starts), min(lengths) - 600) < 10
    assert 880 < max(lengths) <= 900
    assert 200 < max(starts) <= 300
    assert Augment(650, pads=False, margin=1.0, **STILL)(clip).shape[-1] <= 650
    assert Augment(500, pads=False, margin=1.0, **STILL)(clip).shape[-1] == 500


def test_an_equalizer_is_linear_in_decibels_over_octaves():
    gains, time = torch.tensor([0.0, 6.0, 12.0, 18.0]), torch.arange(8000.0) / 8000
    for hertz, expected in ((3990, 0), (2000, 6), (1000 * 2**0.5, 9), (1000, 12), (500, 18), (100, 18)):
        tone = (2 * torch.pi * hertz * time).cos()[None]
        middle = equalize(tone, gains)[:, 1000:-1000]
        assert decibels(rms(middle) / rms(tone[:, 1000:-1000])) == pytest.approx(expected, abs=0.05)
    assert equalize(tone.double(), gains).dtype == torch.float64
    click = torch.zeros(1, 999)
    click[0, 2] = 1.0
    torch.testing.assert_close(equalize(click, torch.zeros(7)), click, atol=1e-6, rtol=0)
    assert not equalize(click, gains)[0, 500:].abs().gt(1e-3).any()  # what comes before the start is not at the end


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


@given(samples=st.integers(1, 10**7))
@example(samples=13)
@example(samples=41)
def test_a_fast_size_has_small_factors_and_is_little_larger(samples):
    size = fast_size(samples)
    assert samples <= size <= max(1.13 * samples, samples + 7)  # few sizes below 50 have such factors: 48 after 41
    assert size % 2 == 0
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    assert size == 1


@pytest.mark.parametrize("length", [2**17, 2**17 - 1])  # the latter is prime
@pytest.mark.parametrize("color", [0.0, 1.0, 2.0])
def test_the_noises_power_falls_with_the_frequency_as_asked(color, length):
    torch.manual_seed(0)
    noise = add_noise(torch.zeros(1, length), 0.0, color)
    power = torch.fft.rfft(noise[0].double()).abs().square()
    low, high = power[1000:2000].mean(), power[16_000:32_000].mean()
    assert math.log(low / high) / math.log(16) == pytest.approx(color, abs=0.05)


def test_noise_comes_as_often_as_asked():
    augment, waveform = Augment(50, **{**STILL, "noise_probability": 0.25}), torch.ones(1, 50)
    torch.manual_seed(0)
    noisy = sum(not torch.allclose(augment(waveform), Fit(50)(waveform), atol=1e-5) for _ in range(400))
    assert 70 < noisy < 130


def write(path, samples) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    return str(path.parent)


def response_of(samples: int = 16_000, **values) -> torch.Tensor:
    """What a click becomes in a random room."""
    click = torch.zeros(1, samples)
    click[0, 100] = 1.0
    heard = Augment(samples, **STILL, **ROOM, **values)(click)[0, 100:]
    return heard / heard[0]


def test_a_made_up_room_dies_away_in_the_asked_time_after_the_direct_sound():
    torch.manual_seed(0)
    for rt60, direct_ratio in ((0.2, 0.0), (0.5, 10.0), (1.0, -5.0)):
        response = synthetic_response(16_000, rt60, direct_ratio)[0]
        assert response[0] == 1
        assert len(response) == round(16_000 * rt60) + 1
        assert 10 * math.log10(1 / response[1:].square().sum()) == pytest.approx(direct_ratio, abs=0.01)
        # Energy from a time on (Schroeder, 1965): a straight line in dB.
        left = response[1:].double().square().flip(0).cumsum(0).flip(0).log10() * 10
        fifth = len(left) // 5
        assert float(left[fifth] - left[3 * fifth]) == pytest.approx(2 * 60 / 5, abs=2)


def test_a_room_is_a_convolution_that_keeps_length_level_and_place():
    for samples, length in ((1000, 300), (1000, 4000), (1, 5), (7, 1)):
        waveform, response = torch.randn(1, samples).double(), torch.randn(1, length).double()
        expected = torch.from_numpy(np.convolve(waveform[0], response[0])[:samples])
        heard = reverberate(waveform, response)
        assert heard.shape == (1, samples)
        torch.testing.assert_close(heard[0] / rms(heard), expected / rms(expected))
        assert rms(heard) == pytest.approx(rms(waveform))


def test_torchaudio_agrees_on_rooms_and_backgrounds():
    waveform, other = torch.randn(1, 700), torch.randn(1, 300)
    wet = fftconvolve(waveform, other)[:, :700]
    torch.testing.assert_close(reverberate(waveform, other), wet * (rms(waveform) / rms(wet)))
    recording, snr = 0.1 * torch.randn(1, 700), 7.5  # of the same length, so that the excerpt is all of it
    found = add_background(waveform, recording, snr)
    torch.testing.assert_close(found, torchaudio_add_noise(waveform, recording, torch.tensor([snr])))


def test_rooms_are_drawn_from_the_whole_range():
    torch.manual_seed(0)
    heard = [response_of(rt60=(0.1, 0.5), direct_ratio=(0.0, 15.0)) for _ in range(60)]
    ratios = [-10 * math.log10(response[1:].square().sum()) for response in heard]
    assert -0.1 < min(ratios) < 1.5
    assert 13.5 < max(ratios) < 15.1
    lengths = [int((response.abs() > 1e-6).nonzero()[-1]) / 16_000 for response in heard]
    assert 0.095 < min(lengths) < 0.14
    assert 0.46 < max(lengths) < 0.51


def test_measured_rooms_begin_with_their_loudest_sample(tmp_path):
    measured = 0.01 * np.random.default_rng(0).standard_normal(4000)
    measured[500], measured[700] = -0.9, 0.4
    folder = write(tmp_path / "rooms" / "hall" / "a.wav", measured)
    expected = torch.from_numpy(measured[500:]).float()
    torch.testing.assert_close(recorded_response(tmp_path / "rooms", 16_000)[0], expected)
    torch.testing.assert_close(response_of(response_folder=folder)[:3500], expected / -0.9, atol=1e-5, rtol=1e-4)
    write(tmp_path / "silent" / "b.wav", np.zeros(10))
    with pytest.raises(ValueError, match="b.wav is silent; it should be a room's impulse response"):
        recorded_response(tmp_path / "silent", 16_000)


@given(snr=st.floats(-20, 40), length=st.integers(1, 300), samples=st.integers(1, 300))
def test_a_background_has_the_asked_power(snr, length, samples):
    waveform, recording = torch.ones(1, samples).double(), 0.01 + torch.rand(1, length).double()
    assert decibels(1 / rms(add_background(waveform, recording, snr) - waveform)) == pytest.approx(snr, abs=0.01)


@given(length=st.integers(1, 30), samples=st.integers(1, 30))
def test_an_excerpt_is_a_piece_of_the_recording_or_goes_round(length, samples):
    found = excerpt(torch.arange(float(length))[None], samples)[0].long()
    assert len(found) == samples
    if samples > length:
        assert torch.equal((found[0] + torch.arange(samples)) % length, found)
    else:
        assert torch.equal(found[0] + torch.arange(samples), found)


def test_every_excerpt_and_every_recording_is_drawn(tmp_path):
    starts = {int(excerpt(torch.arange(10.0)[None], 7)[0, 0]) for _ in range(100)}
    assert starts == {0, 1, 2, 3}
    assert {int(excerpt(torch.arange(4.0)[None], 7)[0, 0]) for _ in range(100)} == starts
    folder = write(tmp_path / "a.wav", np.full(100, 0.5))
    write(tmp_path / "deeper" / "b.flac.wav", np.full(100, -0.5))
    (tmp_path / "README.txt").write_text("Not a sound.")
    augment = Augment(50, **STILL, background_probability=0.5, background_folder=folder, background_snr=(0.0, 0.0))
    waveform = torch.ones(1, 50)
    waveform[0, ::2] = -1  # a constant is not heard in it
    means = {round(float(augment(waveform).mean() / LEVEL), 2) for _ in range(60)}
    assert means == {0.0, 0.71, -0.71}


def test_recordings_are_needed_where_they_are_asked_for(tmp_path):
    with pytest.raises(ValueError, match="background_folder is None; it should be a folder where background_prob"):
        Augment(50, background_probability=0.5)
    for options in (
        {"background_probability": 1.0, "background_folder": str(tmp_path)},
        ROOM | {"response_folder": str(tmp_path)},
    ):
        with pytest.raises(FileNotFoundError, match=f"found no sound file in {tmp_path}; it should hold"):
            Augment(50, **options)(torch.ones(1, 50))


def test_everything_at_once_is_finite_for_silence_and_not_clipped_for_a_click(tmp_path):
    everything = {
        "noise_probability": 1.0,
        "background_probability": 1.0,
        "background_folder": write(tmp_path / "a.wav", np.zeros(99)),
    }
    augment = Augment(4000, **ROOM, **everything)
    click = torch.zeros(1, 4000)
    click[0, 2000] = 1.0
    for waveform in (
        torch.zeros(1, 4000),
        torch.zeros(1, 0),
        torch.full((1, 100), 1e-30),
        click,
        1e6 * torch.randn(1, 9000),
    ):
        assert augment(waveform).isfinite().all()
    assert not reverberate(torch.zeros(1, 100), torch.ones(1, 5)).any()
    assert not add_background(torch.zeros(1, 100), torch.zeros(1, 5), 0.0).any()
    loud = Augment(4000, **{**STILL, "gain": 0.0}, **ROOM)(click)
    assert loud.max() > 1.5
    assert rms(loud) == pytest.approx(LEVEL, rel=1e-4)


def test_a_random_crop_is_from_anywhere_and_short_waveforms_are_shifted_as_ever():
    crop, samples = Augment(50, **STILL, random_crop=True), torch.arange(1.0, 61.0)[None]
    starts = {
        round(float(cropped[0, 0] / (cropped[0, 1] - cropped[0, 0]))) - 1
        for cropped in (crop(samples) for _ in range(200))
    }
    assert starts == set(range(11))
    for waveform in (torch.randn(1, 50), torch.randn(1, 20)):
        drawn = []
        for random_crop in (False, True):
            torch.manual_seed(0)
            drawn.append(Augment(50, random_crop=random_crop)(waveform))
        assert torch.equal(*drawn)


def draw(least: float, largest: float) -> float:
    return float(torch.empty(()).uniform_(least, largest))


@pytest.mark.parametrize("noise_probability", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("length", [900, 1500])
def test_what_is_off_draws_nothing_and_results_that_were_reported_stay(noise_probability, length):
    waveform = torch.randn(1, length)
    for seed in range(5):
        torch.manual_seed(seed)
        found, following = Augment(1000, noise_probability=noise_probability)(waveform), draw(0, 1)
        torch.manual_seed(seed)
        expected = change_speed(waveform, 1.1 ** draw(-1, 1))
        expected = place(expected, 1000, round(100 * draw(-1, 1)))
        if draw(0, 1) < noise_probability:
            expected = add_noise(expected, draw(10, 40), draw(0, 2))
        expected = normalize_level(expected) * 10 ** (draw(-6, 6) / 20)
        assert torch.equal(found, expected)
        assert draw(0, 1) == following


@pytest.mark.parametrize("shape", [(1, 100), (3, 8, 8)])
def test_mixup_mixes_inputs_and_targets_in_the_same_shares(device, shape):
    torch.manual_seed(0)
    x = torch.eye(6, device=device).view(6, 6, *[1] * len(shape)).expand(6, 6, *shape)  # tells who is in it
    labels = torch.tensor([0, 1, 2, 3, 4, 5], device=device)
    mixed, probability, _ = mixup(x, labels, alpha=0.5, num_classes=7)
    assert mixed.shape == x.shape
    assert probability.shape == (6, 7)
    torch.testing.assert_close(mixed.flatten(2)[..., 0], probability[:, :6])
    torch.testing.assert_close(probability.sum(1), torch.ones(6, device=device))
    torch.testing.assert_close(probability.sum(0)[:6], torch.ones(6, device=device))  # each is a partner once
    hot = torch.nn.functional.one_hot(labels, 7)
    torch.manual_seed(0)
    assert torch.equal(mixup(x, hot, alpha=0.5, num_classes=7)[1], probability)


def test_shares_of_mixup_are_of_the_beta_distribution_and_partners_vary():
    torch.manual_seed(0)
    x = torch.tensor([[0.0], [1.0]])
    mixed = torch.stack([mixup(x, torch.tensor([0, 1]), alpha=0.4, num_classes=2)[0] for _ in range(2000)])
    shares = mixed[mixed[:, 0, 0] != 0][:, 0, 0]
    assert 0.4 < len(shares) / 2000 < 0.6  # else each is its own partner
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.01)
    with pytest.raises(ValueError, match="alpha is 0; it should be positive"):
        mixup(x, torch.tensor([0, 1]), alpha=0, num_classes=2)


@pytest.mark.parametrize("transform", [Fit(100), Augment(100), Augment(100, **ROOM, rt60=(0.2, 0.3))])
def test_transforms_can_be_sent_to_workers(transform):
    assert pickle.loads(pickle.dumps(transform)) == transform  # noqa: S301 (its own bytes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 0}, "samples is 0; it should be positive"),
        ({"samples": 9, "speed": -0.1}, "speed is -0.1"),
        ({"samples": 9, "shift": -1.0}, "shift is -1.0"),
        ({"samples": 9, "gain": -1.0}, "gain is -1.0"),
        ({"samples": 9, "tempo": -0.5}, "tempo is -0.5"),
        ({"samples": 9, "margin": -0.1}, "margin is -0.1"),
        ({"samples": 9, "equalizer": -3.0}, "equalizer is -3.0"),
        ({"samples": 9, "noise_color": -1.0}, "noise_color is -1.0"),
        ({"samples": 9, "noise_probability": 1.5}, "noise_probability is 1.5; it should be from 0 to 1"),
        ({"samples": 9, "snr": (20.0, 10.0)}, r"snr is \(20.0, 10.0\)"),
        ({"samples": 9, "background_snr": (20.0, 10.0)}, r"background_snr is \(20.0, 10.0\)"),
        ({"samples": 9, "direct_ratio": (2.0, 1.0)}, r"direct_ratio is \(2.0, 1.0\); it should be the least, then"),
        ({"samples": 9, "rt60": (0.0, 1.0)}, r"rt60 is \(0.0, 1.0\); it should be positive"),
        ({"samples": 9, "reverberation_probability": -0.5}, "reverberation_probability is -0.5"),
        ({"samples": 9, "background_probability": 2.0}, "background_probability is 2.0"),
        ({"samples": 9, "sample_rate": 0}, "sample_rate is 0; it should be positive"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Augment(**values)


def test_a_room_without_samples_is_refused():
    with pytest.raises(ValueError, match="rt60 is 1e-06; it should be at least one sample, 6.3e-05 seconds"):
        synthetic_response(16_000, 1e-6, 0.0)


@pytest.mark.parametrize("shape", [(100,), (2, 100), (1, 1, 100)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"recording is .*; it should be \[1, samples\]"):
        add_background(torch.zeros(1, 9), torch.zeros(shape), 0.0)
    with pytest.raises(ValueError, match=r"response is .*; it should be \[1, samples\]"):
        reverberate(torch.zeros(1, 9), torch.zeros(shape))
    for transform in (Fit(50), Augment(50)):
        with pytest.raises(ValueError, match=r"it should be \[1, samples\]"):
            transform(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"int64"):
        fit_length(torch.zeros(1, 4, dtype=torch.int64), 5)
