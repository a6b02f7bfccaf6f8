"""Every shipped recipe says what it takes and gives, is read by its app, and trains for two steps on its own data.

Its data are small. A classifier of more than ten million parameters is built and called without memory, on pictures,
clips and sounds of the recipe's size; the smallest of its family then takes its place in the two steps.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pickle  # noqa: TID251 (its own bytes)
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from torch import device, empty
from torchvision import datasets

from eyetoy import create_model
from eyetoy_audio.datasets.spoken_keywords import Split, write_spoken_keywords
from eyetoy_image.app import APP as IMAGE
from eyetoy_image.classification.datasets import torchvision_sets
from eyetoy_image.classification.datasets.digits import write_digits
from eyetoy_image.dense.composed import write_composed_digits
from eyetoy_train import build_classifier, parse_recipe, train
from eyetoy_train.checkpoint import atomic
from eyetoy_video.datasets.moving_digits import write_moving_digits
from helpers.paths import REPOSITORY

pytestmark = pytest.mark.first

APPS = {
    "image": "eyetoy_image.app",
    "audio": "eyetoy_audio.app",
    "video": "eyetoy_video.app",
}
RECIPES = sorted(REPOSITORY.glob("apps/*/src/*/configs/*.yaml"))
MOST_PIXELS = 64
"""Larger pictures are trained on at this size: to try a recipe out on two cores."""
MOST_SECONDS = 1.0
LARGE = re.compile("(?<=^eyetoy[123]d_)(tiny|small|base|preliminary_35m)$")
each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: "/".join(path.parts[-3::2]))


def write_fashion_mnist(root: Path) -> None:
    """The format of the real one, with a hundredth of its pictures."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for prefix, count in (("train", 600), ("t10k", 100)):
        pixels = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, count, dtype=np.uint8)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())


def write_keywords(root: Path) -> None:
    splits = [Split(name, (voice,), clips=2) for name, voice in (("train", "f1"), ("val", "f2"), ("test", "m2"))]
    write_spoken_keywords(root, splits=splits)


def write_cifar(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small set in CIFAR's format, whose MD5 sums torchvision is told."""
    loader = getattr(datasets, name)
    names = [str(i) for i in range(10)]
    generator = np.random.default_rng(0)
    folder = root / loader.base_folder
    folder.mkdir(parents=True)
    lists = {"train_list": ("train", 120), "test_list": ("test", 20)}
    for attribute, (file, count) in lists.items():
        labels = generator.integers(0, 10, count).tolist()
        pixels = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
        (folder / file).write_bytes(pickle.dumps({"data": pixels, "labels": labels}))
        monkeypatch.setattr(loader, attribute, [[file, None]])
    (folder / "meta").write_bytes(pickle.dumps({"names": names}))
    monkeypatch.setattr(loader, "meta", {"filename": "meta", "key": "names", "md5": None})


def write_pictures(root: Path, *folders: str, count: int) -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.new("RGB", (40, 30), (index, 0, 0)).save(root / folder / f"{index:04d}.jpg")


def write_own(root: Path) -> None:
    write_pictures(root, "cat", "dog", count=20)


def write_own_boxes(root: Path) -> None:
    """Text files of YOLO's format beside pictures, without splits."""
    write_pictures(root, ".", count=20)
    for path in root.glob("*.jpg"):
        path.with_suffix(".txt").write_text("0 0.5 0.5 0.4 0.6\n1 0.2 0.3 0.2 0.2\n")


def write_own_maps(root: Path) -> None:
    """Label maps of two classes, without splits."""
    write_pictures(root, "images", count=20)
    (root / "maps").mkdir()
    for path in (root / "images").iterdir():
        Image.fromarray(np.arange(40, dtype=np.uint8)[None].repeat(30, 0) // 20).save(
            root / "maps" / f"{path.stem}.png"
        )


def write_imagenet(root: Path) -> None:
    write_pictures(root, "train/n01440764", "train/n01443537", count=12)
    write_pictures(root, "val/n01440764", "val/n01443537", count=3)


def write_caltech(root: Path) -> None:
    write_pictures(root / "caltech256" / "256_ObjectCategories", "001.ak47", "002.american-flag", count=75)


def write_composed(root: Path) -> None:
    write_composed_digits(root, train=9, val=2, test=2, size=64)


def write_coco(root: Path) -> None:
    write_composed(root)
    (root / "test").rename(root / "not_used")
    for split in ("train", "val"):
        (root / split).rename(root / f"{split}2017")
        name = f"instances_{split}"
        (root / "annotations" / f"{name}.json").rename(root / "annotations" / f"{name}2017.json")


def write_ade20k(root: Path) -> None:
    write_composed(root / "composed")
    for kind in ("images", "annotations"):
        for split, name in (("train", "training"), ("val", "validation")):
            source = root / "composed" / ("maps" if kind == "annotations" else "") / split
            shutil.copytree(source, root / "ADEChallengeData2016" / kind / name)


def write_sounds(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(np.arange(8000) * (1 + number) / 20)
        soundfile.write(folder / name, tone, 16_000)


def write_speech_commands(root: Path) -> None:
    folder = root / "SpeechCommands" / "speech_commands_v0.02"
    clips = {
        split: [f"{word}/{speaker}{i}_nohash_0.wav" for word in ("yes", "no") for i in range(6)]
        for split, speaker in (("training", "a"), ("validation", "b"), ("testing", "c"))
    }
    write_sounds(folder, *clips["training"], *clips["validation"], *clips["testing"], "_background_noise_/hum.wav")
    for split in ("validation", "testing"):
        (folder / f"{split}_list.txt").write_text("\n".join(clips[split]))


def write_own_sounds(root: Path) -> None:
    write_sounds(root, *(f"{name}/{i}.wav" for name in ("dog", "rain") for i in range(20)))


def write_esc50(root: Path) -> None:
    rows = [
        (f"{fold}-{i}-A-{i % 2}.wav", fold, i % 2, ("dog", "rain")[i % 2]) for fold in range(1, 6) for i in range(4)
    ]
    write_sounds(root / "ESC-50-master" / "audio", *(row[0] for row in rows))
    (root / "ESC-50-master" / "meta").mkdir()
    lines = ["filename,fold,target,category", *(",".join(map(str, row)) for row in rows)]
    (root / "ESC-50-master" / "meta" / "esc50.csv").write_text("\n".join(lines))


def write_tagged(root: Path) -> None:
    for split in ("train", "val"):
        names = [f"{split}/{number}.wav" for number in range(8)]
        write_sounds(root, *names)
        (root / f"{split}.csv").write_text("\n".join(["file,labels", *(f"{name},dog;rain" for name in names)]))


def write_clips(root: Path, *names: str) -> None:
    """Copies of one clip."""
    write_moving_digits(root / "digits", train=1, val=1, test=1, num_frames=16, size=32)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "digits" / "train" / "left" / "00000.mp4", root / name)
    shutil.rmtree(root / "digits")


def write_own_clips(root: Path) -> None:
    write_clips(root, *(f"{name}/{i}.mp4" for name in ("jump", "run") for i in range(10)))


def write_kinetics(root: Path) -> None:
    write_clips(root, *(f"{split}/{name}/{i}.mp4" for split in ("train", "val") for name in "ab" for i in range(4)))


def write_ucf101(root: Path) -> None:
    clips = [f"{name}/v_{name}_g{group:02d}_c01.avi" for group in range(1, 7) for name in "ab"]
    write_clips(root / "UCF-101", *clips)
    (root / "ucfTrainTestlist").mkdir()
    for split, listed in (("test", clips[:2]), ("train", clips[2:])):
        (root / "ucfTrainTestlist" / f"{split}list01.txt").write_text("\n".join(listed))


def write_hmdb51(root: Path) -> None:
    (root / "testTrainMulti_7030_splits").mkdir(parents=True)
    for name in "ab":
        clips = [f"film{i}_{name}_u_nm_np1_ba_goo_{i}.avi" for i in range(6)]
        write_clips(root / name, *clips)
        lines = "\n".join(f"{clip} {1 + (i == 0)}" for i, clip in enumerate(clips))
        (root / "testTrainMulti_7030_splits" / f"{name}_test_split1.txt").write_text(lines)


def write_something_something(root: Path) -> None:
    write_clips(root / "20bn-something-something-v2", *(f"{i}.webm" for i in range(8)))
    clips = [{"id": str(i), "template": f"Moving [something] {'up' if i % 2 else 'down'}"} for i in range(8)]
    labels = {"Moving something up": "0", "Moving something down": "1"}
    for name, table in {"labels": labels, "train": clips[:6], "validation": clips[6:]}.items():
        (root / f"{name}.json").write_text(json.dumps(table))


WRITE = {
    "digits": write_digits,
    "folder": write_own,
    "own_detection": write_own_boxes,
    "own_sounds": write_own_sounds,
    "own_sounds_waveform": write_own_sounds,
    "own_segmentation": write_own_maps,
    "own_clips": write_own_clips,
    "imagenet": write_imagenet,
    "caltech256": write_caltech,
    "composed_digits": write_composed,
    "ade20k": write_ade20k,
    "fashion_mnist": write_fashion_mnist,
    "spoken_keywords": write_keywords,
    "speech_commands": write_speech_commands,
    "esc50": write_esc50,
    "tagged": write_tagged,
    "kinetics": write_kinetics,
    "ucf101": write_ucf101,
    "hmdb51": write_hmdb51,
    "something_something": write_something_something,
    "coco2017": write_coco,
    "moving_digits": lambda root: write_moving_digits(root, train=2, val=1, test=1, num_frames=16),
}


def app_of(path: Path):
    if path.parts[-5] == "image":
        return IMAGE.of_recipe(["--config", str(path)])
    return importlib.import_module(APPS[path.parts[-5]]).APP


def test_there_are_recipes_for_every_app():
    assert {path.parts[-5] for path in RECIPES} == set(APPS)


@each_recipe
def test_its_head_gives_command_needs_time_and_score(path):
    head = path.read_text(encoding="utf-8").splitlines()[:4]
    assert re.fullmatch(rf"# eyetoy train {path.parts[-5]}( --config {path.stem})?", head[0])
    for line, name in zip(head[1:], ("Needs", "Time", "Score"), strict=True):
        assert re.fullmatch(rf"# {name}: .+\.", line)
    assert all(re.search(r"\d|not run", line) for line in head[2:])


def call_without_memory(app, recipe) -> None:
    task = app.task(recipe)
    shape = {"num_classes": 3, "in_channels": task.in_channels, "grid": task.grid}
    model_recipe = dataclasses.replace(recipe.model, weights=None)
    with device("meta"):
        model = build_classifier(model_recipe, **shape, families=task.families).eval()
        assert sum(parameter.numel() for parameter in model.parameters()) > 1e7
        assert model(empty(2, model.encoder.params.in_channels, *task.grid)).shape == (2, 3)


@each_recipe
def test_it_trains_for_two_steps(path, tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision_sets, "NUM_VAL", 20)
    monkeypatch.setattr(atomic, "_digest", lambda path: str(path.stat().st_size))  # a fifth of the time
    torchvision_sets._open.cache_clear()
    app, data = app_of(path), tmp_path / "data"
    arguments = ["--config", str(path), "--data.root", str(data), "--output_dir", str(tmp_path / "run")]
    arguments += ["--max_steps", "2", "--batch_size", "4", "--num_workers", "0", "--mixed_precision", "no"]
    recipe = parse_recipe(app.recipe, path, arguments)
    if LARGE.search(recipe.model.name) and getattr(recipe, "task", "classification") == "classification":
        call_without_memory(app, recipe)
        recipe.model.name = LARGE.sub("pico", recipe.model.name)
    if getattr(recipe.data, "image_size", 0) > MOST_PIXELS:
        recipe.data.image_size = MOST_PIXELS
    if path.parts[-5] == "video":
        size = min(recipe.data.transform.size, MOST_PIXELS // 2)
        recipe.data.transform = dataclasses.replace(recipe.data.transform, size=size)
    if getattr(recipe, "task", "") == "detection":
        recipe.data.short_side = recipe.data.long_side = MOST_PIXELS
        recipe.data.augmentation.short_sides = [MOST_PIXELS]
        recipe.detector.proposals_train = recipe.detector.proposals_eval = recipe.detector.roi_samples = 16
        recipe.detector.max_detections = 8
    if getattr(recipe.data, "seconds", 0) > MOST_SECONDS:
        recipe.data.seconds = MOST_SECONDS
    if getattr(recipe, "task", "") == "segmentation":
        recipe.data.short_side = recipe.data.long_side = None
        recipe.data.augmentation.crop_size = MOST_PIXELS
        recipe.segmenter.channels = min(recipe.segmenter.channels, MOST_PIXELS)
    assert recipe.name == path.stem.replace("_", "-")
    if recipe.model.weights:
        create_model(recipe.model.name, num_classes=3).save_pretrained(tmp_path / "weights")
        recipe.model.weights = str(tmp_path / "weights")
    if recipe.data.source.startswith("cifar"):
        write_cifar(recipe.data.source.upper(), data, monkeypatch)
    else:
        WRITE[path.stem if path.stem in WRITE else recipe.data.source](data)
    results = train(app.task(recipe), recipe)
    assert results["stability"]["steps"] == 2
    assert (tmp_path / "run" / "report.html").exists()
