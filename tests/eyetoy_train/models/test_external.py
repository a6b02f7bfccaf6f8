"""Families of other projects' models that are given by their address."""

from __future__ import annotations

import sys

import pytest

from eyetoy_train import ModelRecipe, build_classifier
from eyetoy_train.models.external import Family
from helpers.forks import FORKS

BUILDERS = """
from torch import nn

def build(name, arguments, grid, *, width=2):
    if name != "net":
        raise ValueError(f"no net named {name!r}")
    return nn.Linear(width, arguments["num_classes"])
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a package of builders, and one module that lacks what it imports."""
    folder = tmp_path / "far_models"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "nets.py").write_text(BUILDERS)
    (folder / "broken.py").write_text("import nowhere_to_be_found")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("far_models")]:
        del sys.modules[name]


@pytest.mark.usefixtures("package")
def test_a_family_is_imported_when_its_first_model_is_built():
    family = Family("far_models.nets:build", {"width": 7})
    assert "far_models.nets" not in sys.modules
    model = build_classifier(ModelRecipe(name="far/net"), num_classes=3, families={"far": family})
    assert model.model.weight.shape == (3, 7)
    with pytest.raises(ValueError, match="no net named 'nut'"):
        build_classifier(ModelRecipe(name="far/nut"), num_classes=3, families={"far": family})


def test_a_package_that_is_not_there_is_named():
    families = {"far": Family("far_models.nets:build")}
    message = "the model 'net' is built by far_models.nets:build, and the package far_models is not installed"
    with pytest.raises(ValueError, match=message):
        build_classifier(ModelRecipe(name="far/net"), num_classes=3, families=families)


@pytest.mark.usefixtures("package")
def test_what_a_package_itself_lacks_is_not_blamed_on_the_package():
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        Family("far_models.broken:build")("net", {}, None)


@pytest.mark.parametrize("task", ["eyetoy_audio.task", "eyetoy_image.classification.task", "eyetoy_video.task"])
def test_an_app_does_not_load_the_baselines_until_a_recipe_names_one(task):
    code = f"import sys, {task}; sys.exit('eyetoy_baselines' in sys.modules)"
    assert FORKS.run(["-c", code]).returncode == 0
