"""Reading sound files: what comes out of whole ones, and how those that cannot be used are refused."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from eyetoy_audio.io import files
from eyetoy_audio.io.files import EXTENSIONS, UnreadableSoundError, read_sound, read_sound_bytes
from eyetoy_audio.transforms.augmentation import Augment
from eyetoy_audio.transforms.waveform import fit_length, normalize_level
from eyetoy_train.media import sound

RATE = 16_000


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def encode(samples, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def wav(samples: bytes, *, announced: int | None = None, rate: int = RATE, channels: int = 1) -> bytes:
    """16-bit samples with a header that says what it is told to."""
    size = len(samples) if announced is None else announced
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * rate * channels % 2**32, 2 * channels, 16)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + form + b"data" + struct.pack("<I", size) + samples


def read(content: bytes, name: str = "a.wav") -> torch.Tensor:
    return read_sound_bytes(content, name, RATE)


def refused(content: bytes, name: str, message: str) -> None:
    with pytest.raises(UnreadableSoundError, match=message) as raised:
        read(content, name)
    assert str(raised.value).startswith(f"{name}: ")
    assert "; " in str(raised.value)  # what is wrong; what would be right


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_U8", 2**-7),
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_32", 1e-7),
        ("a.wav", "FLOAT", 1e-7),
        ("a.wav", "DOUBLE", 1e-7),
        ("a.wav", "ALAW", 2**-6),
        ("a.wav", "ULAW", 2**-6),
        ("A.WAV", "PCM_16", 2**-15),
        ("a.flac", "PCM_16", 2**-15),
        ("a.flac", "PCM_24", 2**-23),
        ("a.aiff", "PCM_16", 2**-15),
    ],
)
def test_files_of_samples_give_them_back(tmp_path, name, subtype, error):
    soundfile.write(tmp_path / name, tone(), RATE, subtype=subtype)
    waveform = read_sound(tmp_path / name, RATE)
    assert waveform.dtype == torch.float32
    assert waveform.shape == (1, RATE // 2)
    assert (waveform[0] - torch.from_numpy(tone())).abs().max() <= 1.01 * error


def test_another_rate_is_resampled_without_aliases():
    content = encode(tone(0.5, 96_000) + tone(0.5, 96_000, hertz=20_000), 96_000, subtype="FLOAT")
    waveform = read(content)
    assert waveform.shape == (1, RATE // 2)
    # The inaudible 20 kHz must not fold down to 4 kHz; the ends of the filter are left out.
    assert (waveform[0] - torch.from_numpy(tone()))[200:-200].abs().max() < 0.01


@pytest.mark.parametrize("rate", [7_000, 8_000, 11_025, 11_127, 22_255, 44_100, 44_101, 383_999, 384_000])
def test_a_tone_of_any_rate_stays_the_same_tone(rate):
    waveform = read(encode(tone(0.5, rate), rate, subtype="FLOAT"))
    assert waveform.shape[1] == pytest.approx(RATE / 2, abs=1)
    assert (waveform[0, 200:7800] - torch.from_numpy(tone())[200:7800]).abs().max() < 0.01


@pytest.mark.parametrize("rate", [1, 11_127, 44_101, 44_120, 383_999, 9_999_991])
@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100])
def test_filters_between_rates_that_have_nothing_in_common_stay_small(rate, sample_rate):
    resampler = files._resampler(rate, sample_rate)
    assert sum(buffer.numel() for buffer in resampler.buffers()) < 2**22
    assert resampler.orig_freq / resampler.new_freq == pytest.approx(rate / sample_rate, rel=5e-4)


def test_a_sound_of_one_sample_per_second_is_slow():
    assert read(wav(b"\0\x40" * 3, rate=1)).shape == (1, 3 * RATE)


def test_channels_are_averaged():
    channels = np.stack([np.full(100, k / 10) for k in range(6)], axis=1)
    assert torch.allclose(read(encode(channels, subtype="FLOAT")), torch.full((1, 100), 0.25))


@pytest.mark.parametrize("rate", [16_000, 96_000])
def test_one_sample_is_enough(rate):
    assert read(encode(np.array([0.25]), rate, subtype="FLOAT")).shape == (1, 1)


def test_floating_point_samples_beyond_one_stay():
    assert read(encode(np.array([3.0, -2.0]), subtype="DOUBLE")).tolist() == [[3.0, -2.0]]


@pytest.mark.parametrize(
    "samples",
    [np.zeros(RATE), np.zeros(1), np.ones(1), np.full(RATE, 1e-40), np.full((RATE, 2), 9e14), tone() * 1e12],
    ids=["silence", "silent sample", "one sample", "next to nothing", "far too loud", "loud tone"],
)
def test_whatever_is_read_stays_finite_in_the_transforms(samples):
    waveform = read(encode(samples, subtype="DOUBLE"))
    assert normalize_level(fit_length(waveform, 4000)).isfinite().all()
    for seed in range(5):
        torch.manual_seed(seed)
        assert Augment(4000, noise_probability=1.0)(waveform).isfinite().all()


@pytest.mark.parametrize("suffix", EXTENSIONS)
def test_an_empty_file_is_refused(suffix):
    refused(b"", f"a{suffix}", "empty")


@pytest.mark.parametrize("suffix", EXTENSIONS)
@pytest.mark.parametrize("content", [b"This is not a sound.\n" * 200, b"?", b"<!DOCTYPE html><html></html>"])
def test_text_by_the_name_of_sound_is_refused(suffix, content):
    refused(content, f"a{suffix}", "cannot read it|no sound track|no samples|does not begin")


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize(("kind", "announced"), [("WAV", RATE), ("AIFF", RATE + 8), ("CAF", RATE + 4), ("W64", RATE)])
def test_a_file_of_samples_is_whole_to_the_last_byte(missing, kind, announced):
    content = encode(tone(), kind=kind)[:-missing]
    refused(content, f"a.{kind.lower()}", f"announces {announced} bytes of samples and holds {announced - missing}")


@pytest.mark.parametrize("announced", [0x7FFF_FFFF, 0xFFFF_FFDB, 0xFFFF_FFFF])
def test_a_wav_file_from_a_pipe_announces_no_length_and_is_read(announced):
    assert read(wav(b"\0\x40" * 500, announced=announced)).shape == (1, 500)


def test_a_wav_file_with_other_chunks_around_its_samples_is_read():
    content, odd = encode(tone()), b"note" + struct.pack("<I", 3) + b"abc\0"
    at = content.index(b"data")
    assert read(content[:at] + odd + content[at:] + odd).shape == (1, RATE // 2)
    refused(content[:at] + odd + content[at:-1], "a.wav", f"announces {RATE} bytes of samples and holds {RATE - 1}")


def lying_flac(count: int) -> bytes:
    """One whose header counts other samples than it holds, in 36 bits."""
    content = bytearray(encode(tone(), kind="FLAC"))
    content[21:26] = (int.from_bytes(content[21:26], "big") & 0xF0_0000_0000 | count).to_bytes(5, "big")
    return bytes(content)


LIES = {
    "an hour.wav": wav(bytes(200), announced=3600 * 2 * RATE),
    "2 GB.wav": wav(bytes(200), announced=0x7FFE_FFFF),
    "4 hours.flac": lying_flac(4 * 3600 * RATE),
    "50 days.flac": lying_flac(2**36 - 1),
}


@pytest.fixture
def little_memory():
    """See to it that a test takes less than 16 MB."""
    tracemalloc.start()
    yield
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**24


@pytest.mark.parametrize("name", LIES)
@pytest.mark.usefixtures("little_memory")
def test_headers_that_lie_are_refused_and_get_no_memory(name):
    refused(LIES[name], name, "cut short|cannot read it")


SILENCE = encode(np.zeros(2**23, dtype=np.int16), kind="FLAC")


@pytest.mark.usefixtures("little_memory")
def test_a_small_file_of_far_too_much_silence_is_not_decoded_to_its_end(monkeypatch):
    monkeypatch.setattr(sound, "MOST_SAMPLES", 2**20)
    assert len(SILENCE) < 2**16
    refused(SILENCE, "a.flac", "more than 1048576 samples")


@pytest.mark.parametrize("rate", [0, 10_000_001, 0xFFFF_FFFF])
def test_rates_that_no_sound_has_are_refused(rate):
    refused(wav(bytes(200), rate=rate), "a.wav", "cannot read it|10000001 samples per second")


@pytest.mark.parametrize("channels", [0, 2000])
def test_no_channels_and_thousands_are_refused(channels):
    refused(wav(bytes(8000), channels=channels), "a.wav", "(?i)channel")


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "CAF", "OGG"])
def test_a_file_without_samples_is_refused(kind):
    refused(encode(np.zeros(0), kind=kind), f"a.{kind.lower()}", "no samples")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e16, 1e300])
def test_samples_that_are_not_finite_are_refused_and_counted(value):
    samples = tone()
    samples[[3, 5]] = value
    refused(encode(samples, subtype="DOUBLE"), "a.wav", "2 of its 8000 samples are not finite")


@pytest.mark.parametrize("name", ["a.txt", "a", "a.wav.gz"])
def test_another_suffix_is_refused_with_those_that_are_right(name):
    refused(b"text", name, r"its suffix is '.*'.*\.wav \.flac")


def test_more_samples_than_fit_in_memory_are_refused(monkeypatch):
    read(encode(tone()))
    monkeypatch.setattr(sound, "MOST_SAMPLES", 7999)
    refused(encode(tone()), "a.wav", "more than 7999 samples")


def test_a_file_that_does_not_fit_in_memory_is_not_even_read(tmp_path):
    with (tmp_path / "a.wav").open("wb") as file:
        file.truncate(2**40)  # takes no space on the disk
    with pytest.raises(UnreadableSoundError, match="1099511627776 bytes; it should have 4294967296 at most"):
        read_sound(tmp_path / "a.wav", RATE)


def test_more_samples_than_fit_in_memory_after_resampling_are_refused(monkeypatch):
    monkeypatch.setattr(files, "MOST_RESAMPLED", 3 * RATE - 1)
    refused(wav(bytes(6), rate=1), "a.wav", f"its 3 samples, 1 per second, are 4.8e.04 at {RATE}")


def test_a_long_file_is_the_same_in_blocks_as_at_once(monkeypatch):
    content = encode(np.random.default_rng(0).uniform(-1, 1, (5000, 2)), kind="FLAC")
    at_once = read(content)
    monkeypatch.setattr(sound, "_BLOCK", 999)
    assert torch.equal(read(content), at_once)


def test_no_file_and_a_folder_are_not_found(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    for name in ("missing.wav", "folder.wav"):
        with pytest.raises(FileNotFoundError, match=name):
            read_sound(tmp_path / name, RATE)


def test_a_file_is_named_by_its_path(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"text")
    with pytest.raises(UnreadableSoundError, match=f"^{re.escape(str(tmp_path / 'a.wav'))}: "):
        read_sound(tmp_path / "a.wav", RATE)


def test_a_wrong_rate_is_refused(tmp_path):
    for call in (lambda: read_sound(tmp_path / "a.wav", 0), lambda: read_sound_bytes(b"", "a.wav", 0)):
        with pytest.raises(ValueError, match="sample_rate is 0"):
            call()
