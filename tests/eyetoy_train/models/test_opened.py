import json
from pathlib import Path

import pytest

from eyetoy_train.models.opened import modality_of


def checkpoint(folder: Path, config: object, recipe: str | None) -> Path:
    best = folder / "checkpoints" / "best"
    best.mkdir(parents=True)
    (best / "model.safetensors").touch()
    if config is not None:
        (best / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if recipe is not None:
        (best / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("config", "recipe", "modality"),
    [
        ({"preprocessing": {"modality": "video"}}, None, "video"),
        ({"preprocessing": {"modality": "image"}}, "data: {sample_rate: 16000}", "image"),
        ({}, "data: {sample_rate: 16000}", "audio"),
        ({}, "data: {num_frames: 8}", "video"),
        ({"params": {}}, "data: {image_size: 8}", "image"),
        (None, "data: {image_size: 8}", "image"),
    ],
)
def test_a_checkpoint_tells_its_modality_and_an_older_one_by_its_recipe(config, recipe, modality, tmp_path):
    folder = checkpoint(tmp_path / "run", config, recipe)
    assert modality_of(folder) == modality
    assert modality_of(folder / "checkpoints" / "best") == modality


@pytest.mark.parametrize(
    ("config", "recipe", "kind", "said"),
    [
        (
            {"preprocessing": {"modality": "smell"}},
            "data: {image_size: 8}",
            ValueError,
            "modality must be image, audio or video; got 'smell'",
        ),
        ({}, None, FileNotFoundError, "no recipe.yaml"),
        ({}, "epochs: 3", ValueError, "has no part data"),
        ({}, "data: [", ValueError, "cannot read .*recipe.yaml"),
    ],
)
def test_a_checkpoint_of_no_modality_is_refused(config, recipe, kind, said, tmp_path):
    with pytest.raises(kind, match=said):
        modality_of(checkpoint(tmp_path / "run", config, recipe))


def test_without_a_checkpoint_there_is_no_modality(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        modality_of(tmp_path)
