"""The included models: small, complete, found by name, and as good as their cards say."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from eyetoy_audio.app import APP as AUDIO
from eyetoy_audio.datasets.spoken_keywords import SPLITS, write_spoken_keywords
from eyetoy_image.app import app_of
from eyetoy_image.classification.datasets.digits import write_digits
from eyetoy_train.models.included import example_files, included_models, included_score, names_like
from eyetoy_train.models.opened import find_checkpoint
from eyetoy_video.app import APP as VIDEO
from eyetoy_video.datasets.moving_digits import write_moving_digits

APPS = {"digits": app_of("classification"), "spoken_keywords": AUDIO, "moving_digits": VIDEO}
MOST_BYTES = 2 * 2**20


def write_held_out(name: str, root: Path) -> None:
    """Write the held-out samples of a model's data: the same as those of the whole set."""
    if name == "digits":
        write_digits(root)
    elif name == "spoken_keywords":
        write_spoken_keywords(root, splits=[split for split in SPLITS if split.name == "test"])
    else:
        write_moving_digits(root, train=1, val=1)


@pytest.fixture(params=APPS)
def name(request) -> str:
    return request.param


def test_every_default_recipe_has_its_model():
    assert included_models().keys() == APPS.keys()


def test_a_model_is_small_and_complete(name):
    folder = included_models()[name]
    assert (folder / "model.safetensors").stat().st_size <= MOST_BYTES
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {torch.float16}
    labels = json.loads((folder / "labels.json").read_text())
    assert [file.stem for file in example_files(folder)] == sorted(labels)
    assert sum(file.stat().st_size for file in example_files(folder)) < 200_000
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert recipe["output_dir"] is None
    assert not Path(recipe["data"]["root"]).is_absolute()
    card = (folder / "README.md").read_text()
    for text in ("license: apache-2.0", "## Licence", "## Limits", "float16", f"eyetoy predict {name} FILE"):
        assert text in card
    score = included_score(folder)
    assert score is not None
    assert re.search(rf"\| accuracy \| .*\| {score.value:.2%} \(", card)
    assert f"| {score.count:,} |" in card


def test_the_card_has_the_score_of_the_weights_on_their_held_out_samples(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["validate"])
    write_held_out(name, tmp_path / "data")
    APPS[name].validate([name, "--data.root", str(tmp_path / "data"), "--output", str(tmp_path / "out")])
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    score = included_score(included_models()[name])
    assert found["split"] == "test"
    assert found["count"] == score.count
    # Another processor, or another version of torch, rounds otherwise, and may tip a sample or two.
    assert abs(found[score.name] - score.value) * score.count < 2.5


def test_a_name_that_is_no_path_means_an_included_model(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint(Path(name)) == included_models()[name]
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_checkpoint(Path("runs", name))  # a path, and not a name
    with pytest.raises(FileNotFoundError, match=f"did you mean the included model {name}"):
        find_checkpoint(Path(f"{name}s"))
    Path(name).mkdir()
    with pytest.raises(FileNotFoundError, match=f"{name} holds no checkpoint.*included model {name} is found from"):
        find_checkpoint(Path(name))


def test_a_name_like_no_other_is_told_all_of_them():
    assert names_like("zzz") == "the included models are digits, moving_digits, spoken_keywords"


def test_a_picture_is_classified_by_an_included_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["predict"])
    file = example_files(included_models()["digits"])[7]
    APPS["digits"].predict(["digits", str(file), "--top_k", "1"])
    assert f"{file}  7 " in capsys.readouterr().out


def test_an_export_does_not_hide_the_included_model(tmp_path, monkeypatch):
    """A folder digits in this one would mean itself from then on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["export"])
    APPS["digits"].export(["digits", "--format", "pt2"])
    assert (tmp_path / "digits-exported" / "model.pt2").is_file()
    assert find_checkpoint(Path("digits")) == included_models()["digits"]
