"""Decoding of sound files: the same samples by every library, damage refused, and the choice of a library."""

from __future__ import annotations

import io
import math
import runpy
import struct
import sys
from contextlib import suppress
from functools import cache
from types import SimpleNamespace

import av
import numpy as np
import pytest
import soundfile
import torch

from eyetoy_audio.io import files
from eyetoy_audio.io.files import UnreadableSoundError, read_sound_bytes
from eyetoy_train.media import decoders, kinds, sound, sound_integrity
from eyetoy_train.media.errors import MissingDecoderError
from eyetoy_train.media.sound import DECODERS, decode, describe_decoders

RATE = 16_000
BY_SOUNDFILE = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "aiff": ("AIFF", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "opus": ("OGG", "OPUS"),
}
BY_PYAV = {
    "m4a": ("ipod", "aac"),
    "aac": ("adts", "aac"),
    "mka": ("matroska", "aac"),
    "webm": ("webm", "libopus"),
    "wma": ("asf", "wmav2"),
}


def if_there(decoder: str, *values):
    """Parameters of a test that needs a decoder."""
    problem = decoders.find(decoder).problem
    return pytest.param(*values, decoder, marks=pytest.mark.skipif(bool(problem), reason=problem or "it is there"))


def each_reader(*names: str):
    """Every kind with every decoder that reads it."""
    pairs = [(kind, decoder) for kind in names for decoder in ("soundfile", "pyav", "torchcodec")]
    readers = [(kind, decoder) for kind, decoder in pairs if DECODERS.reads(decoder, kinds.SOUND_KINDS[f".{kind}"])]
    return pytest.mark.parametrize(("kind", "decoder"), [if_there(decoder, kind) for kind, decoder in readers])


each_decoder = pytest.mark.parametrize("decoder", [if_there(name) for name in ("soundfile", "pyav", "torchcodec")])
by_ffmpeg = pytest.mark.parametrize("decoder", [if_there(name) for name in ("pyav", "torchcodec")])


def encode_by_pyav(samples, rate: int, form: str, codec: str, *, file=None, bit_rate=64_000, **options) -> bytes:
    file = file or io.BytesIO()
    with av.open(file, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono", bit_rate=bit_rate)
        to_codec = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        for part in [*to_codec.resample(frame), *to_codec.resample(None), None]:
            container.mux(stream.encode(part))
    return file.getvalue() if isinstance(file, io.BytesIO) else file.read_bytes()


def encode(kind: str, samples: np.ndarray, rate: int, subtype: str | None = None) -> bytes:
    if kind in BY_PYAV:
        return encode_by_pyav(samples, rate, *BY_PYAV[kind])
    file = io.BytesIO()
    form, usual = BY_SOUNDFILE[kind]
    soundfile.write(file, samples, rate, format=form, subtype=subtype or usual)
    return file.getvalue()


def chirp(rate: int, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * (300 + 500 * t) * t)


@cache
def whole(kind: str, rate: int = 48_000) -> bytes:
    return encode(kind, chirp(rate), rate)


@cache
def long_noise(kind: str) -> bytes:
    return encode(kind, 0.1 * np.random.default_rng(0).standard_normal(4 * RATE), RATE)


def refused(content: bytes, name: str, decoder: str, message: str = "") -> None:
    with pytest.raises(UnreadableSoundError, match=message) as raised:
        read_sound_bytes(content, name, RATE, decoder)
    assert str(raised.value).startswith(f"{name}: ")


@each_reader(*BY_SOUNDFILE, *(kind for kind in BY_PYAV if kind != "wma"))
def test_all_decoders_give_the_same_samples(kind, decoder):
    content = whole(kind)
    waveform = read_sound_bytes(content, f"a.{kind}", 48_000, decoder)
    reference = read_sound_bytes(content, f"a.{kind}", 48_000)
    # FFmpeg ends a Vorbis file with its last block, not within it.
    assert abs(waveform.shape[1] - reference.shape[1]) <= (1024 if kind == "ogg" else 0)
    shared = min(waveform.shape[1], reference.shape[1])
    assert (waveform[:, :shared] - reference[:, :shared]).abs().max() < 3e-6


@each_decoder
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"])
def test_every_form_of_samples_is_read_the_same(subtype, decoder):
    content = encode("wav", np.stack([chirp(RATE, 0.1) * k / 6 for k in range(6)], axis=1), 96_000, subtype)
    waveform = read_sound_bytes(content, "a.wav", 96_000, decoder)
    assert torch.allclose(waveform, read_sound_bytes(content, "a.wav", 96_000, "soundfile"), atol=1e-7)
    assert (waveform[0] - torch.from_numpy(chirp(RATE, 0.1)) * 2.5 / 6).abs().max() < 0.02


@pytest.mark.parametrize("kind", BY_SOUNDFILE | BY_PYAV)
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_length_pitch_and_level_are_kept(kind, rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    waveform = read_sound_bytes(encode(kind, tone, rate), f"a.{kind}", RATE)
    assert waveform.dtype == torch.float32
    assert abs(waveform.shape[1] - RATE) < 0.15 * RATE  # a coder adds up to some frames of silence
    spectrum = torch.fft.rfft(waveform[0] * torch.hann_window(waveform.shape[1])).abs()
    assert float(spectrum.argmax()) * RATE / waveform.shape[1] == pytest.approx(440, abs=3)
    assert waveform.square().mean().sqrt() == pytest.approx(0.5 / math.sqrt(2), rel=0.1)


@each_reader(*BY_SOUNDFILE, "m4a", "wma")
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_file_that_was_cut_short_is_refused(kind, share, decoder):
    content = long_noise(kind)
    read_sound_bytes(content, f"a.{kind}", RATE, decoder)
    refused(content[: round(share * len(content))], f"a.{kind}", decoder, "cut short|cannot read it")


@by_ffmpeg
def test_an_m4a_file_with_its_tables_first_is_whole_to_the_last_byte(decoder, tmp_path):
    content = encode_by_pyav(chirp(RATE), RATE, "ipod", "aac", file=tmp_path / "a.m4a", movflags="+faststart")
    assert content.index(b"moov") < content.index(b"mdat")
    read_sound_bytes(content, "a.m4a", RATE, decoder)
    refused(content[:-1], "a.m4a", decoder, "cut short: it announces [0-9]+ bytes of samples")


@by_ffmpeg
def test_a_wma_file_is_whole_to_the_last_byte(decoder):
    refused(whole("wma")[:-1], "a.wma", decoder, "cut short: it announces [0-9]+ bytes of samples")


@each_reader("ogg", "opus")
@pytest.mark.parametrize("damage", [lambda page: bytes([page[0] ^ 1]) + page[1:], lambda page: bytes(len(page))])
def test_a_damaged_page_is_refused(kind, damage, decoder):
    content = whole(kind)
    middle, end = len(content) // 2, len(content) - 100
    refused(
        content[:middle] + damage(content[middle:end]) + content[end:], f"a.{kind}", decoder, "it is damaged|cut short"
    )


def test_a_lost_page_is_refused_and_what_follows_the_last_one_is_not_looked_at():
    content = whole("ogg")
    last = content.rindex(b"OggS")
    refused(content[:last] + b"lost" + content[last:], "a.ogg", "auto", f"no page at byte {last}")
    assert torch.equal(read_sound_bytes(content + b"TAG", "a.ogg", RATE), read_sound_bytes(content, "a.ogg", RATE))


def test_a_damaged_frame_of_flac_is_refused():
    content = whole("flac")
    middle = len(content) // 2
    refused(
        content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :], "a.flac", "auto", "cannot read it"
    )


@by_ffmpeg
def test_a_flac_file_that_ffmpeg_reads_a_part_of_is_refused(decoder):
    content = long_noise("flac")
    third = len(content) // 3
    refused(
        content[:third] + bytes(third) + content[2 * third :], "a.flac", decoder, "announces 64000 samples|cannot read"
    )


@pytest.mark.parametrize("decoder", [if_there("torchcodec")])
def test_a_wav_file_that_torchcodec_reads_a_part_of_is_refused(decoder):
    content = encode("wav", chirp(RATE), RATE, "IMA_ADPCM")
    refused(content, "a.wav", decoder, "announces 16272 samples and holds")
    assert read_sound_bytes(content, "a.wav", RATE).shape == (1, 16_272)


@each_reader("wav", "flac", "mp3", "m4a")
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a"])
def test_the_content_tells_what_a_file_is_before_its_name_does(kind, name, decoder):
    content = whole(kind)
    waveform = read_sound_bytes(content, name, RATE, decoder)
    assert torch.equal(waveform, read_sound_bytes(content, f"a.{kind}", RATE, decoder))


@pytest.mark.parametrize("kind", BY_SOUNDFILE | BY_PYAV)
def test_the_content_of_every_kind_tells_it(kind):
    assert kinds.sound_kind(whole(kind), ".w64" if kind == "wav" else ".wav") == kinds.SOUND_KINDS[f".{kind}"]
    assert kinds.sound_kind(b"ID3" + whole(kind), ".wav") == "mp3"  # a title may stand before it


@by_ffmpeg
@pytest.mark.parametrize("kind", ["mp3", "aac"])
def test_a_title_in_an_unknown_encoding_is_no_damage(kind, decoder):
    frame = b"TIT2" + (6).to_bytes(4, "big") + b"\0\0\x03caf\xe9\xff"  # said to be UTF-8
    content = b"ID3\x04\0\0\0\0\0" + bytes([len(frame)]) + frame + whole(kind)
    assert read_sound_bytes(content, f"a.{kind}", RATE, decoder).shape[1] >= RATE


@each_decoder
def test_a_flac_file_from_a_pipe_counts_no_samples_and_is_read(decoder):
    content = bytearray(whole("flac"))
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])
    if decoder == "soundfile":
        refused(bytes(content), "a.flac", decoder, "does not read streamed flac files; the decoder should be auto")
    else:
        expected = read_sound_bytes(whole("flac"), "a.flac", RATE)
        assert torch.equal(read_sound_bytes(bytes(content), "a.flac", RATE, decoder), expected)
        assert torch.equal(read_sound_bytes(bytes(content), "a.flac", RATE), expected)


def test_an_mp3_file_of_another_bit_rate_than_its_first_frames_is_read_whole():
    loud, quiet = (
        encode_by_pyav(chirp(RATE, s), RATE, "mp3", "mp3", write_xing="0", id3v2_version="0", bit_rate=b)
        for s, b in ((1, 128_000), (9, 16_000))
    )
    waveform = read_sound_bytes(loud + quiet, "a.mp3", RATE)
    assert abs(waveform.shape[1] - 10 * RATE) < 10_000


@by_ffmpeg
def test_an_aac_file_counts_nothing_and_a_wrong_guess_of_its_length_is_not_held_against_it(decoder):
    noise = 0.1 * np.random.default_rng(0).standard_normal(4 * RATE)
    content = encode("aac", np.concatenate([np.zeros(2 * RATE), noise]), RATE)
    assert decode(content, decoder).announced > 9 * RATE
    assert abs(read_sound_bytes(content, "a.aac", RATE, decoder).shape[1] - 6 * RATE) < 2000


@pytest.mark.parametrize("start", [b"", b"ID3\x04\0\0\0\0\x02\x01" + bytes(257)])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_an_mp3_file_counts_its_frames(start, rate):
    content = start + whole("mp3", rate)
    counted = sound_integrity.counted_by_mp3(content)
    assert rate <= counted <= rate + 4 * 1152
    assert sound_integrity.counted_by_mp3(encode_by_pyav(chirp(rate), rate, "mp3", "mp3", write_xing="0")) is None
    refused(content[: round(0.6 * len(content))], "a.mp3", "pyav", f"announces {counted} samples")


@by_ffmpeg
def test_another_number_of_channels_midway_is_refused(decoder):
    mono, stereo = (encode("mp3", np.zeros((RATE, channels)), RATE) for channels in (1, 2))
    refused(mono + stereo, "a.mp3", decoder, "cannot read it|changes midway")


def test_another_rate_midway_is_refused():
    refused(whole("aac", 16_000) + whole("aac"), "a.aac", "pyav", "sample rate or number of channels changes midway")


@by_ffmpeg
def test_a_film_without_sound_is_refused(decoder):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    refused(file.getvalue(), "a.mp4", decoder, "no sound track|cannot read it")


def ogg_pages(packets: list[tuple[bytes, int]], serial: int) -> bytes:
    """An Ogg stream with each packet, of which the position at its end is given, on a page of its own."""
    pages = []
    for number, (packet, position) in enumerate(packets):
        sizes = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
        flags = 2 * (number == 0) + 4 * (number == len(packets) - 1)
        head = struct.pack("<5sBQII", b"OggS", flags, position, serial, number)
        rest = bytes([len(sizes)]) + sizes + packet
        check = 0  # CRC-32 as in the specification, bit by bit
        for byte in head + bytes(4) + rest:
            check ^= byte << 24
            for _ in range(8):
                check = (check << 1 ^ (0x04C1_1DB7 if check >> 31 else 0)) & 0xFFFF_FFFF
        pages.append(head + check.to_bytes(4, "little") + rest)
    return b"".join(pages)


def flac_in_ogg(samples: np.ndarray, rate: int, serial: int = 0) -> bytes:
    content = encode("flac", samples, rate)
    with av.open(io.BytesIO(content)) as container:
        frames = [(bytes(packet), packet.pts + packet.duration) for packet in container.demux(audio=0) if packet.size]
    comment = b"\x84\0\0\x08" + bytes(8)
    return ogg_pages([(b"\x7fFLAC\1\0\0\1" + content[:42], 0), (comment, 0), *frames], serial)


TITLE = b"ID3\x04\0\0\0\0\x02\x01" + bytes(257)
TITLE_1 = b"TAG" + bytes(125)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 64, 1, 1 << 31 | 1 << 29) + bytes(8)  # a head
APE += bytes(32) + b"APETAGEX" + struct.pack("<IIII", 2000, 64, 1, 1 << 31) + bytes(8)


def joined(kind: str, *, between: bytes = b"", rates: tuple[int, ...] = (RATE, RATE, RATE)) -> tuple[bytes, float]:
    """Three sounds one after the other, and how many seconds they have when each is read alone."""
    if kind == "flac in ogg":
        sounds = [flac_in_ogg(chirp(rate, k / 8), rate, k) for k, rate in enumerate(rates, 1)]
    else:
        sounds = [encode(kind, chirp(rate, k / 4), rate) for k, rate in enumerate(rates, 1)]
    suffix = kind.rpartition(" ")[2]
    alone = sum(read_sound_bytes(sound, f"a.{suffix}", RATE).shape[1] for sound in sounds)
    return between.join(sounds), alone / RATE


JOINED = [*BY_SOUNDFILE, *BY_PYAV, "flac in ogg"]


@pytest.mark.parametrize("decoder", ["auto", *map(if_there, ("soundfile", "pyav", "torchcodec"))])
@pytest.mark.parametrize("kind", JOINED)
def test_sounds_one_after_the_other_are_read_to_the_last_one(kind, decoder):
    suffix = kind.rpartition(" ")[2]
    if decoder == "soundfile" and (kind == "flac in ogg" or kind in BY_PYAV):
        pytest.skip("libsndfile does not read it")
    content, seconds = joined(kind)
    waveform = read_sound_bytes(content, f"a.{suffix}", RATE, decoder)
    # FFmpeg ends each Vorbis stream with a block, not within it, and gives a sound of aac a block more.
    assert waveform.shape[1] / RATE == pytest.approx(seconds, abs=0.14 if suffix in ("ogg", "aac") else 1e-3)


@pytest.mark.parametrize("decoder", ["auto", *map(if_there, ("soundfile", "pyav"))])
@pytest.mark.parametrize("between", [TITLE, TITLE_1, TITLE + TITLE, TITLE_1 + TITLE, APE + TITLE_1])
def test_titles_between_sounds_of_mp3_are_no_damage(between, decoder):
    content, seconds = joined("mp3", between=between)
    waveform = read_sound_bytes(between + content + between, "a.mp3", RATE, decoder)
    assert waveform.shape[1] / RATE == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize("kind", ["ogg", "mp3", "flac", "wav", "aiff", "caf", "m4a", "flac in ogg"])
def test_sounds_one_after_the_other_of_two_rates_are_refused(kind):
    sounds = [
        flac_in_ogg(chirp(rate, 0.1), rate) if kind == "flac in ogg" else encode(kind, chirp(rate), rate)
        for rate in (16_000, 48_000)
    ]
    refused(
        b"".join(sounds), f"a.{kind.rpartition(' ')[2]}", "auto", "sample rate or number of channels changes midway"
    )


@pytest.mark.parametrize("kind", ["ogg", "opus", "mp3", "flac", "wav", "aiff", "caf", "w64", "m4a"])
def test_a_cut_sound_among_several_is_refused(kind):
    content = long_noise(kind)
    cut = content[: round(0.6 * len(content))]
    refused(content + cut, f"a.{kind}", "auto", "cut short|cannot read it")
    if kind not in ("wav", "aiff", "caf", "w64"):  # their samples are any bytes, also those of the next file
        refused(cut + content, f"a.{kind}", "auto", "cut short|cannot read it|damaged")


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("place", [0.01, 0.3, 0.6, 0.98])
def test_a_single_damaged_frame_of_flac_is_refused_by_ffmpeg_too(place, decoder):
    content = bytearray(long_noise("flac"))
    content[round(place * len(content))] ^= 255
    refused(bytes(content), "a.flac", decoder, "cannot read it|cut short")


@pytest.mark.parametrize("codec", ["ac3", "mp2", "adpcm_g722"])
def test_a_wav_file_that_only_ffmpeg_knows_is_read_by_it(codec):
    rate = 32_000 if codec != "adpcm_g722" else RATE
    content = encode_by_pyav(chirp(rate), rate, "wav", codec)
    refused(content, "a.wav", "soundfile", "libsndfile cannot read it")
    waveform = read_sound_bytes(content, "a.wav", RATE)
    assert torch.equal(waveform, read_sound_bytes(content, "a.wav", RATE, "pyav"))
    assert waveform.shape[1] / RATE == pytest.approx(1, abs=0.04)
    refused(content[:-1], "a.wav", "auto", "cut short: it announces")


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "m4a"])
def test_a_title_before_another_kind_of_sound_is_skipped(kind):
    assert torch.equal(
        read_sound_bytes(TITLE + whole(kind), f"a.{kind}", RATE), read_sound_bytes(whole(kind), "a.wav", RATE)
    )


@pytest.mark.parametrize("decoder", ["auto", "soundfile", "pyav"])
@pytest.mark.parametrize("after", [bytes(3000), b"no frame " * 300, TITLE_1, APE])
def test_what_follows_the_counted_frames_of_mp3_is_not_looked_at(after, decoder):
    expected = read_sound_bytes(whole("mp3"), "a.mp3", RATE, decoder)
    assert torch.equal(read_sound_bytes(whole("mp3") + after, "a.mp3", RATE, decoder), expected)


@pytest.mark.parametrize("xing", ["0", "1"])
@pytest.mark.parametrize("hole", [slice(4000, 4700), slice(4000, None)])
def test_mp3_with_a_hole_is_refused(hole, xing):
    content = bytearray(encode_by_pyav(chirp(RATE, 3), RATE, "mp3", "mp3", write_xing=xing))
    content[hole] = bytes(len(content[hole]))
    refused(bytes(content), "a.mp3", "auto", "cannot read it|cut short")


@pytest.mark.parametrize("decoder", ["auto", "soundfile", "pyav"])
@pytest.mark.parametrize("riff", [0, 0xFFFF_FFFF, None])
@pytest.mark.parametrize("data", [0, 0xFFFF_FFFF, 0x7FFF_F000])
def test_a_wav_file_whose_sizes_were_never_filled_in_is_read_whole(riff, data, decoder):
    content = bytearray(whole("wav", RATE))
    at = content.index(b"data") + 4
    content[at : at + 4] = data.to_bytes(4, "little")
    if riff is not None:
        content[4:8] = riff.to_bytes(4, "little")
    assert torch.equal(
        read_sound_bytes(bytes(content), "a.wav", RATE, decoder), read_sound_bytes(whole("wav", RATE), "a.wav", RATE)
    )


@pytest.mark.parametrize("decoder", ["auto", "soundfile", "pyav"])
def test_a_wav_file_that_announces_a_small_part_of_its_samples_is_refused(decoder):
    content = bytearray(whole("wav", RATE))
    at = content.index(b"data") + 4
    content[at : at + 4] = (1000).to_bytes(4, "little")
    refused(bytes(content), "a.wav", decoder, "announces 1000 bytes of samples, and 31000 bytes follow")


@pytest.mark.parametrize("decoder", ["auto", "soundfile", "pyav"])
def test_a_wav_file_without_samples_does_not_give_another_chunk_for_sound(decoder):
    content = bytearray(whole("wav", RATE)[:44])
    content[content.index(b"data") + 4 :] = bytes(4)
    content += b"LIST" + struct.pack("<I", 400) + b"x" * 400
    refused(bytes(content), "a.wav", decoder, "holds no samples")


def test_the_reason_of_every_decoder_is_told_and_its_choice_does_not_depend_on_other_files():
    with pytest.raises(UnreadableSoundError, match=r"no decoder that is there reads it \(soundfile: .*, pyav: FFmpeg"):
        read_sound_bytes(b"RIFF" + bytes(100), "a.wav", RATE)
    assert torch.equal(
        read_sound_bytes(whole("ogg"), "a.ogg", RATE), read_sound_bytes(whole("ogg"), "a.ogg", RATE, "soundfile")
    )


def test_what_passes_over_damage_is_asked_only_where_it_is_the_best(libraries):
    assert DECODERS.candidates("wav") == ["soundfile", "pyav", "torchcodec"]
    assert DECODERS.candidates("mp3") == ["torchcodec", "pyav"]
    assert DECODERS.candidates("flac") == ["soundfile", "pyav"]
    assert DECODERS.candidates("wav", "pyav") == ["pyav"]
    libraries(av=None, torchcodec=None)
    assert DECODERS.candidates("mp3") == ["soundfile"]


@each_decoder
def test_a_file_of_more_than_fits_in_memory_is_refused(decoder, monkeypatch):
    monkeypatch.setattr(sound, "MOST_SAMPLES", 47_999)
    refused(whole("wav"), "a.wav", decoder, "more than 47999 samples")


@pytest.mark.parametrize("decoder", ["auto", *map(if_there, ("pyav", "torchcodec"))])
@pytest.mark.parametrize("kind", BY_SOUNDFILE | BY_PYAV)
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_libraries_write_nothing_about_damaged_files(kind, decoder, capfd):
    content = whole(kind, RATE)
    half = len(content) // 2
    cuts = [content[:size] for size in (20, 200, half)]
    holes = [content[:start] + bytes(half // 2) + content[start + half // 2 :] for start in (0, 300, half)]
    holes += [content[:34] + b"\xff" * 8 + content[42:]]  # sizes in headers
    for damaged in [*cuts, *holes, b"Not sound.\n" * 400, b"\xff\xfb" * 300, b"RIFF" + bytes(100)]:
        with suppress(UnreadableSoundError):
            assert read_sound_bytes(damaged, f"a.{kind}", RATE, decoder).isfinite().all()
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def libraries(monkeypatch):
    """Pretend that libraries are there, or are not (None)."""

    def pretend(**modules):
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        decoders.find.cache_clear()

    pretend(
        soundfile=SimpleNamespace(__version__="1.0"),
        av=SimpleNamespace(__version__="2.0"),
        torchcodec=SimpleNamespace(__version__="3.0", ffmpeg_major_version=7),
    )
    yield pretend
    monkeypatch.undo()
    decoders.find.cache_clear()


NO_FFMPEG = SimpleNamespace(__version__="3.0", ffmpeg_major_version=None)


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        (
            {},
            {
                "wav": "soundfile",
                "mp3": "torchcodec",
                "m4a": "torchcodec",
                "wma": "pyav",
                "streamed flac": "torchcodec",
            },
        ),
        ({"torchcodec": None}, {"flac": "soundfile", "mp3": "pyav", "opus": "pyav", "m4a": "pyav", "wma": "pyav"}),
        ({"torchcodec": NO_FFMPEG}, {"flac": "soundfile", "mp3": "pyav", "opus": "pyav", "m4a": "pyav"}),
        ({"torchcodec": None, "av": None}, {"ogg": "soundfile", "mp3": "soundfile", "opus": "soundfile"}),
        ({"soundfile": None}, {"wav": "pyav", "mp3": "torchcodec"}),
        ({"soundfile": None, "av": None}, {"wav": "torchcodec", "wma": "torchcodec"}),
    ],
)
def test_the_best_decoder_that_is_there_is_chosen(libraries, changes, chosen):
    libraries(**changes)
    assert {kind: DECODERS.choose(kind) for kind in chosen} == chosen


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {},
            "sound is decoded by soundfile 1.0 (wav, flac, ogg, aiff, caf, w64, au, voc, nist), torchcodec 3.0 with "
            "FFmpeg 7 (mp3, opus, m4a, aac, mka, streamed flac), PyAV 2.0 (wma, ac3, amr, ape, dsf, dts, mpc, rm, tak, "
            "tta, wv), the best that is there for each",
        ),
        (
            {"torchcodec": NO_FFMPEG},
            "sound is decoded by soundfile 1.0 (wav, flac, ogg, aiff, caf, w64, au, voc, nist), PyAV 2.0 (mp3, opus, "
            "m4a, aac, mka, streamed flac, wma, ac3, amr, ape, dsf, dts, mpc, rm, tak, tta, wv), the best that is "
            "there for each; torchcodec cannot be loaded (it finds no FFmpeg)",
        ),
        (
            {"torchcodec": None, "av": None},
            "sound is decoded by soundfile 1.0 (wav, flac, ogg, aiff, caf, w64, au, voc, nist, mp3, opus), nothing "
            "(m4a, aac, mka, streamed flac, wma, ac3, amr, ape, dsf, dts, mpc, rm, tak, tta, wv), the best that is "
            "there for each; pyav is not installed; torchcodec is not installed",
        ),
    ],
)
def test_one_line_says_what_decodes_what_and_why(libraries, changes, line):
    libraries(**changes)
    assert describe_decoders() == line


def test_a_decoder_that_is_asked_for_decodes_everything(libraries):
    assert DECODERS.choose("wav", "torchcodec") == "torchcodec"
    assert describe_decoders("torchcodec") == "sound is decoded by torchcodec 3.0 with FFmpeg 7, as asked for"


class Broken:
    """A module that cannot be loaded."""

    def __getattr__(self, name: str):
        raise OSError("libavutil.so.60: cannot open\nmore of it")


@pytest.mark.parametrize(
    ("decoder", "changes", "message"),
    [
        (
            "torchcodec",
            {"torchcodec": None},
            r'torchcodec is not installed; pip install "eyetoy\[torchcodec\]", and FFmpeg',
        ),
        (
            "torchcodec",
            {"torchcodec": NO_FFMPEG},
            r"torchcodec cannot be loaded \(it finds no FFmpeg\).* FFmpeg 4 to 9",
        ),
        ("torchcodec", {"torchcodec": Broken()}, r"torchcodec cannot be loaded \(libavutil.so.60: cannot open\); pip"),
        (
            "torchcodec",
            {"torchcodec": SimpleNamespace(__version__="0.1")},
            "torchcodec cannot be loaded .*ffmpeg_major_version",
        ),
        ("soundfile", {"soundfile": None}, r'soundfile is not installed; pip install "eyetoy\[audio\]"'),
        ("pyav", {"av": None}, r'pyav is not installed; pip install "eyetoy\[audio\]"'),
    ],
)
def test_a_decoder_that_is_asked_for_and_not_there_is_refused_with_what_to_install(
    libraries, decoder, changes, message
):
    libraries(**changes)
    for call in (lambda: describe_decoders(decoder), lambda: read_sound_bytes(b"RIFF", "a.wav", RATE, decoder)):
        with pytest.raises(MissingDecoderError, match=f"sound is to be decoded by {decoder}, but {message}"):
            call()


def test_a_kind_that_nothing_reads_is_refused_with_what_to_install(libraries):
    libraries(av=None, torchcodec=None)
    with pytest.raises(MissingDecoderError, match=r'nothing reads m4a files .* pip install "eyetoy\[audio\]"'):
        read_sound_bytes(b"x", "a.m4a", RATE)


def test_a_kind_that_the_decoder_does_not_read_is_refused():
    refused(whole("m4a"), "a.m4a", "soundfile", "soundfile does not read m4a files; the decoder should be auto")


@pytest.mark.parametrize("module", [files, decoders, kinds, sound, sound_integrity], ids=lambda module: module.__name__)
def test_a_library_that_is_not_there_stops_no_import(libraries, module):
    libraries(soundfile=None, av=None, torchcodec=None)
    runpy.run_path(module.__file__)
