"""Log-mel spectrograms against a plain computation, and SpecAugment's masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchaudio.transforms import MelSpectrogram

from eyetoy_audio.transforms.features import LogMel, SpecAugment
from eyetoy_train.utils.seeds import uniforms

ONE_FREQUENCY_MASK = {"frequency_masks": 1, "frequency_width": 6, "time_masks": 0}
ONE_TIME_MASK = {"frequency_masks": 0, "time_masks": 1, "time_width": 9, "time_share": 1.0}


def plain_log_mel(
    samples: np.ndarray, rate: int, bands: int, window: int, hop: int, decibels: float = 80
) -> np.ndarray:
    """The same in float64, a frame and a band at a time."""
    points = 2 ** math.ceil(math.log2(window))
    hann = np.sin(np.pi * np.arange(window) / window) ** 2
    frames = [samples[start : start + window] * hann for start in range(0, len(samples) - window + 1, hop)]
    power = np.abs(np.fft.rfft(frames, n=points)) ** 2
    hertz = np.arange(points // 2 + 1) * rate / points
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2) / 2595) - 1)
    energy = np.empty((bands, len(frames)))
    for band, (low, middle, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        triangle = np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)).clip(0)
        energy[band] = power @ triangle
    log = np.log(energy.clip(energy.max() * 10 ** (-decibels / 10)))
    return (log - log.mean()) / np.sqrt(log.var() + 1e-5)


def sound(samples: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """Noise that grows louder, from low to high."""
    noise = torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(seed))
    return noise.cumsum(-1) * torch.linspace(0, 1, samples) + 0.1 * noise


@pytest.mark.parametrize(
    ("rate", "options", "window", "hop"),
    [
        (16_000, {}, 400, 160),
        (8_000, {}, 200, 80),
        (16_000, {"num_bands": 40, "window_ms": 32.0, "hop_ms": 16.0}, 512, 256),
        (22_050, {"num_bands": 80}, 551, 220),
        (8_000, {"range_db": 20.0}, 200, 80),
    ],
)
def test_the_spectrogram_is_that_of_a_plain_computation(device, rate, options, window, hop):
    x = sound(rate // 2)
    found = LogMel(rate, **options).to(device)(x.to(device))[0].cpu()
    bands, decibels = options.get("num_bands", 64), options.get("range_db", 80)
    expected = plain_log_mel(x[0, 0].double().numpy(), rate, bands, window, hop, decibels)
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), atol=2e-3, rtol=0)


def test_a_large_batch_gives_each_clip_the_spectrogram_that_it_has_alone(device):
    log_mel, x = LogMel(16_000).to(device), torch.randn(13, 1, 16_000, device=device)
    torch.testing.assert_close(log_mel(x), torch.cat([log_mel(clip[None]) for clip in x]))


def test_torchaudio_gives_the_same_where_its_frames_are_moved_to_ours():
    """Its windows lie in the middle of a frame of 512 samples: padding moves the first one to the first sample."""
    x = sound(8000)[:, 0]
    spectrogram = MelSpectrogram(16_000, 512, 400, 160, n_mels=64, center=False)
    energy = spectrogram(torch.nn.functional.pad(x, (56, 56)))
    log = energy.clamp_min(float(energy.max()) * 1e-8).log()
    expected = (log - log.mean()) / (log.var(unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(LogMel(16_000)(x[:, None]), expected, atol=1e-3, rtol=0)


def test_a_tone_is_loudest_in_the_band_that_holds_it():
    for hertz in (500, 1500, 3000, 6000):
        spectrogram = LogMel(16_000)(torch.sin(2 * math.pi * hertz * torch.arange(8000.0) / 16_000)[None, None])
        band = 2595 * math.log10(1 + hertz / 700) / (2595 * math.log10(1 + 8000 / 700)) * 65 - 1
        assert abs(int(spectrogram[0].mean(-1).argmax()) - band) <= 1


@given(samples=st.integers(1, 3000))
def test_frames_are_counted_as_they_come(samples):
    log_mel = LogMel(8000, num_bands=8)
    assert log_mel(torch.randn(1, 1, samples)).shape == (1, 8, int(log_mel.num_frames(torch.tensor(samples))))


def test_a_second_gives_98_frames():
    lengths = torch.tensor([[1, 400, 559], [560, 16_000, 160_000]])
    assert LogMel(16_000).num_frames(lengths).tolist() == [[1, 1, 1], [2, 98, 998]]


@pytest.mark.parametrize("padding", [0.0, 3.0, math.nan])
def test_padding_changes_nothing(device, padding):
    log_mel, lengths = LogMel(16_000).to(device), torch.tensor([8000, 7999, 3, 399, 5121], device=device)
    x = sound(8000, batch=5).to(device)
    x[4, 0, 5121 - 80 : 5121] = 1e6  # which no frame hears: a fault would raise what is quiet to 80 dB below it
    for clip, length in zip(x, lengths, strict=True):
        clip[:, length:] = padding
    together = log_mel(x, lengths)
    for clip, spectrogram, length in zip(x, together, lengths, strict=True):
        alone = log_mel(clip[None, :, :length])[0]
        assert alone.shape[1] == int(log_mel.num_frames(length))
        torch.testing.assert_close(spectrogram[:, : alone.shape[1]], alone, atol=1e-4, rtol=1e-4)
        assert not spectrogram[:, alone.shape[1] :].any()


def test_mean_and_variance_are_those_of_each_clip_and_the_level_does_not_matter(device):
    log_mel, x = LogMel(16_000).to(device), sound(8000, batch=3).to(device)
    spectrograms = log_mel(x)
    torch.testing.assert_close(spectrograms.mean((1, 2)), torch.zeros(3, device=device), atol=1e-4, rtol=0)
    torch.testing.assert_close(spectrograms.var((1, 2)), torch.ones(3, device=device), atol=1e-3, rtol=0)
    gains = torch.tensor([1e-3, 1.0, 1e3], device=device).view(3, 1, 1)
    torch.testing.assert_close(log_mel(x * gains), spectrograms, atol=1e-3, rtol=0)


def test_silence_is_finite(device):
    x = torch.zeros(2, 1, 4000, device=device)
    x[1, 0, 2000] = 1e-3
    silence, click = LogMel(16_000).to(device)(x)
    assert float(silence.abs().max()) < 0.01
    assert click.isfinite().all()
    assert float(click.abs().max()) < 10


def test_gradients_of_silence_are_finite():
    x = torch.zeros(1, 1, 4000, requires_grad=True)
    LogMel(16_000)(x).square().sum().backward()
    assert x.grad.isfinite().all()


def test_mixed_precision_changes_nothing(device):
    log_mel, x = LogMel(16_000).to(device), sound(4000).to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        found = log_mel(x)
    assert torch.equal(found, log_mel(x))


def test_nothing_is_saved_with_a_model():
    assert not LogMel(16_000).state_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "windows of 0 and hops of 0 samples; they should be at least 1, 2 and 1"),
        ((16_000, 0), "num_bands is 0"),
        ((16_000, 64, 25.0, 0.01), "hops of 0"),
        ((16_000, 64, 0.05), "windows of 1"),
    ],
)
def test_windows_without_samples_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LogMel(*arguments)


@pytest.mark.parametrize("shape", [(100,), (2, 100), (2, 2, 100)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"it should be \[batch, 1, samples\]"):
        LogMel(16_000)(torch.zeros(shape))


def seeds(device, count: int = 300) -> torch.Tensor:
    return torch.arange(count, device=device) * 7919


def masked(spec_augment: SpecAugment, device, count: int = 300, num_frames: torch.Tensor | None = None) -> torch.Tensor:
    return spec_augment(torch.ones(count, 24, 40, device=device), seeds(device, count), num_frames) == 0


def test_masks_are_whole_rows_and_columns_as_drawn(device):
    found = masked(SpecAugment(frequency_width=6, time_width=9, time_share=0.2), device, count=50).cpu()
    for mask, draws in zip(found, uniforms(seeds("cpu", 50), 8).view(50, 4, 2).tolist(), strict=True):
        expected = torch.zeros(24, 40, dtype=torch.bool)
        for k, (wide, place) in enumerate(draws):
            width = int(wide * (7 if k < 2 else 9))  # up to 6 bands, and up to 0.2 * 40 = 8 frames
            start = int(place * ((24 if k < 2 else 40) - width + 1))
            (expected if k < 2 else expected.T)[start : start + width] = True
        assert torch.equal(mask, expected)


def test_masks_depend_on_the_seed_of_a_clip_alone(device):
    spec_augment, x = SpecAugment(), torch.randn(16, 24, 40, device=device)
    whole = spec_augment(x, seeds(device, 16))
    assert torch.equal(spec_augment(x[5:9], seeds(device, 16)[5:9]), whole[5:9])
    assert len({tuple(mask.flatten().tolist()) for mask in masked(spec_augment, device, 16)}) > 12
    assert torch.equal(whole[whole != 0], x[whole != 0])


@pytest.mark.parametrize(("options", "axis", "widest"), [(ONE_FREQUENCY_MASK, 1, 6), (ONE_TIME_MASK, 0, 9)])
def test_every_width_is_as_likely_and_every_place_is_reached(device, options, axis, widest):
    stripes = masked(SpecAugment(**options), device, count=2000).all(1 + axis).cpu()  # [clips, places]
    counts = torch.bincount(stripes.sum(1), minlength=widest + 1)
    assert len(counts) == widest + 1
    assert 0.7 < float(counts.min() * (widest + 1) / 2000) <= float(counts.max() * (widest + 1) / 2000) < 1.3
    assert stripes.any(0).all()
    assert int((stripes[:, 1:] & ~stripes[:, :-1]).sum(1).max()) == 1  # in one piece


def test_masks_lie_in_the_frames_of_a_clip_and_hide_at_most_the_asked_share(device):
    num_frames = (torch.arange(300, device=device) % 40) + 1
    spec_augment = SpecAugment(frequency_masks=0, time_masks=1, time_width=100, time_share=0.5)
    times = masked(spec_augment, device, num_frames=num_frames).any(1)
    assert not (times & (torch.arange(40, device=device) >= num_frames[:, None])).any()
    assert (times.sum(1) <= num_frames // 2).all()
    assert times[:, :30].any(0).all()


def test_masks_may_be_as_wide_as_the_spectrogram_and_none_at_all(device):
    whole = masked(SpecAugment(frequency_masks=1, frequency_width=99, time_masks=0), device).all(2).all(1)
    assert 0 < int(whole.sum()) < 40  # of 300 clips one of 25 widths
    assert not masked(SpecAugment(frequency_masks=0, time_masks=0), device).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frequency_masks": -1}, "frequency_masks is -1; it should be zero or more"),
        ({"time_width": -2}, "time_width is -2"),
        ({"time_share": 1.5}, "time_share is 1.5; it should be from 0 to 1"),
    ],
)
def test_masks_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SpecAugment(**options)
