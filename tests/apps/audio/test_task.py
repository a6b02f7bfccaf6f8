"""Sounds on their way to the model: windows, padding, features, labels, mixing."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import default_collate

from eyetoy.params import FilterbankParams
from eyetoy_audio.app import APP
from eyetoy_audio.recipe import AudioAugmentation, AudioClassificationRecipe, AudioData, MelFeatures
from eyetoy_audio.transforms.waveform import num_windows, windows
from eyetoy_train import ModelRecipe, train
from eyetoy_train.classification import task as classification
from eyetoy_train.classification.predictor import ClassifierPredictor as Classifier

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


@pytest.mark.parametrize(("length", "count"), [(1, 1), (200, 1), (219, 1), (221, 2), (400, 2), (1000, 5), (10**8, 256)])
def test_windows_cover_a_sound_up_to_a_number_that_fits_in_memory(length, count):
    assert num_windows(length, 200) == count
    if length <= 1000:
        cut = windows(torch.arange(length, dtype=torch.float)[None], 200, None)
        assert len(cut) == count
        assert len(set(torch.cat(cut, 1).flatten().tolist())) >= length - 20, "all samples, but a small rest"


@pytest.mark.parametrize("options", [{}, {"padding": "mask"}, {"padding": "mask", "features": "log_mel"}], ids=str)
def test_a_long_sound_is_judged_by_the_mean_of_its_windows(options, folder, monkeypatch):
    """Whatever is beside it in the batch; a sound of one window gets the logits that it gets without windows."""
    monkeypatch.setattr(classification, "VIEWS_AT_ONCE", 4)
    recipe = build_recipe(folder, seconds=0.25, **options)
    if options.get("features") == "log_mel":
        recipe.model.stem_strides = [1]
    task, single = APP.task(recipe), APP.task(replace(recipe, data=replace(recipe.data, windows=1)))
    task.prepare()
    single.prepare()
    torch.manual_seed(0)
    model = task.build_model().eval()
    assert (task.num_views, single.num_views) == (None, 1)
    sounds = [torch.randn(1, length) for length in (2300, 400, 500, 1234, 900)]
    examples = [task.example(raw, training=False) for raw in sounds]
    assert [int(example.get("views", 1)) for example in examples] == [5, 1, 1, 3, 2]
    batch = task.collate([example | {"label": 1} for example in examples])
    assert batch["label"].shape == batch["views"].shape == (5,)
    with torch.no_grad():
        together = task.probabilities(task.outputs(model, batch))
        for raw, found in zip(sounds, together, strict=True):
            parts = [single.example(part, training=False) for part in windows(raw, 500, None)]
            each = single.probabilities(single.outputs(model, single.collate(parts)))
            torch.testing.assert_close(found, each.mean(0), atol=1e-5, rtol=1e-5)


def test_windows_reach_scores_predictions_vectors_and_maps(folder, tmp_path, capsys):
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).normal(0, 0.1, 5 * RATE), RATE)
    recipe = build_recipe(folder, seconds=0.25)
    results = train(APP.task(recipe), recipe)
    assert results["test"]["count"] == 4
    assert APP.task(recipe).protocol == "windows of 0.25 s over the whole sound"
    run = str(folder.parent / "run")
    APP.predict([run, str(tmp_path / "long.wav")])
    assert "long.wav  (20 windows)  " in capsys.readouterr().out
    for suffix in ("csv", "json"):
        output = tmp_path / f"found.{suffix}"
        APP.predict([run, str(tmp_path / "long.wav"), str(next(folder.rglob("*.wav"))), "--output", str(output)])
        text = output.read_text()
        rows = json.loads(text) if suffix == "json" else list(csv.DictReader(text.splitlines()))
        assert int(rows[0]["windows"]) == 20
    loaded = Classifier(APP.open(folder.parent / "run"))
    vectors = loaded.embed([tmp_path / "long.wav", next(folder.rglob("*.wav"))])
    alone = loaded.embed(tmp_path / "long.wav")
    torch.testing.assert_close(vectors[0], alone, atol=1e-5, rtol=1e-5)
    assert loaded.predict(tmp_path / "long.wav").views == 20
    assert APP.open(folder.parent / "run", ["--data.windows", "3"]).task.num_views == 3


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
        ("baseline/m6", {}, "no baseline named 'm6'; there are ast, bcresnet, m5, matchboxnet"),
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
        assert example["length"].tolist() == alone["length"].tolist() == [RATE] * 3
    with pytest.raises(ValueError, match="at least 1/2000 seconds, one sample; got 0.0001"):
        next(task.parts(tmp_path / "long.wav", 1e-4))


def test_a_filterbank_has_the_sample_rate_of_the_sounds(folder):
    bank = {"num_filters": 20, "hop_ms": 20.0}
    task = APP.task(build_recipe(folder, padding="mask", model_options={"options": {"filterbank": bank}}))
    task.prepare()
    model = task.build_model()
    assert model.encoder.params.filterbank == FilterbankParams(sample_rate=RATE, **bank)
    wrong = {"options": {"filterbank": {"sample_rate": 16_000}}}
    with pytest.raises(ValueError, match=rf"sample_rate is 16000, and data.sample_rate {RATE}; leave"):
        APP.task(build_recipe(folder, model_options=wrong)).build_model()


def test_the_stem_of_a_spectrogram_is_refused_for_a_waveform():
    with pytest.raises(ValueError, match=r"stem_strides \[2\] make a token of every 2 samples.* 4,000 of a clip"):
        AudioClassificationRecipe(model=ModelRecipe(stem_strides=[2]), data=AudioData(sample_rate=8000))
    AudioClassificationRecipe(model=ModelRecipe(stem_strides=[4, 2]), data=AudioData())
    AudioClassificationRecipe(model=ModelRecipe(stem_strides=[2], options={"filterbank": {}}), data=AudioData())
    AudioClassificationRecipe(model=ModelRecipe(stem_strides=[2]), data=AudioData(features="log_mel"))
