"""A folder full of damaged and odd pictures: what is readable is trained on, what is not is counted and named."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyetoy_image.classification import APP
from eyetoy_image.io.files import UnreadableImageError, read_image
from eyetoy_train import UnreadableFileError, train

COUNT = 10
NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def encode(image=None, kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(NOISE) if image is None else image).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(NOISE + shift) for shift in range(3)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


def bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def palette_with_transparency() -> bytes:
    return encode(Image.fromarray(NOISE).quantize(16), transparency=bytes(range(0, 160, 10)))


UNREADABLE = {
    "empty.png": b"",
    "text.jpg": b"not a picture",
    "page.jpeg": b"<!DOCTYPE html><html><body>404</body></html>",
    "random.webp": np.random.default_rng(1).bytes(500),
    "cut.png": cut(encode()),
    "cut.jpg": cut(encode(kind="JPEG")),
    "cut.gif": cut(encode(kind="GIF")),
    "cut.webp": cut(encode(kind="WEBP")),
    "cut.bmp": cut(encode(kind="BMP")),
    "header.png": encode()[:30],
    "wrong_sum.png": flip_a_byte(encode()),
    "float.tiff": encode(Image.fromarray(NOISE[..., 0].astype(np.float32)), "TIFF"),
    "bomb.png": bomb(),
}
ODD = {
    "deep.png": encode(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)),
    "cmyk.jpg": encode(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    "palette.png": palette_with_transparency(),
    "animated.gif": animation("GIF"),
    "one_pixel.png": encode(Image.new("RGB", (1, 1))),
    "wrong_name.jpg": encode(),
    "transparent.webp": encode(Image.fromarray(NOISE).convert("RGBA"), "WEBP"),
}


def write_folder(root: Path) -> None:
    """Write 20 kinds of files, ten each, spread over two classes, and 30 plain pictures of each class."""
    assert len(UNREADABLE) + len(ODD) == 20
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for index in range(30):
            (root / name / f"plain-{index}.png").write_bytes(encode())
    for index in range(COUNT):
        for name, content in (UNREADABLE | ODD).items():
            (root / "ab"[index % 2] / f"{index}-{name}").write_bytes(content)


def task(root: Path, output: Path, **options):
    recipe = APP.recipe(epochs=1, batch_size=16, output_dir=str(output), trackers=[])
    recipe.model.name = "timm/test_vit"
    recipe.data.root, recipe.data.image_size = str(root), 160
    for name, value in options.items():
        setattr(recipe.data, name, value)
    return APP.task(recipe)


def test_what_cannot_be_read_is_left_out_counted_and_named(tmp_path, capfd):
    write_folder(tmp_path / "pictures")
    skipping = task(tmp_path / "pictures", tmp_path / "run", unreadable="skip")
    results = train(skipping, skipping.recipe)
    lines = capfd.readouterr().out.splitlines()
    named = [line for line in lines if "cannot read" in line]
    assert f"skipped {COUNT * len(UNREADABLE)} of 260 files, which cannot be read:" in lines
    for index in range(COUNT):
        for name in UNREADABLE:
            assert sum(f"/{index}-{name} as a picture" in line for line in named) == 1
    assert len(named) == COUNT * len(UNREADABLE)
    sizes = [len(skipping.dataset(split)) for split in ("train", "val", "test")]
    assert sum(sizes) == 60 + COUNT * len(ODD)
    assert results["test"]["count"] == sizes[2]


def test_whole_files_are_not_read_again_unless_they_change(tmp_path, capfd, monkeypatch):
    root = tmp_path / "pictures"
    write_folder(root)
    task(root, tmp_path / "run", unreadable="skip").prepare()
    (root / "a" / "0-empty.png").write_bytes(encode())
    (root / "b" / "plain-3.png").write_bytes(b"")
    capfd.readouterr()
    again = task(root, tmp_path / "run", unreadable="skip")
    read = []
    load = again.load_sample
    monkeypatch.setattr(again, "load_sample", lambda path, training: read.append(path) or load(path, training=training))
    again.prepare()
    whole = [path.name for path in read if path.name.partition("-")[2] not in UNREADABLE]
    assert whole == ["plain-3.png"]
    assert len(read) == 1 + COUNT * len(UNREADABLE)
    said = capfd.readouterr().out
    assert "plain-3.png" in said
    assert "0-empty.png" not in said


def noted(read: list[Path], load: Callable[..., object], path: Path, *, training: bool) -> object:
    """Note a path before it is loaded."""
    read.append(path)
    return load(path, training=training)


def test_whole_files_of_one_reading_are_read_again_for_another(tmp_path, monkeypatch):
    root = tmp_path / "pictures"
    write_folder(root)
    read: list[Path] = []
    numbers: dict[str, list[int]] = {"white": [], "black": []}
    for background in ("white", "black", "white"):
        one = task(root, tmp_path / "run", unreadable="skip", background=background)
        monkeypatch.setattr(one, "load_sample", partial(noted, read, one.load_sample))
        read.clear()
        one.prepare()
        numbers[background].append(sum(path.name.startswith("plain") for path in read))
    assert numbers == {"white": [60, 0], "black": [60]}


def test_the_first_damaged_file_stops_a_run_unless_asked_otherwise(tmp_path):
    write_folder(tmp_path / "pictures")
    strict = task(tmp_path / "pictures", tmp_path / "run")
    with pytest.raises(UnreadableFileError, match=r"cannot read .*/pictures/[ab]/\d-.* as a picture"):
        train(strict, strict.recipe)


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_read_whole(tmp_path, name):
    (tmp_path / name).write_bytes(ODD[name])
    colour, gray = (read_image(tmp_path / name, grayscale=grayscale) for grayscale in (False, True))
    assert (colour.shape[0], gray.shape[0]) == (3, 1)
    if name == "one_pixel.png":
        assert colour.shape == (3, 1, 1)
        return
    expected = NOISE.transpose(2, 0, 1).astype(float)
    if name == "deep.png":
        assert np.array_equal(gray[0], NOISE[..., 0])
    elif name == "wrong_name.jpg":
        assert np.array_equal(colour, expected)
    else:  # lossy, yet the same picture
        assert np.corrcoef(colour.flatten(), expected.flatten())[0, 1] > 0.5


def test_pixels_of_no_known_range_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 2**20, dtype=np.int32)).save(tmp_path / "x.tiff")
    with pytest.raises(UnreadableImageError, match="32-bit numbers of no known range"):
        read_image(tmp_path / "x.tiff", grayscale=False)
