"""Reading clips from real files: the right frames from every format, and a clear error from what is no video."""

from __future__ import annotations

import random
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from eyetoy_video.files import EXTENSIONS, UnreadableVideoError, read_clip

HEIGHT, WIDTH, BITS = 64, 96, 6
RATE = 25
CODECS = {
    ".3gp": ("mpeg4", {"g": "7"}),
    ".avi": ("mpeg4", {"bf": "2"}),
    ".flv": ("flv", {"g": "7"}),
    ".gif": ("gif", {}),
    ".m4v": ("mpeg4", {"bf": "2"}),
    ".mkv": ("libx264", {"g": "7"}),
    ".mov": ("mjpeg", {}),
    ".mp4": ("libx264", {}),
    ".mpeg": ("mpeg1video", {"bf": "2"}),
    ".mpg": ("mpeg2video", {"bf": "2", "g": "7"}),
    ".ts": ("libx264", {}),
    ".webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ".wmv": ("wmv2", {"g": "7"}),
}
FORMATS = {"gif": "rgb8", "mjpeg": "yuvj420p"}


def bars(number: int) -> np.ndarray:
    """A frame that shows its number in binary, as light and dark bars."""
    bits = [230 if number >> bit & 1 else 30 for bit in range(BITS)]
    return np.repeat(np.array(bits, np.uint8), WIDTH // BITS)[None, :, None].repeat(HEIGHT, 0).repeat(3, 2)


def numbers(clip: torch.Tensor) -> list[int]:
    """The numbers that a clip's frames show."""
    light = clip.float().mean((1, 2)).unflatten(1, (BITS, -1))[..., 4:-4].mean(2) > 130
    return (light * 2 ** torch.arange(BITS)).sum(1).tolist()


def write(path: Path, frames: list[np.ndarray], *, rotation: int = 0, muxer: dict[str, str] | None = None) -> Path:
    codec, options = CODECS[path.suffix]
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = FORMATS.get(codec, "yuv420p")
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def numbered(path: Path, count: int, **options) -> Path:
    return write(path, [bars(number) for number in range(count)], **options)


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path


def test_the_formats_tested_are_those_promised():
    assert tuple(CODECS) == EXTENSIONS


@pytest.mark.parametrize("suffix", EXTENSIONS)
def test_every_format_gives_its_frames_in_order(tmp_path, suffix):
    path = numbered(tmp_path / f"video{suffix}", 40)
    clip = read_clip(path, 40)
    assert clip.shape == (40, 3, HEIGHT, WIDTH)
    assert clip.dtype == torch.uint8
    assert numbers(clip) == list(range(40))


@pytest.mark.parametrize("suffix", EXTENSIONS)
def test_every_format_is_sampled_uniformly(tmp_path, suffix):
    """Of 40 frames, 4 parts of 10: the middle of each is the border of its 5th and 6th frame, and the 5th is taken."""
    path = numbered(tmp_path / f"video{suffix}", 40)
    assert numbers(read_clip(path, 4)) == [4, 14, 24, 34]
    assert numbers(read_clip(path, 1)) == [19]


@pytest.mark.parametrize("suffix", [".avi", ".gif", ".mkv", ".mp4", ".webm"])
def test_few_frames_are_repeated_evenly(tmp_path, suffix):
    assert numbers(read_clip(numbered(tmp_path / f"one{suffix}", 1), 3)) == [0, 0, 0]
    assert numbers(read_clip(numbered(tmp_path / f"three{suffix}", 3), 6)) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".mp4", "libx264", {"x264-params": "keyint=20:open-gop=1:bframes=3:b-adapt=0"}),
        (".avi", "libx264", {}),  # frames are reordered, but AVI does not say when they are shown
        (".mpeg", "mpeg1video", {"bf": "2", "g": "10"}),  # several frames in a packet share one time
    ],
)
def test_long_files_are_read_exactly(tmp_path, monkeypatch, suffix, codec, options):
    monkeypatch.setitem(CODECS, suffix, (codec, options))
    path = write(tmp_path / f"long{suffix}", [bars(number % 64) for number in range(256)])
    assert numbers(read_clip(path, 5)) == [number % 64 for number in (25, 76, 127, 178, 230)]
    assert numbers(read_clip(path, 256)) == [number % 64 for number in range(256)]


def test_frames_far_from_the_wanted_ones_are_not_decoded(tmp_path, monkeypatch):
    """Frames 100 to 119 cannot be decoded, and nobody notices: decoding jumps from frame 63 to frame 180."""
    monkeypatch.setitem(CODECS, ".mp4", ("libx264", {"x264-params": "keyint=20:min-keyint=20:scenecut=0"}))
    path = write(tmp_path / "long.mp4", [bars(number % 64) for number in range(256)])
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in packets[100:120]:
        content[position : position + size] = bytes(size)
    path.write_bytes(content)
    assert numbers(read_clip(path, 2)) == [63, 191 % 64]
    check_unreadable(path, num_frames=256)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm"])
@pytest.mark.parametrize("channel", range(3))
def test_channels_are_red_green_blue(tmp_path, suffix, channel):
    color = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    color[..., channel] = 255
    means = read_clip(write(tmp_path / f"color{suffix}", [color] * 3), 1)[0].float().mean((1, 2))
    assert means[channel] > 215
    assert np.delete(means.numpy(), channel).max() < 40


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_variable_frame_rate_is_sampled_in_time(tmp_path, suffix):
    """Frames 0 to 9 are shown in the first second, and only 10 and 11 after it."""
    path = tmp_path / f"variable{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number, milliseconds in enumerate([*range(0, 1000, 100), 1000, 1500]):
            frame = av.VideoFrame.from_ndarray(bars(number), format="rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert numbers(read_clip(path, 1, start=0, duration=0.5)) == [2]
    assert numbers(read_clip(path, 2, start=1.0)) == [10, 10]
    assert numbers(read_clip(path, 3, start=0.5, duration=0.9)) == [6, 9, 10]


def test_start_and_duration_choose_a_stretch(tmp_path):
    path = numbered(tmp_path / "video.mp4", 50)  # 2 seconds
    assert numbers(read_clip(path, 10, start=0.4, duration=0.4)) == list(range(10, 20))
    assert numbers(read_clip(path, 10, start=1.6)) == list(range(40, 50))
    assert numbers(read_clip(path, 10, start=1.6, duration=9)) == list(range(40, 50))
    assert numbers(read_clip(path, 10, duration=0.4)) == list(range(20, 30)), "the middle by default"
    with pytest.raises(ValueError, match=r"start is 2\.5 seconds.*2\.00"):
        read_clip(path, 10, start=2.5)


def test_random_sampling_takes_a_random_moment_of_each_part(tmp_path):
    path = numbered(tmp_path / "video.mp4", 40)
    drawn = [numbers(read_clip(path, 4, sampling="random")) for _ in range(40)]
    for part, chosen in enumerate(zip(*drawn, strict=True)):
        assert set(chosen) <= set(range(10 * part, 10 * part + 10))
        assert len(set(chosen)) > 5


def test_random_sampling_places_a_short_stretch_anywhere(tmp_path):
    path = numbered(tmp_path / "video.mp4", 50)
    starts = [numbers(read_clip(path, 1, duration=0.04, sampling="random"))[0] for _ in range(60)]
    assert min(starts) < 10
    assert max(starts) > 40


def test_random_sampling_draws_from_torch_alone(tmp_path):
    path = numbered(tmp_path / "video.mp4", 40)
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    def draw(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return numbers(read_clip(path, 8, sampling="random"))

    assert draw(1) == draw(1) != draw(2)
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    state = torch.get_rng_state()
    read_clip(path, 8)
    assert torch.equal(state, torch.get_rng_state()), "uniform sampling draws nothing"


def test_large_frames_are_scaled_down_and_small_ones_are_not_scaled_up(tmp_path):
    path = numbered(tmp_path / "video.mp4", 40)
    clip = read_clip(path, 40, short_side=32)
    assert clip.shape == (40, 3, 32, 48)
    assert torch.equal(read_clip(path, 40, short_side=64), read_clip(path, 40, short_side=500))
    full = torch.nn.functional.avg_pool2d(read_clip(path, 40).float(), 2)
    assert (clip.float() - full).abs().mean() < 4


@pytest.mark.parametrize(("rotation", "bright_edge"), [(90, "bottom"), (-90, "top"), (180, "right")])
def test_frames_are_turned_upright(tmp_path, rotation, bright_edge):
    """The file's pixels are bright at their left edge, and its header says by how much to turn them."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[:, :16] = 255
    clip = read_clip(write(tmp_path / "phone.mp4", [frame] * 3, rotation=rotation), 1)[0].float().mean(0)
    edges = {"top": clip[:8], "bottom": clip[-8:], "left": clip[:, :8], "right": clip[:, -8:]}
    assert edges[bright_edge].mean() > 240
    assert clip.shape == ((HEIGHT, WIDTH) if rotation == 180 else (WIDTH, HEIGHT))


def test_sound_beside_the_video_is_ignored(tmp_path):
    path = tmp_path / "both.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        video = container.add_stream("libx264", rate=RATE)
        video.height, video.width, video.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        for stream, frames in ((sound, [silence]), (video, [bars(number) for number in range(25)])):
            for frame in frames:
                picture = frame if stream is sound else av.VideoFrame.from_ndarray(frame, format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    assert numbers(read_clip(path, 25)) == list(range(25))


def check_unreadable(path: Path, *words: str, num_frames: int = 4) -> None:
    with pytest.raises(UnreadableVideoError) as raised:
        read_clip(path, num_frames)
    for word in (str(path), "expected a whole video file", ".mp4", *words):
        assert word in str(raised.value)


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "empty.mp4").touch()
    check_unreadable(tmp_path / "empty.mp4", "0 bytes")
    (tmp_path / "text.mp4").write_text("Dear diary,\n" * 500)
    check_unreadable(tmp_path / "text.mp4", "FFmpeg")
    (tmp_path / "noise.avi").write_bytes(np.random.default_rng(0).bytes(20_000))
    check_unreadable(tmp_path / "noise.avi", "FFmpeg")
    check_unreadable(write_sound(tmp_path / "sound.mp4"), "no video", "audio")
    check_unreadable(write_sound(tmp_path / "sound.mkv"), "no video", "audio")


def test_a_wave_file_under_a_false_name_is_no_video(tmp_path):
    with wave.open(str(tmp_path / "sound.mp4"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    check_unreadable(tmp_path / "sound.mp4", "no video")


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("suffix", [".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".webm"])
def test_cut_files_are_refused(tmp_path, suffix, fraction):
    check_unreadable(cut(numbered(tmp_path / f"video{suffix}", 40), fraction))


@pytest.mark.parametrize("fraction", [0.5, 0.99])
@pytest.mark.parametrize("suffix", [".m4v", ".mov", ".mp4"])
def test_cut_files_with_their_index_in_front_are_refused(tmp_path, suffix, fraction):
    check_unreadable(cut(numbered(tmp_path / f"video{suffix}", 40, muxer={"movflags": "faststart"}), fraction))


def cut(path: Path, fraction: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    return path


def test_damaged_frames_are_refused(tmp_path):
    path = numbered(tmp_path / "video.mp4", 40)
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat")
    content[begin + 4 : begin + 4000] = bytes(3996)
    path.write_bytes(content)
    check_unreadable(path)


def test_a_missing_file_is_a_missing_file(tmp_path):
    for path in (tmp_path / "missing.mp4", tmp_path):
        with pytest.raises(FileNotFoundError, match=str(path)):
            read_clip(path, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "num_frames.*1 or more.*0"),
        ({"start": -1.0}, "start.*0 seconds.*-1"),
        ({"start": float("nan")}, "start.*nan"),
        ({"duration": 0.0}, "duration.*more than 0.*0"),
        ({"sampling": "middle"}, "uniform.*random.*middle"),
        ({"short_side": 0}, "short_side.*1 pixel.*0"),
    ],
)
def test_bad_arguments_say_what_would_be_right(tmp_path, arguments, message):
    path = numbered(tmp_path / "video.mp4", 2)
    with pytest.raises(ValueError, match=message):
        read_clip(path, **({"num_frames": 4} | arguments))
