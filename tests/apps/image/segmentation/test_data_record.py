"""Runs on label maps notice that their data have changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from eyetoy_image.app import app_of
from eyetoy_train import parse_recipe
from eyetoy_train.checkpoint.run_folder import RunFolder
from eyetoy_train.engine.data_record import data_changes, refuse_other_data, write_data_record
from helpers.paths import config


def segmentation(root: Path):
    app = app_of("segmentation")
    recipe = parse_recipe(app.recipe, config("image", "own_segmentation"), ["--data.root", str(root)])
    task = app.task(recipe)
    task.prepare()
    return task


@pytest.fixture
def maps(tmp_path) -> Path:
    """Ten pictures with label maps of two classes, without splits."""
    for number in range(10):
        for folder in ("images", "maps"):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            picture = Image.new("L", (32, 32), 0)
            picture.paste(1, (0, 0, 16, 32))
            picture.save(tmp_path / "set" / folder / f"{number}.png")
    return tmp_path / "set"


def test_a_changed_name_of_a_picture_is_noticed(maps, tmp_path):
    run = RunFolder(tmp_path)
    write_data_record(run, segmentation(maps))
    assert data_changes(run.data, segmentation(maps)) == []
    held_out = segmentation(maps).dataset("val").pictures[0].path
    for folder in ("images", "maps"):
        shutil.move(maps / folder / held_out.name, maps / folder / "new.png")
    (change, *_) = data_changes(run.data, segmentation(maps))
    assert "has other files" in change
    with pytest.raises(ValueError, match="its data have changed since it began"):
        refuse_other_data(run, segmentation(maps))


def test_a_run_of_an_older_version_without_a_digest_goes_on(maps, tmp_path):
    run = RunFolder(tmp_path)
    write_data_record(run, segmentation(maps))
    record = json.loads(run.data.read_text())
    for split in record["splits"].values():
        split["digest"] = None
    run.data.write_text(json.dumps(record))
    refuse_other_data(run, segmentation(maps))
