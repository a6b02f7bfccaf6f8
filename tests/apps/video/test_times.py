"""Files whose first frame is late, and files with frames left out: whole ones are read, each frame at its time."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from eyetoy_train.media.errors import NotVideoError
from eyetoy_train.media.video import decode, open_video
from eyetoy_video.io.files import read_clips
from eyetoy_video.transforms.sampling import ClipSampling

RATE = 25
DROPPED = [0, 1, 2, 5, 6, 7, 8, 14, 15, 16, 17]  # slots of frames, of 18
TIMED = {"bf": "0"}  # frames in the order of their times, of which every container keeps track


def write(path, videos, slots, codec, *, sound=None, options=None):
    """Write frames that show their numbers in slots of 1/25 s, and perhaps sound from a second on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options or {})
        stream.height, stream.width, stream.pix_fmt = (
            videos.HEIGHT,
            videos.WIDTH,
            "yuvj420p" if codec == "mjpeg" else "yuv420p",
        )
        packets = []
        if sound is not None:
            track = container.add_stream("libopus" if path.suffix in (".webm", ".ogv") else "libmp3lame", rate=48000)
            size = track.codec_context.frame_size or 960
            for number in range(48000 // size):
                noise = np.random.default_rng(0).normal(0, 0.1, (1, size)).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
                frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
                frame.pts = int(sound * 48000) + number * size
                packets += track.encode(av.AudioResampler(track.codec_context.format, "mono").resample(frame)[0])
            packets += track.encode(None)
        for number, slot in enumerate(slots):
            frame = av.VideoFrame.from_ndarray(videos.bars(number), format="rgb24")
            frame.pts, frame.time_base = slot, Fraction(1, RATE)
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode(None)]:
            container.mux(packet)
    return path


LATE = {
    ".3gp": "mpeg4",
    ".flv": "flv",
    ".mkv": "libx264",
    ".mov": "libx264",
    ".mp4": "libx264",
    ".mpg": "mpeg2video",
    ".ogv": "libvpx",
    ".ts": "libx264",
    ".webm": "libvpx",
    ".wmv": "wmv2",
}


@pytest.mark.parametrize(
    ("suffix", "sound"),
    [
        *((suffix, None) for suffix in LATE),
        *((suffix, sound) for suffix in (".flv", ".mkv", ".mp4", ".ogv", ".ts", ".webm") for sound in (0.0, 1.6)),
    ],
)
def test_a_whole_file_whose_first_frame_is_late_is_read_and_a_cut_one_refused(tmp_path, videos, suffix, sound):
    path = write(tmp_path / f"late{suffix}", videos, range(40, 60), LATE[suffix], sound=sound)
    with open_video(path) as video:
        assert len(video.index) == 20
        assert video.index.seconds == pytest.approx(20 / RATE, abs=0.01)
    assert videos.numbers(read_clips(path, ClipSampling(4), decoder="pyav")) == [2, 7, 12, 17]
    if suffix not in (".mpg", ".ogv", ".ts", ".wmv"):  # which do not say how long they are
        content = path.read_bytes()
        for fraction in (0.4, 0.7):
            with pytest.raises(NotVideoError), open_video(content[: int(len(content) * fraction)]):
                pass


def test_an_mp4_cut_between_two_frames_is_refused(tmp_path, videos):
    path = tmp_path / "front.mp4"
    videos.numbered(path, 40, muxer={"movflags": "faststart"})
    content = path.read_bytes()
    with av.open(str(path)) as container:
        ends = sorted(packet.pos + packet.size for packet in container.demux() if packet.size)
    assert ends[-1] == len(content)
    with pytest.raises(NotVideoError, match="cut: 39 of its 40 frames"), open_video(content[: ends[-2]]):
        pass


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".avi", "mpeg4", {}),
        (".avi", "mpeg4", {"bf": "2"}),
        (".avi", "libx264", TIMED),
        (".avi", "mjpeg", {}),
        (".mkv", "libx264", {}),
        (".mp4", "libx264", {}),
        (".mov", "mpeg4", {}),
        (".ts", "libx264", {}),
        (".webm", "libvpx", {}),
        (".wmv", "wmv2", {}),
    ],
)
def test_frames_left_out_keep_the_times_of_the_others(tmp_path, videos, monkeypatch, suffix, codec, options):
    path = write(tmp_path / f"dropped{suffix}", videos, DROPPED, codec, options=options)
    with open_video(path) as video:
        index = video.index
        slots = [(time - index.times[0]) * index.tick * RATE for time in index.times]
        assert slots == pytest.approx(DROPPED, abs=0.05)
        every = decode(video, range(len(index)), "pyav")
        assert videos.numbers(every) == list(range(len(DROPPED)))
    # The middles of nine parts of two slots; a quarter of a slot earlier, so that rounding does not decide.
    shown = [max(number for number, slot in enumerate(DROPPED) if slot <= 2 * part + 0.75) for part in range(9)]
    assert shown == [0, 2, 2, 4, 6, 6, 6, 7, 9]
    read = read_clips(path, ClipSampling(9), decoder="pyav")
    assert sum(one != other for one, other in zip(videos.numbers(read), shown, strict=True)) <= 1


def test_an_avi_with_markers_of_repeated_frames_shows_the_frame_before(tmp_path, videos):
    """MPEG-4 has a mark of two bytes for a frame that is not coded; decoders give no frame for it."""
    plain, marked = write(tmp_path / "plain.avi", videos, range(8), "mpeg4", options={"g": "100"}), tmp_path / "m.avi"
    with av.open(str(plain)) as source, av.open(str(marked), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        slot = 0
        for packet in source.demux(video=0):
            if not packet.size:
                continue
            codes = [bytes(packet)]
            if slot == 3:  # a predicted frame, 5 bits of its time, and that it is not coded: three times
                codes += [b"\0\0\1\xb6" + (0b0101_0000_0100_1111 | time << 7).to_bytes(2, "big") for time in (4, 5, 6)]
            for code in codes:
                one = av.Packet(code)
                one.pts = one.dts = slot
                one.stream, one.time_base, one.is_keyframe = stream, Fraction(1, RATE), slot == 0
                target.mux(one)
                slot += 1
    with open_video(marked) as video:
        assert videos.numbers(decode(video, range(11))) == [0, 1, 2, 3, 3, 3, 3, 4, 5, 6, 7]


def test_times_that_jump_by_an_hour_are_no_times(tmp_path, videos):
    """As in a stream that was recorded twice into one file."""
    path = write(tmp_path / "joined.ts", videos, [*range(5), *range(90_000, 90_005)], "libx264")
    with open_video(path) as video:
        assert len(video.index) == 10
        assert video.index.seconds == pytest.approx(10 / RATE)
