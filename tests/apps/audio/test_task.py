"""Sounds on their way to the model: windows, padding, features, labels, mixing."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import default_collate

from eyetoy_audio.app import APP
from eyetoy_audio.recipe import AudioAugmentation, AudioClassificationRecipe, AudioData, MelFeatures
from eyetoy_train import ModelRecipe, train

RATE = 2000
STILL = {"speed": 0.0, "shift": 0.0, "noise_probability": 0.0, "gain": 0.0}
MEL = {"num_bands": 16, "window_ms": 32, "hop_ms": 16}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tones of two pitches and of many lengths."""
    generator = np.random.default_rng(0)
    for pitch in (200, 400):
        for number in range(10):
            length = int(generator.integers(300, 3000))
            tone = 0.5 * np.sin(2 * np.pi * pitch * np.arange(length) / RATE + number)
            path = tmp_path / "tones" / str(pitch) / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone, RATE)
    return tmp_path / "tones"


def build_recipe(
    root: Path, model: str = "eyetoy1d_pico", mel: dict | None = None, **data
) -> AudioClassificationRecipe:
    augmentation = AudioAugmentation(**data.pop("augmentation", STILL))
    stem = {"stem_strides": [4, 4]} if model.startswith("eyetoy1d") else {}
    return AudioClassificationRecipe(
        model=ModelRecipe(name=model, **stem, **data.pop("model_options", {})),
        data=AudioData(
            root=str(root), sample_rate=RATE, augmentation=augmentation, mel=MelFeatures(**(mel or MEL)), **data
        ),
        output_dir=str(root.parent / "run"),
        epochs=1,
        batch_size=4,
        trackers=[],
    )


@pytest.mark.parametrize("features", ["waveform", "log_mel"])
def test_a_padded_clip_gets_the_logits_that_it_gets_alone(features, folder):
    recipe = build_recipe(folder, seconds=1.5, padding="mask", features=features)
    if features == "log_mel":
        recipe.model.stem_strides = [1]
    task = APP.task(recipe)
    task.prepare()
    torch.manual_seed(0)
    model = task.build_model().eval()
    dataset = task.dataset("train")
    examples = [dataset[i] for i in range(len(dataset))]
    lengths = [int(example["length"]) for example in examples]
    assert min(lengths) < max(lengths) == 3000 - (3000 - max(lengths))
    together = task.outputs(model, default_collate(examples))
    for example, length, logits in zip(examples, lengths, together, strict=True):
        alone = {"input": example["input"][None, :, :length]}
        torch.testing.assert_close(task.outputs(model, alone)[0], logits, atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing_that_is_heard(folder):
    silent, masked = (APP.task(build_recipe(folder, seconds=2, padding=padding)) for padding in ("silence", "mask"))
    raw = torch.randn(1, 1001)
    both, end = (task.example(raw, training=False) for task in (silent, masked))
    assert "length" not in both
    assert int(end["length"]) == 1001
    assert both["input"].shape == end["input"].shape == (1, 4000)
    heard = both["input"][:, 1499:2500]
    assert not both["input"][:, :1499].any()
    assert not end["input"][:, 1001:].any()
    # The level is of all that the model hears, silence included, where it hears that.
    torch.testing.assert_close(heard / heard.square().mean().sqrt(), end["input"][:, :1001])


@pytest.mark.parametrize("padding", ["silence", "mask"])
def test_an_evaluation_hears_windows_of_a_long_clip(padding, folder):
    task = APP.task(build_recipe(folder, seconds=0.1, padding=padding, windows=3))
    raw = torch.randn(1, 1000)
    example = task.example(raw, training=False)
    assert example["input"].shape == (3, 1, 200)
    for window, start in zip(example["input"], (0, 400, 800), strict=True):
        part = raw[:, start : start + 200]
        torch.testing.assert_close(window, part / part.square().mean().sqrt())
    assert task.example(raw, training=True)["input"].shape == (1, 200)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("eyetoy1d_pico", {"padding": "mask", "augmentation": {"mixup": 0.5}}),
        ("eyetoy1d_pico", {"features": "log_mel", "padding": "mask", "augmentation": {"time_masks": 1, "mixup": 0.2}}),
        ("eyetoy2d_pico", {"features": "log_mel_image", "windows": 2, "augmentation": {"frequency_masks": 1}}),
        ("baseline/m5", {"model_options": {"options": {"width": 8}}}),
        ("baseline/matchboxnet", {"model_options": {"options": {"channels": 8}}}),
    ],
)
def test_every_kind_of_input_trains_and_ends_with_sounds_to_hear(model, options, folder):
    recipe = build_recipe(folder, model, **options)
    results = train(APP.task(recipe), recipe)
    assert results["test"]["count"] == 4
    sounds = sorted((folder.parent / "run" / "samples").glob("*.wav"))
    assert len(sounds) == 4
    assert all(soundfile.info(path).samplerate == RATE for path in sounds)


def test_clips_with_several_labels_train(folder):
    clips = sorted(folder.rglob("*.wav"))
    for split, part in (("train", clips[::2]), ("val", clips[1::2])):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            rows = [(path.relative_to(folder), f"{path.parent.name};tone") for path in part]
            csv.writer(file).writerows([("file", "labels"), *rows])
    recipe = build_recipe(folder, source="tagged", augmentation={"mixup": 0.5})
    results = train(APP.task(recipe), recipe)
    assert set(results["val"]) == {"mAP", "f1", "loss", "count"}
    assert "average precision" in (folder.parent / "run" / "report.html").read_text()


def test_mixing_makes_a_clip_as_long_as_its_longer_half(folder):
    task = APP.task(build_recipe(folder, seconds=1, padding="mask", augmentation=STILL | {"mixup": 1.0}))
    task.prepare()
    lengths = torch.tensor([500, 2000, 1000])
    x = (torch.arange(2000) < lengths[:, None]).float()[:, None]
    torch.manual_seed(0)
    mixed = task.augment({"input": x, "label": torch.tensor([0, 1, 0]), "length": lengths})
    assert torch.equal((mixed["input"][:, 0] > 0).sum(-1), mixed["length"])
    torch.testing.assert_close(mixed["label"].sum(-1), torch.ones(3))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("eyetoy1d_pico", {"windows": 0}, "windows must be at least 1; got 0"),
        ("eyetoy2d_pico", {"features": "log_mel_image", "padding": "mask"}, "data.padding must be silence"),
        ("eyetoy1d_pico", {"augmentation": {"time_masks": 1}}, "hide log-mel features, and data.features is waveform"),
        ("baseline/m5", {"padding": "mask"}, "baseline/m5 needs silence"),
        ("baseline/m6", {}, "no baseline named 'm6'; there are m5, matchboxnet, vit1d"),
        ("baseline/m5", {"features": "log_mel"}, "m5 takes waveforms of 1 channel.*got 16 channels"),
    ],
)
def test_what_does_not_go_together_is_refused(model, options, message, folder):
    with pytest.raises(ValueError, match=message):
        APP.task(build_recipe(folder, model, **options)).build_model()


def test_the_parts_of_a_long_sound_are_heard_as_sounds_of_their_own(folder, tmp_path):
    long = 0.1 * torch.randn(1, 10 * RATE)
    soundfile.write(tmp_path / "long.wav", long[0].numpy(), RATE, subtype="FLOAT")
    task = APP.task(build_recipe(folder, seconds=1.0, padding="mask"))
    parts = list(task.parts(tmp_path / "long.wav", 2.6))
    assert [(start, end) for start, end, _ in parts] == [(0, 2.5), (2.5, 5), (5, 7.5), (7.5, 10)]
    for start, end, example in parts:
        soundfile.write(tmp_path / "part.wav", long[0, int(start * RATE) : int(end * RATE)].numpy(), RATE, "FLOAT")
        alone = task.example(task.load_sample(tmp_path / "part.wav", training=False), training=False)
        assert torch.equal(example["input"], alone["input"])
        assert example["length"] == alone["length"] == RATE
    with pytest.raises(ValueError, match="at least 1/2000 seconds, one sample; got 0.0001"):
        next(task.parts(tmp_path / "long.wav", 1e-4))
