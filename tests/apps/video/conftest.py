"""Really encoded files whose frames show their own numbers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from eyetoy_train import ClassFolder
from eyetoy_video.datasets.source import missing_files
from eyetoy_video.io.files import read_clips
from eyetoy_video.transforms.sampling import ClipSampling

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


def write(
    path: Path,
    frames: list[np.ndarray],
    *,
    display: tuple[int, int, int, int] = (1, 0, 0, 1),
    muxer: dict[str, str] | None = None,
) -> Path:
    """Write frames to a file that says to show x at a * x + c * y and y at b * x + d * y, by `display` a, b, c, d."""
    codec, options = CODECS[path.suffix]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = FORMATS.get(codec, "yuv420p")
        if display != (1, 0, 0, 1):
            a, b, c, d = (side * 2**16 for side in display)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 2**30])
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def numbered(path: Path, count: int, **options) -> Path:
    return write(path, [bars(number) for number in range(count)], **options)


def write_timed(path: Path, milliseconds: list[int]) -> Path:
    """Frames that are shown at those times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number, time in enumerate(milliseconds):
            frame = av.VideoFrame.from_ndarray(bars(number), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        container.mux(stream.encode(silence()))
        container.mux(stream.encode(None))
    return path


def silence() -> av.AudioFrame:
    sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
    sound.sample_rate = 16000
    return sound


def cut(path: Path, fraction: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    return path


@pytest.fixture(scope="session")
def videos() -> SimpleNamespace:
    """Ways to write videos, and to read what their frames show."""
    writers = (bars, cut, numbered, numbers, silence, write, write_sound, write_timed)
    values = {"CODECS": CODECS, "HEIGHT": HEIGHT, "WIDTH": WIDTH, "RATE": RATE}
    return SimpleNamespace(**values, **{writer.__name__: writer for writer in writers})


@pytest.fixture(scope="session")
def copies(tmp_path_factory):
    """Write a short numbered video to many places, encoded once for each number of frames and suffix."""
    folder, made = tmp_path_factory.mktemp("copies"), {}

    def copy(*paths: Path, count: int = 2) -> None:
        for path in paths:
            if (count, path.suffix) not in made:
                made[count, path.suffix] = numbered(folder / f"{count}{path.suffix}", count).read_bytes()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made[count, path.suffix])

    return copy


@pytest.fixture(scope="session")
def check_read():
    """Check that all clips of a set are there, and none in two splits, and read some; return how many there are."""

    def check(found: ClassFolder) -> dict[str, int]:
        paths = [path for samples in found.splits.values() for path, _ in samples]
        assert len(paths) == len(set(paths))
        assert not missing_files(paths)
        for samples in found.splits.values():
            assert read_clips(samples[0][0], ClipSampling(2)).shape == (2, 3, HEIGHT, WIDTH)
        return {split: len(samples) for split, samples in found.splits.items()}

    return check
