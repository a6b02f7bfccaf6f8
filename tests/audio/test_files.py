"""Reading sound files of real formats, whole and broken."""

from __future__ import annotations

import math
import re
import struct
import sys

import av
import numpy as np
import pytest
import soundfile
import torch

from eyetoy_audio.files import EXTENSIONS, UnreadableSoundError, read_sound

RATE = 16_000


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write_m4a(path, samples, rate: int) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def loudest_hertz(waveform: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(waveform[0] * torch.hann_window(waveform.shape[1])).abs()
    return float(spectrum.argmax()) * RATE / waveform.shape[1]


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_U8", 2**-7),
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_32", 1e-7),
        ("a.wav", "FLOAT", 1e-7),
        ("a.wav", "DOUBLE", 1e-7),
        ("A.WAV", "PCM_16", 2**-15),
        ("a.flac", "PCM_16", 2**-15),
        ("a.flac", "PCM_24", 2**-23),
        ("a.aiff", "PCM_16", 2**-15),
    ],
)
def test_lossless_formats_give_the_samples_back(tmp_path, name, subtype, error):
    soundfile.write(tmp_path / name, tone(), RATE, subtype=subtype)
    waveform = read_sound(tmp_path / name, RATE)
    assert waveform.dtype == torch.float32
    assert waveform.shape == (1, RATE // 2)
    assert (waveform[0] - torch.from_numpy(tone())).abs().max() <= 1.01 * error


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3", "a.opus", "a.m4a"])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_lossy_formats_keep_length_pitch_and_level(tmp_path, name, rate):
    if name.endswith(".m4a"):
        write_m4a(tmp_path / name, tone(1.0, rate), rate)
    else:
        container = "MP3" if name.endswith(".mp3") else "OGG"
        subtype = {"a.ogg": "VORBIS", "a.mp3": "MPEG_LAYER_III", "a.opus": "OPUS"}[name]
        soundfile.write(tmp_path / name, tone(1.0, rate), rate, format=container, subtype=subtype)
    waveform = read_sound(tmp_path / name, RATE)
    assert waveform.dtype == torch.float32
    assert abs(waveform.shape[1] - RATE) < 0.15 * RATE  # a coder adds up to some frames of silence
    assert loudest_hertz(waveform) == pytest.approx(440, abs=3)
    assert waveform.square().mean().sqrt() == pytest.approx(0.5 / math.sqrt(2), rel=0.1)


def test_another_rate_is_resampled_without_aliases(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.5, 96_000) + tone(0.5, 96_000, hertz=20_000), 96_000, subtype="FLOAT")
    waveform = read_sound(tmp_path / "a.wav", RATE)
    assert waveform.shape == (1, RATE // 2)
    # The inaudible 20 kHz must not fold down to 4 kHz; the ends of the filter are left out.
    assert (waveform[0] - torch.from_numpy(tone()))[200:-200].abs().max() < 0.01


def test_channels_are_averaged(tmp_path):
    channels = np.stack([np.full(100, k / 10) for k in range(6)], axis=1)
    soundfile.write(tmp_path / "a.wav", channels, RATE, subtype="FLOAT")
    assert torch.allclose(read_sound(tmp_path / "a.wav", RATE), torch.full((1, 100), 0.25))


@pytest.mark.parametrize("rate", [16_000, 96_000])
def test_one_sample_is_enough(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.array([0.25]), rate, subtype="FLOAT")
    assert read_sound(tmp_path / "a.wav", RATE).shape == (1, 1)


def test_floating_point_samples_beyond_one_stay(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([3.0, -2.0]), RATE, subtype="DOUBLE")
    assert read_sound(tmp_path / "a.wav", RATE).tolist() == [[3.0, -2.0]]


def refused(path, message: str) -> None:
    with pytest.raises(UnreadableSoundError, match=message) as raised:
        read_sound(path, RATE)
    assert str(raised.value).startswith(f"{path}: ")
    assert "; " in str(raised.value)  # what is wrong; what would be right


@pytest.mark.parametrize("suffix", EXTENSIONS)
def test_an_empty_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.touch()
    refused(path, "empty")


@pytest.mark.parametrize("suffix", [suffix for suffix in EXTENSIONS if suffix != ".aac"])
def test_text_by_the_name_of_sound_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("This is not a sound.\n" * 200)
    refused(path, re.escape(suffix))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.m4a"])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_a_file_that_was_cut_short_is_refused(tmp_path, name, share):
    path = tmp_path / name
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    write_m4a(path, noise, RATE) if name == "a.m4a" else soundfile.write(path, noise, RATE)
    read_sound(path, RATE)
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    refused(path, "cut short|cannot read")


@pytest.mark.parametrize("missing", [1, 2])
def test_a_wav_file_is_whole_to_the_last_byte(tmp_path, missing):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE)
    path.write_bytes(path.read_bytes()[:-missing])
    refused(path, f"announces {RATE} bytes of samples and holds {RATE - missing}")


def test_a_wav_file_from_a_pipe_announces_no_length_and_is_read(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE)
    content = path.read_bytes()
    at = content.index(b"data") + 4
    path.write_bytes(content[:at] + struct.pack("<I", 0xFFFF_FFFF) + content[at + 4 :])
    assert read_sound(path, RATE).shape == (1, RATE // 2)


def test_a_wav_file_with_other_chunks_around_its_samples_is_read(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE)
    content, odd = path.read_bytes(), b"note" + struct.pack("<I", 3) + b"abc\0"
    at = content.index(b"data")
    path.write_bytes(content[:at] + odd + content[at:] + odd)
    assert read_sound(path, RATE).shape == (1, RATE // 2)


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.caf"])
def test_a_file_without_samples_is_refused(tmp_path, name):
    soundfile.write(tmp_path / name, np.zeros(0), RATE)
    refused(tmp_path / name, "no samples")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_samples_that_are_not_finite_are_refused_and_counted(tmp_path, value):
    samples = tone()
    samples[[3, 5]] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="DOUBLE")
    refused(tmp_path / "a.wav", "2 of its 8000 samples are not finite")


def test_another_suffix_is_refused_with_those_that_are_right(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    refused(tmp_path / "a.txt", r"'\.txt'.*\.wav \.flac")


def test_a_film_without_sound_is_refused(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    refused(path, "no sound track")


def test_no_file_and_a_folder_are_not_found(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    for name in ("missing.wav", "folder.wav"):
        with pytest.raises(FileNotFoundError, match=name):
            read_sound(tmp_path / name, RATE)


def test_a_wrong_rate_is_refused(tmp_path):
    with pytest.raises(ValueError, match="sample_rate is 0"):
        read_sound(tmp_path / "a.wav", 0)


def test_without_pyav_the_command_that_helps_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.m4a").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r'pip install "eyetoy\[audio\]"'):
        read_sound(tmp_path / "a.m4a", RATE)
