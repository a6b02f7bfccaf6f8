"""The batch that a dry run draws: pictures, sounds and clips as the model gets them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from eyetoy_audio.app import APP as AUDIO
from eyetoy_image.app import APP as IMAGE
from eyetoy_train.media.encode import write_mp4
from eyetoy_video.app import APP as VIDEO


def write(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value)
    if path.suffix == ".png":
        Image.new("RGB", (16, 16), (value, 0, 0)).save(path)
    elif path.suffix == ".wav":
        soundfile.write(path, noise.uniform(-1, 1, 1600), 16000)
    else:
        write_mp4(path, noise.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8), 8)


COMMON = ("--dry_run", "--data.source", "folder", "--data.root", "set", "--batch_size", "4", "--output_dir", "run")
PICTURES = (
    "--model.name",
    "eyetoy2d_pico",
    "--model.stem_strides",
    "[2]",
    "--data.image_size",
    "16",
    "--data.grayscale",
    "false",
)
SOUNDS = ("--data.seconds", "0.1", "--data.padding", "silence", "--model.name")
CLIPS = ("--model.name", "eyetoy3d_pico", "--data.num_frames", "4", "--data.transform.size", "16")


@pytest.mark.parametrize(
    ("app", "suffix", "options"),
    [
        (IMAGE, ".png", (*PICTURES, "--data.augmentation.cutmix", "1", "--task", "classification")),
        (AUDIO, ".wav", (*SOUNDS, "eyetoy1d_pico")),
        (AUDIO, ".wav", (*SOUNDS, "eyetoy2d_pico", "--model.stem_strides", "[2]", "--data.features", "log_mel_image")),
        (VIDEO, ".mp4", (*CLIPS, "--model.stem_strides", "[[1, 2, 2]]")),
    ],
)
def test_a_batch_is_drawn(app, suffix, options, tmp_path, monkeypatch):
    for number in range(20):
        write(tmp_path / "set" / "ab"[number % 2] / f"{number}{suffix}", 100 + 5 * number)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as raised:
        app.train([*COMMON, *options])
    assert raised.value.code == 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["batch.png"]
    picture = np.asarray(Image.open(tmp_path / "run" / "batch.png").convert("RGB"))
    if app is IMAGE:  # the colours are those of the files: reds of 100 to 195 on the black of moved pictures
        red = picture[(picture[..., 0] > 90) & (picture[..., 1] < 10)]
        assert len(red) > 5000
        assert red[:, 0].max() <= 200
    else:
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
