"""Decoding of videos: the same frames by either library, other files refused by name, and the choice of a library."""

from __future__ import annotations

import random
import struct
import sys
import wave
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage import data

from eyetoy_train.media import decoders, video
from eyetoy_train.media.errors import MissingDecoderError
from eyetoy_train.media.video import describe_decoders
from eyetoy_video.io.files import UnreadableVideoError, read_clips
from eyetoy_video.transforms.sampling import ClipSampling
from helpers.forks import FORKS

MOST_FRAMES = 10**9
CUT = (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".webm")


def if_there(decoder: str):
    problem = decoders.find(decoder).problem
    return pytest.param(decoder, marks=pytest.mark.skipif(bool(problem), reason=problem or "it is there"))


each_decoder = pytest.mark.parametrize("decoder", [if_there("pyav"), if_there("torchcodec")])
by_torchcodec = pytest.mark.parametrize("decoder", [if_there("torchcodec")])


@pytest.fixture
def quiet(capfd):
    """Nothing is printed by libraries."""
    yield
    said = capfd.readouterr()
    assert said.out + said.err == ""


def refuse(source, *words: str, decoder: str = "pyav") -> None:
    with pytest.raises(UnreadableVideoError) as raised:
        read_clips(source, ClipSampling(4), decoder=decoder, name="clip.mp4" if isinstance(source, bytes) else None)
    for word in ("clip.mp4" if isinstance(source, bytes) else str(source), "expected a whole video file", *words):
        assert word in str(raised.value)


def photographs() -> list[np.ndarray]:
    """A view that moves over a photograph, which has all colours and fine detail."""
    return [data.astronaut()[step : step + 180, 2 * step : 2 * step + 240] for step in range(0, 60, 3)]


@by_torchcodec
@pytest.mark.parametrize("short_side", [None, 100])
@pytest.mark.parametrize(
    ("suffix", "pixels", "options"),
    [
        (".mp4", "yuv420p", {}),
        (".mkv", "yuv444p", {"colorspace": "bt709"}),
        (".mov", "yuvj420p", {}),
        (".webm", "yuv420p", {}),
        (".mp4", "yuv420p10le", {}),
    ],
)
def test_both_decoders_give_the_same_frames(
    tmp_path, monkeypatch, videos, quiet, decoder, suffix, pixels, options, short_side
):
    codec = videos.CODECS[suffix][0]
    monkeypatch.setitem(videos.CODECS, suffix, (codec, videos.CODECS[suffix][1] | options))
    monkeypatch.setitem(sys.modules[videos.write.__module__].FORMATS, codec, pixels)
    path = videos.write(tmp_path / f"moving{suffix}", photographs())
    pair = [
        read_clips(path, ClipSampling(6, clips=2), decoder=name, short_side=short_side).float()
        for name in ("pyav", decoder)
    ]
    assert pair[0].std() > 40
    assert (pair[0] - pair[1]).abs().mean() < (0.5 if "10" in pixels else 0.01)


@each_decoder
def test_what_is_no_video_is_named(tmp_path, videos, quiet, decoder):
    (tmp_path / "empty.mp4").touch()
    refuse(tmp_path / "empty.mp4", "0 bytes", decoder=decoder)
    (tmp_path / "text.mp4").write_text("Dear diary,\n" * 500)
    refuse(tmp_path / "text.mp4", "FFmpeg", decoder=decoder)
    (tmp_path / "noise.avi").write_bytes(np.random.default_rng(0).bytes(20_000))
    refuse(tmp_path / "noise.avi", "FFmpeg", decoder=decoder)
    refuse(videos.write_sound(tmp_path / "sound.mp4"), "no video", "audio", decoder=decoder)
    refuse(videos.write_sound(tmp_path / "sound.mkv"), "no video", "audio", decoder=decoder)
    refuse(b"", "0 bytes", decoder=decoder)


@each_decoder
def test_a_wave_file_under_a_false_name_is_no_video(tmp_path, quiet, decoder):
    with wave.open(str(tmp_path / "sound.mp4"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    refuse(tmp_path / "sound.mp4", "no video", decoder=decoder)


@pytest.fixture(scope="module")
def contents(tmp_path_factory, videos):
    """What files of forty frames hold, with the index at the end and in front."""
    folder = tmp_path_factory.mktemp("contents")
    found = {suffix: videos.numbered(folder / f"video{suffix}", 40).read_bytes() for suffix in CUT}
    for suffix in (".m4v", ".mov", ".mp4"):
        path = videos.numbered(folder / f"front{suffix}", 40, muxer={"movflags": "faststart"})
        found[f"front{suffix}"] = path.read_bytes()
    return found


@each_decoder
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("suffix", [*CUT, "front.m4v", "front.mov", "front.mp4"])
def test_cut_files_are_refused(contents, quiet, suffix, fraction, decoder):
    content = contents[suffix]
    refuse(content[: int(len(content) * fraction)], decoder=decoder)


@each_decoder
def test_a_file_that_lacks_its_last_bytes_is_refused(contents, decoder):
    content = contents["front.mp4"]
    refuse(content[: int(len(content) * 0.99)], decoder=decoder)


@each_decoder
def test_damaged_frames_are_refused(contents, quiet, decoder):
    content = bytearray(contents[".mp4"])
    begin = content.index(b"mdat")
    content[begin + 4 : begin + 4000] = bytes(min(3996, len(content) - begin - 4))
    refuse(bytes(content), decoder=decoder)


def claim(content: bytes, *places: tuple[bytes, int, str]) -> bytes:
    """Write the number of frames that nothing has into places after names in a header."""
    changed = bytearray(content)
    for name, offset, form in places:
        struct.pack_into(form, changed, content.index(name) + offset, MOST_FRAMES)
    return bytes(changed)


@each_decoder
@pytest.mark.parametrize("box", [b"stsz", b"stts", b"stsc", b"mvhd", b"tkhd"])
def test_an_mp4_that_claims_a_billion_frames_is_read_or_refused(contents, videos, quiet, box, decoder):
    """In its tables of sizes, times and chunks, and of its and its track's length."""
    content = claim(contents[".mp4"], (box, {b"stsc": 16, b"mvhd": 20, b"tkhd": 24}.get(box, 12), ">I"))
    if box == b"stsz":  # that many sizes are not there
        refuse(content, decoder=decoder)
    else:
        assert videos.numbers(read_clips(content, ClipSampling(4), decoder=decoder)) == [4, 14, 24, 34]


def test_an_avi_that_claims_a_billion_frames_is_read_or_refused(contents, videos, quiet):
    by_file = claim(contents[".avi"], (b"avih", 8 + 16, "<I"))
    assert videos.numbers(read_clips(by_file, ClipSampling(4))) == [4, 14, 24, 34]
    refuse(claim(by_file, (b"strh", 8 + 32, "<I")), "it was cut: 1.64 of its 40000000.00 seconds")


@each_decoder
@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4", ".webm"])
def test_what_is_changed_anywhere_is_read_or_refused(contents, quiet, suffix, decoder):
    """Nothing but UnreadableVideoError, whichever bytes are wrong."""
    draw, outcomes = random.Random(0), set()
    for _ in range(25):
        content = bytearray(contents[suffix])
        for _ in range(draw.choice((1, 4, 30))):
            content[draw.randrange(len(content))] = draw.randrange(256)
        try:
            assert read_clips(bytes(content), ClipSampling(4), short_side=16, decoder=decoder).shape[:2] == (4, 3)
            outcomes.add("read")
        except UnreadableVideoError:
            outcomes.add("refused")
    assert "refused" in outcomes


def test_a_missing_file_is_a_missing_file(tmp_path):
    for path in (tmp_path / "missing.mp4", tmp_path):
        with pytest.raises(FileNotFoundError, match=str(path)):
            read_clips(path, ClipSampling(4))


@pytest.fixture
def without(monkeypatch):
    """Act as if a library were not installed, or could not be loaded, or were there."""

    def act(*missing: str, failing: str = "", there: str = "") -> None:
        def version(name: str) -> str:
            if name in missing:
                raise ModuleNotFoundError(name)
            if name == failing:
                raise RuntimeError("Could not load libtorchcodec.\nLikely causes: many")
            return f"{name} 1.0"

        monkeypatch.setattr(decoders, "_version", version)
        decoders.find.cache_clear()

    yield act
    monkeypatch.undo()
    decoders.find.cache_clear()


def test_the_choice_and_its_reason_are_told_in_a_line(without):
    without()
    assert video.DECODERS.choose(video._TIMED) == "torchcodec"
    assert video.DECODERS.choose(video._COUNTED) == video.DECODERS.choose(video._TIMED, "pyav") == "pyav"
    assert describe_decoders() == (
        "videos are decoded by torchcodec 1.0 (most formats), pyav 1.0 (AVI and MPEG), the best that is there for each"
    )
    assert describe_decoders("pyav") == "videos are decoded by pyav 1.0, as asked for"


def test_without_torchcodec_pyav_decodes_and_the_reason_is_told(without):
    without("torchcodec")
    assert video.DECODERS.choose(video._TIMED) == "pyav"
    by_pyav = "videos are decoded by pyav 1.0 (most formats, AVI and MPEG), the best that is there for each"
    assert describe_decoders() == f"{by_pyav}; torchcodec is not installed"
    without(failing="torchcodec")
    assert describe_decoders() == f"{by_pyav}; torchcodec cannot be loaded (Could not load libtorchcodec.)"


def test_a_decoder_that_is_needed_and_not_there_is_told_with_what_installs_it(without, contents):
    without("torchcodec")
    with pytest.raises(
        MissingDecoderError, match=r"decoded by torchcodec, but.*not installed; pip install .*torchcodec.*FFm"
    ):
        describe_decoders("torchcodec")
    with pytest.raises(MissingDecoderError, match="torchcodec is not installed"):
        read_clips(contents[".mp4"], ClipSampling(4), decoder="torchcodec")
    without("pyav")
    for decoder in ("auto", "torchcodec", "pyav"):
        with pytest.raises(MissingDecoderError, match=r'pyav is not installed; pip install "eyetoy\[video\]"'):
            describe_decoders(decoder)
    with pytest.raises(MissingDecoderError, match="pyav is not installed"):
        read_clips(contents[".mp4"], ClipSampling(4))


@by_torchcodec
def test_torchcodec_is_not_asked_to_number_what_it_cannot(contents, decoder):
    with pytest.raises(
        UnreadableVideoError, match=r"clip.avi: torchcodec cannot number.*expected the decoder to be auto"
    ):
        read_clips(contents[".avi"], ClipSampling(4), decoder=decoder, name="clip.avi")


def test_what_torchcodec_cannot_read_is_left_to_pyav_unless_it_is_asked_for(without, monkeypatch, contents, videos):
    def fail(*arguments):
        raise RuntimeError("in decoder.cpp:12, no luck\nmore")

    without()
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(VideoDecoder=lambda *a, **options: fail()))
    assert videos.numbers(read_clips(contents[".mp4"], ClipSampling(4))) == [4, 14, 24, 34]
    refuse(contents[".mp4"], "torchcodec cannot read it (no luck)", decoder="torchcodec")


def test_torchcodec_is_told_when_frames_are_shown_and_reads_no_more_at_once_than_a_block(
    without, monkeypatch, contents, videos
):
    asked = []

    class VideoDecoder:
        def __init__(self, source, **options):
            assert source == contents[".mp4"]
            assert options["custom_frame_mappings"].count('"pts"') == 40

        def get_frames_at(self, numbers):
            asked.append(numbers)
            return SimpleNamespace(data=torch.stack([torch.from_numpy(videos.bars(number)) for number in numbers]))

    without()
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(VideoDecoder=VideoDecoder))
    clips = read_clips(contents[".mp4"], ClipSampling(12, stride=2, clips=3), short_side=32)
    assert len(clips) == 36
    assert all(numbers == sorted(set(numbers)) and len(numbers) <= video._BLOCK for numbers in asked)
    assert sum(map(len, asked)) < 36, "frames that two clips share are decoded once"


def test_neither_library_is_imported_before_a_video_is_read():
    code = "import sys, eyetoy_video.app; print({'av', 'torchcodec'} & sys.modules.keys())"
    done = FORKS.run(["-c", code])
    assert done.stdout.strip() == "set()"
