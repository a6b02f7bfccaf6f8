"""A folder full of damaged and odd sounds: what is readable is trained on, what is not is counted and named."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from eyetoy_audio.app import APP
from eyetoy_train import UnreadableFileError, train

RATE = 8_000
COUNT = 2
NOISE = 0.1 * np.random.default_rng(0).standard_normal(RATE)


def encode(samples=NOISE, kind: str = "WAV", subtype: str | None = None, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def encode_m4a() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(NOISE[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def with_header(content: bytes, at: int, form: str, value: int) -> bytes:
    """A wav file with another value in its header."""
    return content[:at] + struct.pack(form, value) + content[at + struct.calcsize(form) :]


def with_value(value: float) -> bytes:
    return encode(np.concatenate([NOISE, [value]]), subtype="FLOAT")


UNREADABLE = {
    "empty.wav": b"",
    "text.wav": b"not a sound",
    "text.mp3": b"not a sound\n" * 500,
    "text.ogg": b"not a sound",
    "page.m4a": b"<!DOCTYPE html><html><body>404</body></html>",
    "picture.flac": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "random.opus": np.random.default_rng(1).bytes(500),
    "header.wav": encode()[:40],
    "no_samples.wav": encode(np.zeros(0)),
    "cut.wav": cut(encode()),
    "cut.flac": cut(encode(kind="FLAC")),
    "cut.mp3": cut(encode(np.tile(NOISE, 4), kind="MP3")),
    "cut.ogg": cut(encode(kind="OGG")),
    "cut.m4a": cut(encode_m4a()),
    "damaged.flac": flip_a_byte(encode(kind="FLAC")),
    "damaged.ogg": flip_a_byte(encode(kind="OGG")),
    "nan.wav": with_value(np.nan),
    "infinite.wav": with_value(np.inf),
    "an_hour.wav": with_header(encode(), 40, "<I", 2 * 3600 * RATE),
    "no_rate.wav": with_header(encode(), 24, "<I", 0),
}
ODD = {
    "8bit.wav": encode(subtype="PCM_U8"),
    "24bit.wav": encode(subtype="PCM_24"),
    "double.wav": encode(subtype="DOUBLE"),
    "telephone.wav": encode(subtype="ALAW"),
    "six.wav": encode(np.stack([NOISE] * 6, axis=1)),
    "fast.flac": encode(kind="FLAC", rate=96_000),
    "slow.wav": encode(NOISE[:9], rate=10),
    "silent.wav": encode(np.zeros(RATE)),
    "one_sample.wav": encode(NOISE[:1]),
    "wrong_name.mp3": encode_m4a(),
}
PLAIN = {
    "plain.wav": encode(),
    "plain.flac": encode(kind="FLAC"),
    "plain.mp3": encode(kind="MP3"),
    "plain.m4a": encode_m4a(),
}


def write_folder(root: Path) -> None:
    """Write 20 kinds of wrong files and 10 of odd ones, twice each, and 40 plain ones, spread over two classes."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    for index in range(COUNT):
        for name, content in (UNREADABLE | ODD).items():
            (root / "ab"[index] / f"{index}-{name}").write_bytes(content)
    for index in range(10):
        for name, content in PLAIN.items():
            (root / "ab"[index % 2] / f"{index}-{name}").write_bytes(content)


def task(root: Path, output: Path, unreadable: str):
    recipe = APP.recipe(epochs=1, batch_size=16, output_dir=str(output), trackers=[])
    recipe.model.name = "eyetoy1d_pico"
    recipe.data.root, recipe.data.sample_rate, recipe.data.seconds = str(root), RATE, 0.2
    recipe.data.unreadable = unreadable
    return APP.task(recipe)


def count_named(lines: list[str], start: str) -> dict[str, int]:
    """How many lines name each of the wrong files."""
    named = [line for line in lines if line.startswith(start)]
    names = [f"{index}-{name}" for index in range(COUNT) for name in UNREADABLE]
    return {name: sum(f"/{name}: " in line for line in named) for name in names}


def test_what_cannot_be_read_is_left_out_counted_and_named(tmp_path, capfd):
    root = tmp_path / "sounds"
    write_folder(root)
    skipping = task(root, tmp_path / "run", "skip")
    results = train(skipping, skipping.recipe)
    said = capfd.readouterr()
    assert "skipped 40 of 100 files, which cannot be read:" in said.out.splitlines()
    assert set(count_named(said.out.splitlines(), str(root)).values()) == {1}
    sizes = [len(skipping.dataset(split)) for split in ("train", "val", "test")]
    assert sum(sizes) == 60
    assert results["test"]["count"] == sizes[2]

    with pytest.raises(SystemExit) as ended:
        APP.predict([str(tmp_path / "run"), str(root)])
    said = capfd.readouterr()
    assert ended.value.code == 1
    assert set(count_named(said.err.splitlines(), f"skipped: {root}").values()) == {1}
    assert len(said.err.splitlines()) == 40  # and nothing that a library has to say
    assert len(said.out.splitlines()) == 60


def test_the_first_wrong_file_stops_a_run_unless_asked_otherwise(tmp_path):
    write_folder(tmp_path / "sounds")
    strict = task(tmp_path / "sounds", tmp_path / "run", "refuse")
    with pytest.raises(UnreadableFileError, match=r"/sounds/[ab]/[01]-.*: .*; ") as raised:
        train(strict, strict.recipe)
    assert any(f"-{name}: " in str(raised.value) for name in UNREADABLE)
