"""Every shipped recipe says what it takes and gives, is read by its app, and trains for two steps on its own data."""

from __future__ import annotations

import importlib
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState

from eyetoy_audio.spoken_keywords import Split, write_spoken_keywords
from eyetoy_image.classification import fashion_mnist
from eyetoy_image.classification.digits import write_digits
from eyetoy_train import parse_recipe, train
from eyetoy_video.moving_digits import write_moving_digits

REPOSITORY = Path(__file__).parents[2]
APPS = {
    "image": "eyetoy_image.classification",
    "audio": "eyetoy_audio.classification",
    "video": "eyetoy_video.classification",
}
RECIPES = sorted(REPOSITORY.glob("apps/*/configs/*.yaml"))
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


WRITE = {
    "digits": write_digits,
    "fashion_mnist": write_fashion_mnist,
    "spoken_keywords": write_keywords,
    "moving_digits": lambda root: write_moving_digits(root, train=2, val=1, test=1, num_frames=16),
}


@pytest.fixture(autouse=True)
def fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def app_of(path: Path):
    return importlib.import_module(APPS[path.parts[-3]]).APP


def test_there_are_recipes_for_every_app():
    assert {path.parts[-3] for path in RECIPES} == set(APPS)


@each_recipe
def test_its_head_gives_command_needs_time_and_score(path):
    head = path.read_text(encoding="utf-8").splitlines()[:4]
    assert re.fullmatch(
        rf"# accelerate launch apps/{path.parts[-3]}/train\.py( --config {path.relative_to(REPOSITORY)})?", head[0]
    )
    for line, name in zip(head[1:], ("Needs", "Time", "Score"), strict=True):
        assert re.fullmatch(rf"# {name}: .+\.", line)
    assert all(re.search(r"\d|not run", line) for line in head[2:])


@each_recipe
def test_it_trains_for_two_steps(path, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "NUM_VAL", 100)
    app, data = app_of(path), tmp_path / "data"
    arguments = ["--config", str(path), "--data.root", str(data), "--output_dir", str(tmp_path / "run")]
    recipe = parse_recipe(app.recipe, path, [*arguments, "--max_steps", "2", "--batch_size", "8"])
    assert recipe.name == path.stem.replace("_", "-")
    WRITE[recipe.data.source](data)
    results = train(app.task(recipe), recipe)
    assert results["stability"]["steps"] == 2
    assert (tmp_path / "run" / "report.html").exists()
