"""Files that announce far more than they hold are refused before memory is taken for it, or read to their end."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from eyetoy import create_model
from eyetoy_image.io.files import MOST_PIXELS
from eyetoy_train.media.mp4 import excess_of_samples

MOST_MEGABYTES = 200
"""What a refusal may take: the reading of any file of the kind takes some of it, for the library's own tables."""


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compressobj(9)
    line = bytes(width + 1)
    content = b"".join(rows.compress(line) for _ in range(min(height, 2_000))) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"


def bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


PICTURES = {
    "50,000 x 50,000.png": png(50_000, 50_000),
    "12,000 x 12,000.png": png(12_000, 12_000),  # Pillow itself warns of it, and opens it
    "65,535 x 65,535.gif": gif(65_535, 65_535),
    "100,000 x 100,000.bmp": bmp(100_000, 100_000),
    "50,000 x 50,000.ppm": b"P6 50000 50000 255\n" + bytes(100),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("call", ["read_image(path, grayscale=False)", "read_values(path)"])
def test_pictures(name, call, tmp_path, measured):
    path = tmp_path / name
    path.write_bytes(PICTURES[name])
    said, megabytes = measured(call, path)
    assert said.startswith("refused: ")
    assert "pixels" in said
    assert megabytes < MOST_MEGABYTES


def test_the_largest_picture_that_is_read_and_the_smallest_that_is_not(tmp_path, measured):
    for height, expected in ((MOST_PIXELS // 2**14, "(1, 8192, 16384)"), (MOST_PIXELS // 2**14 + 1, "refused: ")):
        path = tmp_path / f"{height}.png"
        Image.new("1", (2**14, height)).save(path)
        said, _ = measured("tuple(read_image(path, grayscale=True).shape)", path)
        assert said.startswith(expected)


def wav(announced: int) -> bytes:
    """A tenth of a second whose header announces so many bytes."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(800), 8_000, format="WAV")
    content = bytearray(file.getvalue())
    content[4:8] = content[40:44] = struct.pack("<I", announced)
    return bytes(content)


@pytest.mark.parametrize(
    ("announced", "expected"),
    [
        (2**32 - 2, "read"),  # what a program that writes into a pipe announces, which knows no length
        (2**31 - 2, "read"),
        (0x7FFE_0000, "refused: "),
        (10**9, "refused: "),
    ],
)
def test_a_wav_header_that_claims_gigabytes(announced, expected, tmp_path, measured):
    path = tmp_path / "x.wav"
    path.write_bytes(wav(announced))
    said, megabytes = measured("read_sound(path, 8000).shape[1]", path)
    assert said.startswith("800" if expected == "read" else expected)
    assert megabytes < MOST_MEGABYTES


def flac(samples: int) -> bytes:
    """A tenth of a second whose header counts so many samples."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(800), 8_000, format="FLAC")
    content = bytearray(file.getvalue())
    packed = int.from_bytes(content[18:26], "big") & ~(2**36 - 1) | samples
    content[18:26] = packed.to_bytes(8, "big")
    return bytes(content)


def test_a_flac_header_that_claims_two_years(tmp_path, measured):
    path = tmp_path / "x.flac"
    path.write_bytes(flac(2**36 - 1))
    said, megabytes = measured("read_sound(path, 8000)", path)
    assert said.startswith("refused: UnreadableSoundError")
    assert megabytes < MOST_MEGABYTES


def movie(width: int = 32, height: int = 32, frames: int = 20, *, fragmented: bool = False) -> bytes:
    file = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"} if fragmented else {}
    with av.open(file, "w", format="mp4", options=options) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            pixels = np.full((height, width, 3), index * 10 % 255, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode(None))
    return file.getvalue()


def claiming(count: int, boxes: tuple[bytes, ...] = (b"stsz", b"stsc", b"stts")) -> bytes:
    """A film of twenty frames whose tables give all samples one size, and announce so many."""
    content = bytearray(movie())
    number = struct.pack(">I", count)
    places = {b"stsz": (8, struct.pack(">I", 1) + number), b"stsc": (16, number), b"stts": (12, number)}
    for name in boxes:
        offset, value = places[name]
        at = content.index(name) + offset
        content[at : at + len(value)] = value
    return bytes(content)


def claiming_in_a_fragment(count: int) -> bytes:
    content = bytearray(movie(fragmented=True))
    at = content.index(b"trun")
    content[at + 4 : at + 12] = struct.pack(">II", 0, count)  # no fields of each sample's own
    return bytes(content)


FILMS = {f"{count:.0e} frames": claiming(count) for count in (10**5, 10**7, 10**9)}
FILMS["1e+09 frames of a fragment"] = claiming_in_a_fragment(10**9)


@pytest.mark.parametrize("name", FILMS)
def test_a_video_that_claims_a_billion_frames(name, tmp_path, measured):
    path = tmp_path / "x.mp4"
    path.write_bytes(FILMS[name])
    said, megabytes = measured("read_clips(path, ClipSampling(num_frames=8))", path)
    assert said.startswith("refused: UnreadableVideoError")
    assert "announces" in said
    assert megabytes < MOST_MEGABYTES


def test_a_whole_video_announces_what_it_holds(tmp_path):
    for content in (movie(), movie(fragmented=True)):
        (tmp_path / "x.mp4").write_bytes(content)
        assert excess_of_samples(tmp_path / "x.mp4") is None
        assert excess_of_samples(content) is None
        for end in range(0, len(content), 7):  # wherever it is cut
            assert excess_of_samples(content[:end]) is None or end < 100


def test_a_sound_of_mp4_is_looked_at_too(tmp_path, measured):
    path = tmp_path / "x.m4a"
    path.write_bytes(claiming(10**9))
    said, megabytes = measured("read_sound(path, 8000)", path)
    assert "announces 1,000,000,000 samples" in said
    assert megabytes < MOST_MEGABYTES


def test_frames_of_gigabytes(tmp_path, measured):
    """A file whose every frame is black is small, whatever their size."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 8192, 4097, "gray"
        container.mux(stream.encode(av.VideoFrame(8192, 4097, "gray")))
        container.mux(stream.encode(None))
    path = tmp_path / "x.mkv"
    path.write_bytes(file.getvalue())
    said, _ = measured("read_clips(path, ClipSampling(num_frames=8))", path)
    assert "its frames are of 8192 x 4097 pixels" in said


@pytest.mark.parametrize("kind", ["a long file", "many files", "a hole"])
def test_a_tar_file_of_zeros(kind, tmp_path, measured):
    """Of each, a sample announces more than 8 GiB, in a few kilobytes."""
    path = tmp_path / "train-0.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for number in range(9 if kind == "many files" else 1):
            member = tarfile.TarInfo(f"0.{number}")
            member.size = 2**20 if kind == "many files" else 2**33
            if kind == "a hole":
                fields = {"major": "1", "minor": "0", "realsize": str(2**33), "name": "0.jpg"}
                member.pax_headers = {f"GNU.sparse.{name}": value for name, value in fields.items()}
                member.size = 512
            file.write(member.tobuf(tarfile.PAX_FORMAT))
            file.write(f"1\n{2**33}\n0\n".encode().ljust(512, b"\0") if kind == "a hole" else bytes(2**20))
    limit = "setattr(sys.modules['eyetoy_train.data.streaming'], 'MOST_BYTES', 2**23)" if kind == "many files" else "0"
    said, megabytes = measured(f"[{limit}, *TarStream([path], dict).read(0)][1:]", path)
    assert said.startswith("refused: ValueError: cannot read")
    assert "announces" in said
    assert megabytes < MOST_MEGABYTES


CONFIGS = {
    "channels": lambda config: config["params"].update(stem_channels=2**24),
    "block": lambda config: config["params"]["transformer"][0].update(out_channels=2**20, mlp_ratio=1000.0),
    "classes": lambda config: config.update(num_classes=2**40),
    "depth": lambda config: config["params"]["global_attention"].update(depth=10**9),
    "registers": lambda config: config["params"]["global_attention"].update(num_register_tokens=2**36),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_config_of_a_giant_model(name, tmp_path, measured):
    create_model("eyetoy2d_pico", num_classes=3).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    CONFIGS[name](config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    said, megabytes = measured("load_classifier(path)", tmp_path)
    assert said.startswith("refused: CheckpointError")
    assert megabytes < MOST_MEGABYTES


def test_a_safetensors_header_that_claims_terabytes(tmp_path, measured):
    create_model("eyetoy2d_pico", num_classes=3).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    for header in (
        {"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"x": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 0]}},
    ):
        text = json.dumps(header).encode()
        weights.write_bytes(struct.pack("<Q", len(text)) + text)
        said, megabytes = measured("load_classifier(path)", tmp_path)
        assert said.startswith("refused: CheckpointError")
        assert megabytes < MOST_MEGABYTES
    weights.write_bytes(struct.pack("<Q", 2**62))
    assert measured("load_classifier(path)", tmp_path)[0].startswith("refused: ")


def test_an_annotation_that_draws_beyond_its_picture(measured):
    """pycocotools crashes on such polygons, or takes gigabytes."""
    for far in (1e300, 1e9, -1e9, 2**31, 1e6):
        said, megabytes = measured(f"read_mask([[0, 0, {far!r}, 0, 50, {far!r}]], 100, 100)")
        assert "a polygon must lie near its picture of 100 x 100 pixels" in said
        assert megabytes < MOST_MEGABYTES


def test_run_lengths_without_an_end(measured):
    said, _ = measured("read_mask({'size': [9, 9], 'counts': 'o' * 10**7}, 9, 9)")
    assert "no number at 'o'" in said


@pytest.mark.parametrize("size", ["0", "-1", "1e400", "100000", "NaN", '"x"', "null", "[]"])
def test_a_picture_of_an_impossible_size(size, tmp_path, measured):
    content = '{"images": [{"id": 1, "file_name": "a.png", "height": SIZE, "width": 2000}], '
    content += '"annotations": [], "categories": []}'
    path: Path = tmp_path / "x.json"
    path.write_text(content.replace("SIZE", size))
    said, _ = measured("read_coco(path, Path())", path)
    assert said.startswith("refused: ValueError")


def test_json_of_a_great_depth(tmp_path, measured):
    path = tmp_path / "x.json"
    path.write_text('{"images": ' + "[" * 10**6)
    said, _ = measured("read_coco(path, Path())", path)
    assert "x.json is no JSON file" in said
