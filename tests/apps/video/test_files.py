"""Reading clips from real files: the right frames from every format, by every decoder."""

from __future__ import annotations

import io
import random
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from eyetoy_train.media import decoders
from eyetoy_video.io.files import EXTENSIONS, UnreadableVideoError, read_clips
from eyetoy_video.transforms.sampling import ClipSampling

# Those that are written often; `tests/apps/test_formats.py` reads every other once.
FORMATS = (
    *(".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".ts", ".webm", ".wmv"),
)
UNTIMED = (".avi", ".mpeg", ".mpg", ".ts")


def if_there(decoder: str, *values):
    """Parameters of a test that needs a decoder."""
    problem = decoders.find(decoder).problem
    return pytest.param(*values, decoder, marks=pytest.mark.skipif(bool(problem), reason=problem or "it is there"))


def each_reader(suffixes):
    """Formats with the decoders that read them."""
    pairs = [(suffix, decoder) for suffix in suffixes for decoder in ("pyav", "torchcodec")]
    readers = [pair for pair in pairs if pair[0] not in UNTIMED or pair[1] == "pyav"]
    return pytest.mark.parametrize(("suffix", "decoder"), [if_there(decoder, suffix) for suffix, decoder in readers])


each_decoder = pytest.mark.parametrize("decoder", [if_there(name) for name in ("pyav", "torchcodec")])


@pytest.fixture(scope="module")
def forty(tmp_path_factory, videos):
    """A file of forty frames in every format."""
    folder = tmp_path_factory.mktemp("forty")
    return {suffix: videos.numbered(folder / f"video{suffix}", 40) for suffix in videos.CODECS}


def test_the_formats_tested_are_those_promised(videos):
    assert set(videos.CODECS) == set(FORMATS) <= set(EXTENSIONS)


@each_reader(FORMATS)
def test_every_format_gives_its_frames_in_order(forty, videos, suffix, decoder):
    clip = read_clips(forty[suffix], ClipSampling(40), decoder=decoder)
    assert clip.shape == (40, 3, videos.HEIGHT, videos.WIDTH)
    assert clip.dtype == torch.uint8
    assert videos.numbers(clip) == list(range(40))


@each_reader(FORMATS)
def test_every_format_is_sampled_uniformly(forty, videos, suffix, decoder):
    """Of 40 frames, 4 parts of 10: the middle of each is the border of its 5th and 6th frame, and the 5th is taken."""
    clips = read_clips(forty[suffix], ClipSampling(4), decoder=decoder)
    assert videos.numbers(clips) == [4, 14, 24, 34]
    assert videos.numbers(read_clips(forty[suffix], ClipSampling(1), decoder=decoder)) == [19]


@each_reader(FORMATS)
def test_what_a_file_holds_reads_as_the_file(forty, suffix, decoder):
    path = forty[suffix]
    expected = read_clips(path, ClipSampling(4), decoder=decoder)
    assert torch.equal(read_clips(path.read_bytes(), ClipSampling(4), decoder=decoder), expected)


@each_reader([".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm"])
def test_few_frames_are_repeated_evenly(tmp_path, videos, suffix, decoder):
    one, three = (videos.numbered(tmp_path / f"{count}{suffix}", count) for count in (1, 3))
    assert videos.numbers(read_clips(one, ClipSampling(3), decoder=decoder)) == [0, 0, 0]
    assert videos.numbers(read_clips(three, ClipSampling(6), decoder=decoder)) == [0, 0, 1, 1, 2, 2]
    run = ClipSampling(4, stride=2)
    assert videos.numbers(read_clips(three, run, decoder=decoder)) == [0, 2, 2, 2], "the last one is repeated"


LONG = [
    (".mp4", "libx264", {"x264-params": "keyint=20:open-gop=1:bframes=3:b-adapt=0"}),
    (".avi", "libx264", {}),  # frames are reordered, but AVI does not say when they are shown
    (".mpeg", "mpeg1video", {"bf": "2", "g": "10"}),  # several frames in a packet share one time
]


@pytest.mark.parametrize(
    ("suffix", "codec", "options", "decoder"),
    [*(if_there("pyav", *case) for case in LONG), if_there("torchcodec", *LONG[0])],
)
def test_long_files_are_read_exactly(tmp_path, monkeypatch, videos, suffix, codec, options, decoder):
    monkeypatch.setitem(videos.CODECS, suffix, (codec, options))
    path = videos.write(tmp_path / f"long{suffix}", [videos.bars(number % 64) for number in range(256)])
    five, all_of_it = (read_clips(path, ClipSampling(count), decoder=decoder) for count in (5, 256))
    assert videos.numbers(five) == [number % 64 for number in (25, 76, 127, 178, 230)]
    assert videos.numbers(all_of_it) == [number % 64 for number in range(256)]
    run = read_clips(path, ClipSampling(4, stride=5, clips=3), decoder=decoder)
    expected = [start + step for start in (40, 120, 200) for step in (0, 5, 10, 15)]
    assert videos.numbers(run) == [number % 64 for number in expected]


@each_decoder
def test_frames_far_from_the_wanted_ones_are_not_decoded(tmp_path, monkeypatch, videos, decoder):
    """Frames 100 to 119 cannot be decoded, and nobody notices: decoding jumps from frame 63 to frame 180."""
    monkeypatch.setitem(videos.CODECS, ".mp4", ("libx264", {"x264-params": "keyint=20:min-keyint=20:scenecut=0"}))
    path = videos.write(tmp_path / "long.mp4", [videos.bars(number % 64) for number in range(256)])
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in packets[100:120]:
        content[position : position + size] = bytes(size)
    path.write_bytes(content)
    assert videos.numbers(read_clips(path, ClipSampling(2), decoder=decoder)) == [63, 191 % 64]
    with pytest.raises(UnreadableVideoError, match=str(path)):
        read_clips(path, ClipSampling(256), decoder=decoder)


@each_reader([".mp4", ".avi", ".webm"])
@pytest.mark.parametrize("channel", range(3))
def test_channels_are_red_green_blue(tmp_path, videos, suffix, decoder, channel):
    color = np.zeros((64, 96, 3), np.uint8)
    color[..., channel] = 255
    path = videos.write(tmp_path / f"color{suffix}", [color] * 3)
    means = read_clips(path, ClipSampling(1), decoder=decoder)[0].float().mean((1, 2))
    assert means[channel] > 215
    assert np.delete(means.numpy(), channel).max() < 40


@each_reader([".mkv", ".mp4"])
def test_a_variable_frame_rate_is_sampled_in_time(tmp_path, videos, suffix, decoder):
    """Frames 0 to 9 are shown in the first second, and only 10 in the half after it; 11 is at the very end."""
    path = videos.write_timed(tmp_path / f"variable{suffix}", [*range(0, 1000, 100), 1000, 1500])
    assert videos.numbers(read_clips(path, ClipSampling(4), decoder=decoder)) == [1, 5, 9, 10]
    run = read_clips(path, ClipSampling(8, stride=2, rate=10), decoder=decoder)
    assert videos.numbers(run) == [0, 2, 4, 6, 8, 10, 10, 10]


@each_decoder
def test_large_frames_are_scaled_down_and_small_ones_are_not_scaled_up(forty, decoder):
    def read(short_side=None):
        return read_clips(forty[".mp4"], ClipSampling(40), short_side=short_side, decoder=decoder)

    clip = read(32)
    assert clip.shape == (40, 3, 32, 48)
    assert clip.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(read(64), read(500))
    assert (clip.float() - torch.nn.functional.avg_pool2d(read().float(), 2)).abs().mean() < 4


TURNS = {
    "as stored": ((1, 0, 0, 1), lambda x: x),
    "left": ((0, -1, 1, 0), np.rot90),
    "half": ((-1, 0, 0, -1), lambda x: x[::-1, ::-1]),
    "right": ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
}
MIRRORED = {
    "left to right": ((-1, 0, 0, 1), np.fliplr),
    "top to bottom": ((1, 0, 0, -1), np.flipud),
    "along the diagonal": ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
    "across the diagonal": ((0, -1, -1, 0), lambda x: np.rot90(x.swapaxes(0, 1), 2)),
}


@pytest.mark.parametrize(
    ("shown", "decoder"),
    [*(if_there(name, way) for way in TURNS for name in ("pyav", "torchcodec")), *((way, "pyav") for way in MIRRORED)],
)
def test_frames_are_turned_and_mirrored_as_the_file_says(tmp_path, videos, shown, decoder):
    """Three corners of the stored pixels differ."""
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:32, :48], frame[:32, 48:], frame[32:, :48] = 250, 160, 80
    display, expected = (TURNS | MIRRORED)[shown]
    path = videos.write(tmp_path / "phone.mp4", [frame] * 3, display=display)
    clip = read_clips(path, ClipSampling(1), decoder=decoder)[0].movedim(0, -1).numpy()
    assert clip.shape == expected(frame).shape
    assert np.abs(clip.astype(int) - expected(frame)).mean() < 5


def test_frames_with_data_that_pyav_does_not_know_are_turned(tmp_path):
    """Each is a JPEG with EXIF data, as cameras write them; these say to turn it to the right."""
    exif, jpeg = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:, :48] = 250
    Image.fromarray(frame).save(jpeg, "JPEG", exif=exif)
    with av.open(str(tmp_path / "camera.mov"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuvj420p"
        packet = av.Packet(jpeg.getvalue())
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        packet.is_keyframe = True
        container.mux(packet)
    clip = read_clips(tmp_path / "camera.mov", ClipSampling(1), decoder="pyav")[0].movedim(0, -1).numpy()
    assert np.abs(clip.astype(int) - np.rot90(frame, -1)).mean() < 5


@each_decoder
def test_sound_beside_the_video_is_ignored(tmp_path, videos, decoder):
    path = tmp_path / "both.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        video = container.add_stream("libx264", rate=videos.RATE)
        video.height, video.width, video.pix_fmt = 64, 96, "yuv420p"
        pictures = [av.VideoFrame.from_ndarray(videos.bars(number), format="rgb24") for number in range(25)]
        for stream, frames in ((sound, [videos.silence()]), (video, pictures)):
            for frame in [*frames, None]:
                container.mux(stream.encode(frame))
    assert videos.numbers(read_clips(path, ClipSampling(25), decoder=decoder)) == list(range(25))


def test_random_clips_draw_from_torch_alone(forty, videos):
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    def draw(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return videos.numbers(read_clips(forty[".mp4"], ClipSampling(8, random=True)))

    assert draw(1) == draw(1) != draw(2)
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    state = torch.get_rng_state()
    read_clips(forty[".mp4"], ClipSampling(8))
    assert torch.equal(state, torch.get_rng_state()), "an evaluation draws nothing"


def test_a_short_side_of_nothing_is_refused(forty):
    with pytest.raises(ValueError, match=r"short_side.*1 pixel.*0"):
        read_clips(forty[".mp4"], ClipSampling(1), short_side=0)
